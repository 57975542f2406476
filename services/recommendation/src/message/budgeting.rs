//! Budgets counted by time, as they are sent.

use attain_attainment::{Ambition, Budgeting, BudgetingMethod, SLICE_MINUTES, SLICE_TARGET};
use attain_proto::recommendation::v1 as wire;

/// One way to count.
pub(crate) fn budgeting(budgeting: &Budgeting) -> wire::Budgeting {
    let offer = |ambition: Ambition| {
        let found = budgeting.offers.iter().find(|offer| offer.ambition == ambition)?;
        Some(wire::SliceOffer { target_ratio: found.target_ratio, miss_probability: found.miss_probability })
    };
    let (method, slice_target_ratio) = match budgeting.method {
        BudgetingMethod::Timeslices => (wire::BudgetingMethod::Timeslices, SLICE_TARGET),
        BudgetingMethod::RatioTimeslices => (wire::BudgetingMethod::RatioTimeslices, 0.0),
    };
    let [conservative, balanced, ambitious] = Ambition::ALL.map(offer);
    wire::Budgeting {
        method: method as i32,
        slice_target_ratio,
        slice_minutes: SLICE_MINUTES,
        slice_count: budgeting.slice_count,
        quiet_slice_count: budgeting.quiet_slice_count,
        quiet_slices_good: budgeting.quiet_slices_good,
        attained_ratio: budgeting.attained_ratio,
        conservative,
        balanced,
        ambitious,
        offer_note: budgeting.offer_note.clone(),
    }
}
