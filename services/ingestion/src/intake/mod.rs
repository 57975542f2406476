//! What becomes of a batch: each row is checked by itself, bad ones are refused with their place and reason, the others are
//! kept in one transaction.

mod buckets;
mod decisions;
mod dependencies;
mod incidents;
mod utilisation;

use attain_vocabulary::InvalidValue;

pub(crate) use buckets::keep_buckets;
pub(crate) use decisions::{decide_exclusion, delete_window, end_window, link_services, put_window};
pub(crate) use dependencies::{DependencyRows, ServiceRow, keep_dependencies};
pub(crate) use incidents::{keep_incidents, moving_exclusions};
pub(crate) use utilisation::keep_utilisation;

use crate::Error;

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The list of the request that holds it.
    pub(crate) list: &'static str,
    /// Its place there.
    pub(crate) index: usize,
    /// What is wrong with it.
    pub(crate) invalid: InvalidValue,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Intake {
    /// Rows kept.
    pub(crate) accepted_count: usize,
    /// Rows refused.
    pub(crate) refused: Vec<Refused>,
}

/// Parts rows that were decoded from those that were not.
fn sorted<T>(list: &'static str, rows: Vec<Result<T, InvalidValue>>, refused: &mut Vec<Refused>) -> Vec<(usize, T)> {
    let mut kept = Vec::with_capacity(rows.len());
    for (index, row) in rows.into_iter().enumerate() {
        match row {
            Ok(row) => kept.push((index, row)),
            Err(invalid) => refused.push(Refused { list, index, invalid }),
        }
    }
    kept
}

/// The rows that were decoded, where their places do not matter; in the memory that they came in.
fn kept<T>(list: &'static str, rows: Vec<Result<T, InvalidValue>>, refused: &mut Vec<Refused>) -> Vec<T> {
    let kept = rows
        .into_iter()
        .enumerate()
        .filter_map(|(index, row)| row.map_err(|invalid| refused.push(Refused { list, index, invalid })).ok());
    kept.collect()
}

/// Refuses a request of too many rows as a whole.
pub(crate) fn bounded(list: &'static str, length: usize, max: usize) -> Result<(), Error> {
    if length > max {
        return Err(Error::invalid(list, "too_many", format!("{length} rows; at most {max} a request")));
    }
    Ok(())
}
