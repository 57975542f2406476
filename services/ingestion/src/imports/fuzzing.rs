use super::{Format, Reading, Signatures, read, signature::Headers};
use crate::domain::BucketLimits;

const NOW_MS: i64 = 1_793_000_000_000;

/// A document of another tool; the first byte picks the format.
pub fn import(bytes: &[u8]) {
    let Some((first, document)) = bytes.split_first() else { return };
    let (format, _) = Format::ALL[usize::from(*first) % Format::ALL.len()];
    let reading = Reading {
        limits: BucketLimits { now_ms: NOW_MS, future_skew_ms: 300_000, age_days_max: 40_000 },
        rows_max: 1_000,
        service_fields: vec!["service".to_owned()],
        start_ms: Some(NOW_MS - 86_400_000),
        end_ms: Some(NOW_MS),
        sender: crate::domain::IncidentSender::default(),
    };
    if let Ok(contents) = read(format, document, &reading) {
        let listed = contents.rejected.count();
        assert!(contents.rejected.list().len() <= listed.min(1_001));
    }
}

/// The headers that say who sent a webhook, one a line. Nobody here knows a secret, so none is believed.
pub fn webhook_signature(text: &str) {
    let headers: Headers =
        text.lines().filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let signatures = Signatures::of(b"a secret that is not in any seed");
    for (format, _) in Format::ALL.into_iter().take(3) {
        assert!(signatures.check(format, &headers, b"{}", NOW_MS).is_err());
    }
}
