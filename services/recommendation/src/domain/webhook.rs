//! What other systems are told, how it is signed, when it is sent again, and where it may go. Signatures are those of
//! Standard Webhooks (<https://www.standardwebhooks.com>), version 1 of its symmetric scheme.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attain_vocabulary::{TenantId, UnixMillis};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use super::audit::Record;

/// Bytes of a secret, as Standard Webhooks advises: between 24 and 64.
pub(crate) const SECRET_BYTES: usize = 32;
const SECRET_PREFIX: &str = "whsec_";
const EVENT_PREFIX: &str = "evt-";

/// What endpoints can be told of: actions of the audit log.
pub(crate) const EVENT_TYPES: [&str; 11] = [
    "recommendation.created",
    "slo.accepted",
    "slo.modified",
    "slo.rejected",
    "slo.declared",
    "slo.renewal_offered",
    "decision.proposed",
    "decision.refused",
    "decision.withdrawn",
    "decision.expired",
    "policy.set",
];

/// Whether an action of the audit log is told of.
pub(crate) fn is_event(action: &str) -> bool {
    EVENT_TYPES.contains(&action)
}

/// Name of an event: the same at each attempt and for each endpoint.
pub(crate) fn event_id(tenant: &TenantId, sequence: u64) -> String {
    format!("{EVENT_PREFIX}{tenant}-{sequence}")
}

/// Position in the audit log of an event of the tenant.
pub(crate) fn event_sequence(tenant: &TenantId, id: &str) -> Option<u64> {
    let sequence = id.strip_prefix(EVENT_PREFIX)?.strip_prefix(tenant.as_str())?.strip_prefix('-')?;
    sequence.parse().ok().filter(|number| event_id(tenant, *number) == id)
}

/// The body that tells of an audit record.
pub(crate) fn body(tenant: &TenantId, record: &Record) -> String {
    let entry = &record.entry;
    let time = jiff::Timestamp::from_millisecond(entry.time_ms).unwrap_or_default();
    let detail: serde_json::Value = serde_json::from_str(&entry.detail_json).unwrap_or_default();
    serde_json::json!({
        "type": entry.action,
        "timestamp": time.to_string(),
        "data": {
            "tenant": tenant.as_str(),
            "sequence": record.sequence,
            "service_id": entry.service_id,
            "caller": entry.caller,
            "detail": detail,
            "audit_sha256": record.sha256,
        },
    })
    .to_string()
}

/// A secret as it is handed out once.
pub(crate) fn secret_text(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(secret))
}

/// The header `webhook-signature`: one signature for each secret, the newest first.
pub(crate) fn signatures(secrets: &[&[u8]], id: &str, timestamp_seconds: i64, body: &str) -> String {
    let sign = |secret: &&[u8]| {
        // Any length of key is one for HMAC.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        for part in [id, ".", &timestamp_seconds.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    secrets.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
}

/// When a message is sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first_ms: UnixMillis,
    pub(crate) max_ms: UnixMillis,
    pub(crate) attempts_max: u32,
}

impl Backoff {
    /// Milliseconds to wait after the `failed`-th failure, from 1; `None` to give up. It doubles up to the longest wait,
    /// and is shortened by up to a half so that messages that failed together do not come back together. The same `seed`
    /// gives the same wait.
    pub(crate) fn wait_ms(&self, failed: u32, seed: &str) -> Option<UnixMillis> {
        if failed >= self.attempts_max {
            return None;
        }
        let doublings = failed.saturating_sub(1).min(40);
        let full = self.first_ms.saturating_mul(1 << doublings).min(self.max_ms).max(1);
        let digest = Sha256::digest(format!("{seed}\n{failed}").as_bytes());
        let random = digest.iter().take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let share = 0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        Some(((full as f64 * share).round() as UnixMillis).max(1))
    }
}

