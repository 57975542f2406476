//! Whether the sentence that a person would point at is among the few that are said: questions on the demo's documents with what
//! their answers have to say, written down from the documents before any of them was asked.

use attain_proto::rag::v1 as wire;
use attain_rag::LanguageModelConfig;

use crate::{QUESTION, question, start};

/// Most of the parts below that may be missing, by how many sentences an answer may have.
const MISSING_MAX: [(u32, usize); 3] = [(3, 11), (5, 9), (8, 8)];

/// A question, and parts of the sentences that answer it; where several are named, it asks for each of them.
const EXPECTED: &[(&str, &[&str])] = &[
    (QUESTION, &["the circuit breaker should open by itself", "Turn on deferred capture if the outage"]),
    ("logs say sorry, too many clients already after scaling out", &["bring pods × pool size under 170"]),
    ("how many database connections should each pod be allowed to open", &["a pool of 10 a pod is generous"]),
    ("freshly started pods cannot find any host while the old ones are fine", &["New connections fail while old"]),
    ("database works again yet sign-in still fails, pool holds dead sockets", &["its pools hold dead connections"]),
    ("everybody buys the same popular article and reservations time out", &["turn on the split counter"]),
    ("how to fix a gateway certificate whose renewal is stuck", &["delete the failed request object"]),
    ("may we still deploy features when there is no budget left", &["reliability work comes before features"]),
    ("half of our budget was eaten by a supplier, does the freeze bind us too", &["the freeze does not apply"]),
    ("one scraper sends far more traffic than everybody else together", &["Tighten one caller"]),
    ("how to stop a retry storm", &["Turn retries off at the outermost layer"]),
    ("which failures may be retried", &["Retry only what may succeed"]),
    ("how to roll back a wrong configuration of the gateway", &["Roll back to the last good version"]),
    ("how to mitigate a stampede of the product cache", &["Serve stale"]),
    ("is a card that the bank refuses an error of ours", &["A declined card is not a failure"]),
    ("promote the standby of the user database by hand", &["promote by hand"]),
    ("metrics of a service disappeared, is that an outage or a scrape problem", &["Scrape broken"]),
    ("why was the fallback pilot stopped, customers had money blocked twice", &["authorised 41 orders twice"]),
    ("probes after the pause must all succeed before calls flow again", &["probes when half-open"]),
    ("what does PaymentDeferredExposureHigh mean", &["pages at 80 % of the exposure cap"]),
    (
        "how to mitigate slow answers of the payment provider: timeouts and deferred capture",
        &["lower the provider timeout to 1 s", "Turn on deferred capture when more than 10 %"],
    ),
    ("how to mitigate overloaded resolvers when DNS resolution fails", &["Resolvers overloaded"]),
    ("impact of an open circuit breaker with deferred capture on", &["about 90 % of orders go through"]),
    ("cause of the outage of the payment provider on 27 October 2026", &["lost a database cluster"]),
    ("two transactions block one another in the stock database", &["One old blocker"]),
    (
        "how to handle a hot article and the stock import during lock contention",
        &["turn on the split counter", "Suspend the stock import"],
    ),
];

#[tokio::test]
#[allow(clippy::print_stdout)]
async fn what_a_person_would_point_at_is_said_in_few_sentences() {
    let service = start(LanguageModelConfig::default()).await;
    for (limit, missing_max) in MISSING_MAX {
        let (mut asked, mut missing) = (0, Vec::new());
        for (text, parts) in EXPECTED {
            let answer = service.ask(wire::AnswerQuestionRequest { limit, ..question(text) }).await.unwrap();
            asked += parts.len();
            let is_said = |part: &&&str| answer.sentences.iter().any(|sentence| sentence.text.contains(**part));
            missing.extend(parts.iter().filter(|part| !is_said(part)).map(|part| (*text, *part)));
        }
        println!("{} of {asked} said in {limit} sentences", asked - missing.len());
        assert!(missing.len() <= missing_max, "{limit} sentences: {} are missing: {missing:#?}", missing.len());
    }
    service.stop().await;
}
