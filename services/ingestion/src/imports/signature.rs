//! Whether a webhook comes from who it says: keyed hashes over the body as it came, with secrets that both sides know.

use std::collections::BTreeMap;
use std::path::Path;

use attain_vocabulary::UnixMillis;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::Format;
use crate::config::{WebhookConfig, WebhooksConfig};

/// Headers that the gateway passes on, by their lower-case names.
pub(crate) type Headers = BTreeMap<String, String>;

/// Most signatures that one request may bring: senders give one a secret while they rotate.
const SIGNATURES_MAX: usize = 16;
/// How secrets of the Standard Webhooks specification begin.
const STANDARD_PREFIX: &str = "whsec_";

/// The secrets of each sender; none where the settings name no file.
#[derive(Default)]
pub(crate) struct Signatures {
    pagerduty: Option<Vec<Vec<u8>>>,
    opsgenie: Option<Vec<Vec<u8>>>,
    incident_io: Option<(Vec<Vec<u8>>, i64)>,
}

impl std::fmt::Debug for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signatures")
    }
}

impl Signatures {
    /// Reads the files that the settings name: one secret a line, so that an old and a new one may stand side by side.
    ///
    /// # Errors
    /// Names the setting whose file cannot be read or holds no secret.
    pub(crate) fn read(settings: &WebhooksConfig) -> Result<Self, attain_runtime::Error> {
        let lines = |name: &str, webhook: &WebhookConfig| lines(name, &webhook.secrets_file);
        let plain = |name: &str, webhook: &Option<WebhookConfig>| {
            let read = webhook.as_ref().map(|webhook| lines(name, webhook)).transpose()?;
            Ok::<_, attain_runtime::Error>(read.map(|all| all.into_iter().map(String::into_bytes).collect()))
        };
        let incident_io = match &settings.incident_io {
            None => None,
            Some(webhook) => {
                let secrets =
                    lines("incident_io", webhook)?.iter().map(|line| decoded(line)).collect::<Result<_, _>>()?;
                Some((secrets, i64::from(webhook.tolerance_seconds) * 1000))
            }
        };
        let (pagerduty, opsgenie) = (plain("pagerduty", &settings.pagerduty)?, plain("opsgenie", &settings.opsgenie)?);
        Ok(Self { pagerduty, opsgenie, incident_io })
    }

    /// One secret for every sender.
    #[cfg(feature = "fuzzing")]
    pub(super) fn of(secret: &[u8]) -> Self {
        let secrets = || vec![secret.to_vec()];
        Self { pagerduty: Some(secrets()), opsgenie: Some(secrets()), incident_io: Some((secrets(), 300_000)) }
    }

    /// Checks a document before anything in it is read.
    ///
    /// # Errors
    /// Says what is wrong, where a secret is set for the format and the sender cannot have known it.
    pub(crate) fn check(
        &self,
        format: Format,
        headers: &Headers,
        body: &[u8],
        now_ms: UnixMillis,
    ) -> Result<(), &'static str> {
        let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
        match format {
            Format::Pagerduty => match &self.pagerduty {
                None => Ok(()),
                Some(secrets) => pagerduty(secrets, header("x-pagerduty-signature"), body),
            },
            Format::Opsgenie => match &self.opsgenie {
                None => Ok(()),
                Some(secrets) => token(secrets, header("x-opsgenie-token")),
            },
            Format::IncidentIo => match &self.incident_io {
                None => Ok(()),
                Some((secrets, tolerance_ms)) => {
                    let either = |name: &str| {
                        let standard = header(&format!("webhook-{name}"));
                        if standard.is_empty() { header(&format!("svix-{name}")) } else { standard }
                    };
                    let sent =
                        Sent { id: either("id"), timestamp: either("timestamp"), signature: either("signature") };
                    standard_webhook(secrets, &sent, body, now_ms, *tolerance_ms)
                }
            },
            Format::IncidentsCsv | Format::JaegerDependencies | Format::JaegerTraces => Ok(()),
        }
    }
}

/// What a Standard Webhook sends beside its body.
struct Sent<'a> {
    id: &'a str,
    timestamp: &'a str,
    signature: &'a str,
}