/// Whether an address belongs to the public internet: none that the IANA registries of special-purpose addresses (RFC 6890
/// and what was added since) call private, shared, local or reserved, nor one that embeds such an IPv4 address.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const SPECIAL: [(Ipv4Addr, u32); 16] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 0, 0, 0), 24),
        (Ipv4Addr::new(192, 0, 2, 0), 24),
        (Ipv4Addr::new(192, 31, 196, 0), 24),
        (Ipv4Addr::new(192, 52, 193, 0), 24),
        (Ipv4Addr::new(192, 88, 99, 0), 24),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(198, 18, 0, 0), 15),
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        // Multicast, reserved and broadcast.
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    let bits = address.to_bits();
    SPECIAL.iter().all(|(network, length)| (bits ^ network.to_bits()) >> (32 - length) != 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, ..] = segments;
    let embedded = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        // Translated by NAT64: the IPv4 address is at the end.
        (0x64, 0xff9b) => segments[2..6] == [0; 4] && is_public_v4(embedded(segments[6], segments[7])),
        // Protocol assignments, Teredo, benchmarking, ORCHID; documentation.
        (0x2001, 0x0000..=0x01ff | 0x0db8) => false,
        // 6to4: the IPv4 address follows the prefix.
        (0x2002, _) => is_public_v4(embedded(b, segments[2])),
        // Documentation.
        (0x3fff, 0x0000..=0x0fff) => false,
        // Of what is left only 2000::/3 was ever given out as global unicast.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Entry, GENESIS_SHA256};
    use proptest::prelude::*;

    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        // The example of the specification's own libraries: secret, id, timestamp, payload and what comes of them.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signature = signatures(&[&secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both =
            signatures(&[b"new", &secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert!(both.ends_with(&format!(" {signature}")) && both.starts_with("v1,"), "{both}");
        assert_eq!(secret_text(&[0; 3]), "whsec_AAAA");
    }

    #[test]
    fn an_event_is_named_by_tenant_and_place() {
        let tenant = TenantId::new("tenant", "acme-1").expect("valid");
        let other = TenantId::new("tenant", "acme").expect("valid");
        let id = event_id(&tenant, 7);
        assert_eq!((event_sequence(&tenant, &id), event_sequence(&other, &id)), (Some(7), None));
        for odd in ["", "evt-acme-1-", "evt-acme-1-07", "evt-acme-1-+7", "evt-acme-1--7", "acme-1-7"] {
            assert_eq!(event_sequence(&tenant, odd), None, "{odd}");
        }
        let entry = Entry {
            time_ms: 1_793_000_000_123,
            caller: "ada".into(),
            action: "slo.accepted".into(),
            service_id: "checkout".into(),
            detail_json: "{\"target_ratio\":0.30000000000000004}".into(),
        };
        let body = body(&tenant, &Record::seal(tenant.as_str(), 7, GENESIS_SHA256.into(), entry));
        let read: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (read["type"].as_str(), read["timestamp"].as_str()),
            (Some("slo.accepted"), Some("2026-10-26T07:33:20.123Z"))
        );
        assert_eq!(read["data"]["detail"]["target_ratio"].as_f64().map(f64::to_bits), Some((0.1f64 + 0.2).to_bits()));
        assert_eq!(read["data"]["sequence"], 7);
    }

    #[test]
    fn nothing_special_is_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(address.parse().expect(address)), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "2002:101:101::",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(address.parse().expect(address)), "{address}");
        }
    }

    proptest! {
        #[test]
        fn waits_grow_within_bounds_and_end(
            first_ms in 1i64..100_000, factor in 1i64..10_000, attempts_max in 1u32..60, failed in 1u32..80, seed in "[a-z0-9]{0,12}",
        ) {
            let backoff = Backoff { first_ms, max_ms: first_ms * factor, attempts_max };
            let wait = backoff.wait_ms(failed, &seed);
            prop_assert_eq!(wait, backoff.wait_ms(failed, &seed));
            prop_assert_eq!(wait.is_none(), failed >= attempts_max);
            if let Some(wait) = wait {
                let full = (first_ms as f64 * libm::exp2(f64::from(failed) - 1.0)).min((first_ms * factor) as f64);
                prop_assert!(wait as f64 >= full / 2.0 - 1.0 && wait as f64 <= full + 1.0, "{} of {}", wait, full);
            }
        }
    }

    #[test]
    fn messages_that_failed_together_do_not_come_back_together() {
        let backoff = Backoff { first_ms: 1_000_000, max_ms: 1_000_000, attempts_max: 3 };
        let waits: std::collections::BTreeSet<_> =
            (0..100).filter_map(|i| backoff.wait_ms(1, &format!("evt-{i}"))).collect();
        assert!(waits.len() > 95, "{}", waits.len());
        assert!(waits.iter().any(|wait| *wait < 600_000) && waits.iter().any(|wait| *wait > 900_000));
    }
}
