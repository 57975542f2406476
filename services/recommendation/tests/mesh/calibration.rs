//! How often offers are missed: back-tests with every answer, and what became of offers whose window has closed.

use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{EntityKind, SliKind, Tier};
use attain_vocabulary::DAY_MS;

use crate::harness::{Mesh, PATIENCE, fault};
use crate::world::NOW_MS;

const WEEK_MS: i64 = 7 * DAY_MS;
/// Windows are judged an hour after they closed.
const JUDGED_MS: i64 = NOW_MS + WEEK_MS + 2 * 3_600_000;

async fn weekly(mesh: &Mesh, service_id: &str) -> wire::Recommendation {
    let request = wire::GetSloRecommendationsRequest {
        service_id: service_id.into(),
        window_days: 7,
        ..wire::GetSloRecommendationsRequest::default()
    };
    mesh.client.clone().get_slo_recommendations(request).await.unwrap().into_inner().recommendation.unwrap()
}

async fn published(mesh: &Mesh, tier: Tier) -> Vec<wire::CalibrationClass> {
    let request = wire::GetCalibrationRequest { tier: tier as i32, kind: EntityKind::Service as i32 };
    mesh.client.clone().get_calibration(request).await.unwrap().into_inner().classes
}

async fn availability(mesh: &Mesh, tier: Tier) -> wire::CalibrationClass {
    let classes = published(mesh, tier).await;
    classes.into_iter().find(|class| class.sli_kind == SliKind::Availability as i32).unwrap()
}

fn counts(records: &wire::OfferRecords) -> [(u64, u64); 3] {
    [&records.conservative, &records.balanced, &records.ambitious].map(|record| {
        let record = record.as_ref().unwrap();
        (record.forecast_count, record.missed_count)
    })
}

#[tokio::test]
async fn a_back_test_comes_with_the_answer_and_counts_for_the_class() {
    let mesh = Mesh::start().await;
    assert_eq!(published(&mesh, Tier::Tier2).await, []);
    let first = weekly(&mesh, "checkout").await;
    let backtest = first.slis[0].backtest.unwrap();
    assert_eq!((backtest.window_days, backtest.step_days), (7.0, 7.0));
    assert_eq!(counts(backtest.offers.as_ref().unwrap()).map(|(count, _)| count), [2; 3]);
    assert_eq!(first.slis[0].class_record, None, "nobody else of its class was looked at");
    let part = first.confidence.unwrap().parts.into_iter().find(|part| part.name == "backtest").unwrap();
    assert!(part.detail.contains("of 2 windows"), "{}", part.detail);

    let second = weekly(&mesh, "payment").await;
    assert_eq!(second.slis[0].class_record, backtest.offers.unwrap().balanced, "the class is the other service");
    let class = availability(&mesh, Tier::Tier2).await;
    assert_eq!((class.backtest_service_count, class.lived_service_count, class.window_days), (2, 0, 7));
    let balanced = class.backtest.unwrap().balanced.unwrap();
    assert_eq!(balanced.forecast_count, 4);
    let (low, met, high) = (balanced.met_ratio_low(), balanced.met_ratio(), balanced.met_ratio_high());
    assert!((0.0..=met).contains(&low) && (met..=1.0).contains(&high), "{low} {met} {high}");
    assert_eq!((class.open_count, class.lived), (6, None));
    assert_eq!(published(&mesh, Tier::Tier4).await, []);

    // What others do makes no second version of what was computed.
    assert_eq!(weekly(&mesh, "checkout").await, weekly(&mesh, "checkout").await);
    let replay = wire::ReplayRecommendationRequest { recommendation_id: second.id };
    assert!(mesh.client.clone().replay_recommendation(replay).await.unwrap().into_inner().identical);
}

#[tokio::test]
async fn an_offer_is_held_against_its_window_once_that_has_closed() {
    let mut mesh = Mesh::start().await;
    weekly(&mesh, "checkout").await;
    weekly(&mesh, "payment").await;
    weekly(&mesh, "auth").await;
    mesh.world.go_on("checkout", 8, 0.5);
    mesh.world.go_on("payment", 8, 0.0);
    mesh.clock.set(JUDGED_MS);

    weekly(&mesh, "checkout").await;
    let class = availability(&mesh, Tier::Tier2).await;
    assert_eq!(counts(class.lived.as_ref().unwrap()), [(1, 1); 3], "half of its requests failed");
    assert_eq!(class.lived_service_count, 1);

    // The other two are found without anybody asking: by the sweep that begins with the process.
    mesh.restart().await;
    let swept = async {
        loop {
            let class = availability(&mesh, Tier::Tier2).await;
            if class.lived_service_count == 2 {
                return class;
            }
        }
    };
    let class = tokio::time::timeout(PATIENCE, swept).await.expect("the sweep gets there");
    assert_eq!(counts(class.lived.as_ref().unwrap()), [(2, 1); 3], "nothing failed at payment");
    let swept = async {
        loop {
            let class = availability(&mesh, Tier::Tier1).await;
            if class.open_count == 0 {
                return class;
            }
        }
    };
    let class = tokio::time::timeout(PATIENCE, swept).await.expect("the sweep gets there");
    assert_eq!((class.unjudged_count, class.lived), (3, None), "nothing was measured at auth");
}

#[tokio::test]
async fn an_unknown_word_is_refused() {
    let mesh = Mesh::start().await;
    let request = wire::GetCalibrationRequest { tier: 99, kind: 0 };
    let refused = mesh.client.clone().get_calibration(request).await.unwrap_err();
    assert_eq!(fault(&refused), ("tier".to_owned(), "unknown_value".to_owned()));
}