fn lines(name: &str, file: &Path) -> Result<Vec<String>, attain_runtime::Error> {
    let refuse = |detail: String| {
        attain_runtime::Error::Config(format!("ingestion.webhooks.{name}.secrets_file: {} {detail}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let found: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if found.is_empty() { Err(refuse("holds no secret".to_owned())) } else { Ok(found) }
}

fn decoded(secret: &str) -> Result<Vec<u8>, attain_runtime::Error> {
    STANDARD.decode(secret.strip_prefix(STANDARD_PREFIX).unwrap_or(secret)).map_err(|_| {
        let detail = "ingestion.webhooks.incident_io.secrets_file: a secret is not Base64, with or without `whsec_`";
        attain_runtime::Error::Config(detail.to_owned())
    })
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// Whether any secret makes any of the signatures of these parts. Compared in constant time.
fn matches(secrets: &[Vec<u8>], signatures: &[Vec<u8>], parts: &[&[u8]]) -> bool {
    secrets.iter().any(|secret| {
        let mac = parts.iter().fold(keyed(secret), |mac, part| mac.chain_update(part));
        signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
    })
}

/// `v1=<hex>`, several divided by commas (PagerDuty documentation, "Verifying signatures").
fn pagerduty(secrets: &[Vec<u8>], header: &str, body: &[u8]) -> Result<(), &'static str> {
    let given = header.split(',').filter_map(|one| one.trim().strip_prefix("v1="));
    let signatures: Vec<Vec<u8>> = given.filter_map(|one| hex::decode(one).ok()).take(SIGNATURES_MAX).collect();
    if signatures.is_empty() {
        return Err("the header X-PagerDuty-Signature with a v1 signature is required");
    }
    if matches(secrets, &signatures, &[body]) { Ok(()) } else { Err("no signature of the body matches") }
}

/// `v1,<base64>`, several divided by blanks, over `id.timestamp.body` (Standard Webhooks specification, 1.0).
fn standard_webhook(
    secrets: &[Vec<u8>],
    sent: &Sent<'_>,
    body: &[u8],
    now_ms: UnixMillis,
    tolerance_ms: i64,
) -> Result<(), &'static str> {
    let seconds: i64 =
        sent.timestamp.parse().map_err(|_| "the header webhook-timestamp with seconds since 1970 is required")?;
    if sent.id.is_empty() {
        return Err("the header webhook-id is required");
    }
    if seconds.saturating_mul(1000).abs_diff(now_ms) > tolerance_ms.unsigned_abs() {
        return Err("the time of the signature is too far from now");
    }
    let given = sent.signature.split_whitespace().filter_map(|one| one.strip_prefix("v1,"));
    let signatures: Vec<Vec<u8>> = given.filter_map(|one| STANDARD.decode(one).ok()).take(SIGNATURES_MAX).collect();
    if signatures.is_empty() {
        return Err("the header webhook-signature with a v1 signature is required");
    }
    let parts: [&[u8]; 5] = [sent.id.as_bytes(), b".", sent.timestamp.as_bytes(), b".", body];
    if matches(secrets, &signatures, &parts) { Ok(()) } else { Err("no signature of the body matches") }
}

/// Opsgenie signs nothing, and sends headers as its integration is told to. Both sides are hashed under the same key, so that
/// the comparison takes the same time wherever they differ.
fn token(secrets: &[Vec<u8>], header: &str) -> Result<(), &'static str> {
    if header.is_empty() {
        return Err("the header X-Opsgenie-Token is required");
    }
    let given = keyed(b"attain").chain_update(header).finalize().into_bytes().to_vec();
    let known = |secret: &Vec<u8>| keyed(b"attain").chain_update(secret).verify_slice(&given).is_ok();
    if secrets.iter().any(known) { Ok(()) } else { Err("the token is not known") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const NOW_MS: i64 = 1_614_265_330_000;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The example that the Standard Webhooks specification publishes: secret, id, timestamp, body and signature.
    #[test]
    fn the_published_example_of_standard_webhooks_is_accepted_and_nothing_near_it() {
        let secret = decoded("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("Base64");
        let signatures = Signatures { incident_io: Some((vec![vec![1], secret], 300_000)), ..Signatures::default() };
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let good = "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let sent = |prefix: &str, signature: &str, time: &str| {
            let named = |name: &str| format!("{prefix}-{name}");
            headers(&[(&named("id"), id), (&named("timestamp"), time), (&named("signature"), signature)])
        };
        let check =
            |headers: &Headers, body: &[u8], now_ms| signatures.check(Format::IncidentIo, headers, body, now_ms);
        assert_eq!(check(&sent("webhook", good, "1614265330"), BODY, NOW_MS), Ok(()));
        assert_eq!(check(&sent("svix", good, "1614265330"), BODY, NOW_MS + 300_000), Ok(()));
        for (headers, body, now_ms) in [
            (sent("webhook", good, "1614265330"), &b"{\"test\": 2432232315}"[..], NOW_MS),
            (sent("webhook", good, "1614265331"), BODY, NOW_MS),
            (sent("webhook", good, "1614265330"), BODY, NOW_MS + 300_001),
            (sent("webhook", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "1614265330"), BODY, NOW_MS),
            (sent("webhook", good, "soon"), BODY, NOW_MS),
            (Headers::new(), BODY, NOW_MS),
        ] {
            check(&headers, body, now_ms).expect_err("refused");
        }
        assert_eq!(signatures.check(Format::Pagerduty, &Headers::new(), BODY, NOW_MS), Ok(()), "no secret is set");
    }

    /// HMAC-SHA256 of RFC 4231, test case 2.
    #[test]
    fn pagerduty_signs_the_body_under_one_of_several_secrets() {
        let body = b"what do ya want for nothing?";
        let good = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let secrets = Some(vec![b"old".to_vec(), b"Jefe".to_vec()]);
        let signatures = Signatures { pagerduty: secrets, ..Signatures::default() };
        let check = |header: &str, body: &[u8]| {
            signatures.check(Format::Pagerduty, &headers(&[("x-pagerduty-signature", header)]), body, 0)
        };
        assert_eq!(check(&format!("v1={}, v1={good}", "0".repeat(64)), body), Ok(()));
        for (header, body) in [
            (format!("v1={good}"), &b"what do ya want for nothing"[..]),
            (format!("v0={good}"), body),
            (good.to_owned(), body),
            (format!("v1={}", &good[..62]), body),
            (String::new(), body),
        ] {
            check(&header, body).expect_err(&header);
        }
    }

    #[test]
    fn opsgenie_sends_the_secret_itself() {
        let signatures = Signatures { opsgenie: Some(vec![b"hunter2".to_vec()]), ..Signatures::default() };
        let check = |value: &str| signatures.check(Format::Opsgenie, &headers(&[("x-opsgenie-token", value)]), b"", 0);
        assert_eq!(check("hunter2"), Ok(()));
        assert!(check("hunter").is_err() && check("").is_err());
    }
}
