//! Folds names to templates, so that a few names stand for all of them: of operations, and of machines and queues.

use std::borrow::Cow;

use crate::is_pseudonym;

/// Shortest run of hexadecimal digits, with a decimal one among them, that is an id rather than a word.
const HEX_LEN_MIN: usize = 8;
/// Shortest mixture of letters and digits that is an id whatever it looks like.
const MIXED_LEN_MIN: usize = 16;
/// Shortest mixture that is an id where it has no part that could be a word.
const SHORT_MIXED_LEN_MIN: usize = 8;
/// From this length on a part of four letters is no word either.
const MIDDLE_MIXED_LEN_MIN: usize = 12;
/// Fewest digits in a row that are a number rather than a version, a year or a port.
const NUMBER_LEN_MIN: usize = 6;
/// Longest part that may be a word.
const WORD_LEN_MAX: usize = 64;

/// A name with its ids as `{id}`: numbers, UUIDs, hexadecimal digits, mixtures of letters and digits, and whatever is
/// longer than 64 characters between slashes. Query strings and fragments are dropped. Words, versions (`v2`, `v1beta1`),
/// template parts (`{user}`, `:user`) and numbered words (`cart2`, `oauth2`, `k8s`) stay. Folding twice changes nothing;
/// borrowed where nothing is folded.
#[must_use]
pub fn fold(name: &str) -> Cow<'_, str> {
    let shown = without_query(name);
    if !shown.split(is_separator).any(is_id) {
        return Cow::Borrowed(shown);
    }
    let mut folded = String::with_capacity(shown.len());
    let mut rest = shown;
    while !rest.is_empty() {
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        folded.push_str(if is_id(part) { "{id}" } else { part });
        let separator = after.chars().next().map_or(0, char::len_utf8);
        folded.push_str(&after[..separator]);
        rest = &after[separator..];
    }
    Cow::Owned(folded)
}

/// A query begins with a question mark, and where a path stands a fragment with a hash.
fn without_query(name: &str) -> &str {
    let end = name.find('?').unwrap_or(name.len());
    let shown = &name[..end];
    match (shown.find('/'), shown.find('#')) {
        (Some(slash), Some(hash)) if hash > slash => &shown[..hash],
        _ => shown,
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '/' | ' ' | ',' | ';' | '=' | '(' | ')' | '[' | ']' | '"' | '\'' | ':' | '&' | '|' | '@')
}

fn is_id(part: &str) -> bool {
    if part.starts_with('{') || part.is_empty() {
        return false;
    }
    part.chars().count() > WORD_LEN_MAX
        || is_number_or_opaque(part)
        || part.split(['.', '_', '~', '-']).any(is_number_or_opaque)
        || is_uuid_like(part)
}

fn is_number_or_opaque(part: &str) -> bool {
    (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())) || is_opaque(part)
}

/// Hexadecimal digits, a long number, or a mixture of letters and digits.
fn is_opaque(part: &str) -> bool {
    let bytes = part.as_bytes();
    if bytes.len() < NUMBER_LEN_MIN || !part.is_ascii() {
        return false;
    }
    let seen = Seen::of(bytes);
    let hexadecimal = bytes.iter().all(u8::is_ascii_hexdigit);
    seen.digits_in_a_row >= NUMBER_LEN_MIN
        || (hexadecimal && seen.digits > 0 && bytes.len() >= HEX_LEN_MIN)
        || (bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+'))
            && seen.is_mixture(bytes.len()))
}

/// How letters and digits follow one another.
#[derive(Debug, Default)]
struct Seen {
    digits: usize,
    digits_in_a_row: usize,
    /// Most letters of one case in a row.
    letters_in_a_row: usize,
    /// How often a digit follows what is none, or the other way round.
    turns: usize,
    small: bool,
    capital: bool,
}

impl Seen {
    fn of(bytes: &[u8]) -> Self {
        let mut seen = Self::default();
        let (mut digits, mut letters, mut before) = (0, 0, None);
        for byte in bytes {
            let of_its_kind = |kind: fn(&u8) -> bool| before.is_some_and(|before: u8| kind(&before));
            seen.turns += usize::from(before.is_some_and(|b| b.is_ascii_digit() != byte.is_ascii_digit()));
            digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
            letters = match byte {
                b'a'..=b'z' => 1 + if of_its_kind(u8::is_ascii_lowercase) { letters } else { 0 },
                b'A'..=b'Z' => 1 + if of_its_kind(u8::is_ascii_uppercase) { letters } else { 0 },
                _ => 0,
            };
            seen.digits += usize::from(byte.is_ascii_digit());
            seen.digits_in_a_row = seen.digits_in_a_row.max(digits);
            seen.letters_in_a_row = seen.letters_in_a_row.max(letters);
            seen.small |= byte.is_ascii_lowercase();
            seen.capital |= byte.is_ascii_uppercase();
            before = Some(*byte);
        }
        seen
    }

    /// A word with a number at its end, or a number between two words, is a name: digits must stand between letters, more
    /// than once. A short mixture must have no part that could be a word, and where it has both cases, as names of methods
    /// do (`GetS3Url2`), more turns.
    fn is_mixture(&self, length: usize) -> bool {
        if length >= MIXED_LEN_MIN {
            return self.digits >= 2 && self.turns >= 3;
        }
        let turns_min = if self.small && self.capital { 4 } else { 3 };
        let (letters_max, digits_min) = if length >= MIDDLE_MIXED_LEN_MIN { (4, 3) } else { (3, 2) };
        length >= SHORT_MIXED_LEN_MIN
            && self.turns >= turns_min
            && self.letters_in_a_row <= letters_max
            && self.digits >= digits_min
    }
}

/// Groups of hexadecimal digits joined by hyphens, 32 digits in all.
fn is_uuid_like(part: &str) -> bool {
    part.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        && part.bytes().filter(u8::is_ascii_hexdigit).count() == 32
}

/// Beginnings of names that brokers and their clients draw: of a connection's own queues.
const DRAWN: &[&str] = &["amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to.", "spring.gen-", "_INBOX."];
/// What stands between the parts of a machine's or a queue's name.
const LABEL_ENDS: [char; 4] = ['/', ':', '.', '@'];
/// Digits of the numbers that Kubernetes gives the pods of a deployment, and of what it draws for each pod.
const POD_HASH: &[u8] = b"456789bcdf";
const POD_SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const POD_SUFFIX_LEN: usize = 5;

/// A name of a machine, a pod or a queue without what is drawn or numbered anew for each: long numbers, UUIDs, hexadecimal
/// digits, mixtures, addresses within names (`ip-10-0-3-17`) become `id`, the rest of a drawn queue's name (`amq.gen-…`)
/// too; what Kubernetes appends for a pod goes. Addresses, ports, small numbers (`db-1`, `kafka-0`) and words stay. Folding
/// twice changes nothing; borrowed where nothing is folded.
#[must_use]
pub fn fold_machine(name: &str) -> Cow<'_, str> {
    for drawn in DRAWN {
        if let Some(at) = name.find(drawn) {
            let end = at + drawn.len();
            return if &name[end..] == "id" { Cow::Borrowed(name) } else { Cow::Owned(format!("{}id", &name[..end])) };
        }
    }
    if !name.split(LABEL_ENDS).any(|label| fold_label(label).is_some()) {
        return Cow::Borrowed(name);
    }
    let mut folded = String::with_capacity(name.len());
    for part in name.split_inclusive(LABEL_ENDS) {
        let label = part.trim_end_matches(LABEL_ENDS);
        folded.push_str(fold_label(label).as_deref().unwrap_or(label));
        folded.push_str(&part[label.len()..]);
    }
    Cow::Owned(folded)
}

/// A part between dots, folded; `None` where it stays.
fn fold_label(label: &str) -> Option<String> {
    // Stands for an address, always the same one.
    if is_pseudonym(label) {
        return None;
    }
    let words: Vec<&str> = label.split('-').collect();
    if let [deployment @ .., hash, suffix] = words.as_slice()
        && !deployment.is_empty()
        && (8..=10).contains(&hash.len())
        && hash.bytes().all(|byte| POD_HASH.contains(&byte))
        && is_pod_suffix(suffix)
    {
        let deployment = deployment.join("-");
        return Some(fold_label(&deployment).unwrap_or(deployment));
    }
    let mut folded: Vec<&str> = Vec::with_capacity(words.len());
    let mut rest = words.as_slice();
    while let Some(word) = rest.first() {
        let id_words = id_words(rest, folded.is_empty());
        if id_words == 0 {
            folded.push(word);
        } else if folded.last() != Some(&"id") {
            folded.push("id");
        }
        rest = &rest[id_words.max(1)..];
    }
    let folded = folded.join("-");
    (folded != label).then_some(folded)
}

/// How many of the first words are an id together; `is_first` where nothing stands before them.
fn id_words(words: &[&str], is_first: bool) -> usize {
    let hexadecimal = |word: &str, length| word.len() == length && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if words.len() >= 5 && words.iter().zip([8, 4, 4, 4, 12]).all(|(word, length)| hexadecimal(word, length)) {
        return 5;
    }
    let octet = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u8>().is_ok();
    if words.len() >= 4 && words.iter().take(4).all(octet) {
        return 4;
    }
    // What a daemon set's pods end with: mixed enough to be no word.
    let ends_a_pod =
        words.len() == 1 && !is_first && is_pod_suffix(words[0]) && Seen::of(words[0].as_bytes()).turns >= 2;
    usize::from(words[0].split('_').any(is_opaque) || ends_a_pod)
}

fn is_pod_suffix(word: &str) -> bool {
    word.len() == POD_SUFFIX_LEN && word.bytes().all(|byte| POD_SUFFIX.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_fold_and_words_stay() {
        for (name, folded) in [
            ("GET /users/42", "GET /users/{id}"),
            ("GET /users/42/orders/7?page=3&q=jane", "GET /users/{id}/orders/{id}"),
            ("/files/123e4567-e89b-12d3-a456-426614174000#top", "/files/{id}"),
            ("GET /blobs/9f86d081884c7d65", "GET /blobs/{id}"),
            ("GET /s/dGhpcyBpcyBh4bG9uZyB0b2tlbg5", "GET /s/{id}"),
            ("GET /invoices/inv_20481", "GET /invoices/{id}"),
            ("poll queue-8123", "poll {id}"),
            ("GET /users/{user_id}/carts/:cart", "GET /users/{user_id}/carts/:cart"),
            ("GET /api/v2/status", "GET /api/v2/status"),
            ("shop.Cart/AddItem", "shop.Cart/AddItem"),
            ("oteldemo.CartService/GetCart2", "oteldemo.CartService/GetCart2"),
            ("SELECT shop.orders", "SELECT shop.orders"),
            ("publish orders", "publish orders"),
            ("deadbeef", "deadbeef"),
            ("facade", "facade"),
            ("", ""),
        ] {
            assert_eq!(fold(name), folded, "{name}");
        }
        assert_eq!(fold(&format!("GET /{}", "x".repeat(65))), "GET /{id}");
    }

    #[test]
    fn short_ids_fold() {
        for id in [
            // Base 36 and base 62, as short links and order numbers are; a nanoid of ten; base 32 of capitals.
            "k3j9x2m1",
            "a8bcd3f9z2",
            "4dK9fQ2a",
            "7QK4ZP9XW2",
            "abc123def456",
            "x7f3k9q2w1e5",
            // A ULID, a KSUID, a cuid, a nanoid with its hyphens, an id of MongoDB.
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "0ujtsYcgvSTl8PAuAdqWYSMnLOv",
            "cjld2cjxh0000qzrmn831i7rn",
            "V1StGXR8_Z5jdHi6B-myT",
            "507f1f77bcf86cd799439011",
            // Numbers behind letters.
            "ord204811",
            "cus_Nff2k9X8w4",
        ] {
            assert_eq!(fold(&format!("GET /orders/{id}/lines")), "GET /orders/{id}/lines", "{id}");
        }
    }

    #[test]
    fn names_with_numbers_stay() {
        for name in [
            "v1",
            "v2",
            "v1beta1",
            "v1alpha10",
            "v2beta3",
            "s3",
            "ec2",
            "oauth2",
            "http2",
            "k8s",
            "i18n",
            "l10n",
            "a11y",
            "e2e",
            "p2p",
            "b2b",
            "ipv4",
            "ipv6",
            "base64",
            "base64url",
            "sha1",
            "sha256",
            "md5",
            "utf8",
            "utf16",
            "x86",
            "x509",
            "amd64",
            "arm64",
            "h264",
            "mp3",
            "mp4",
            "3d",
            "2fa",
            "mfa2",
            "log4j",
            "log4j2",
            "neo4j",
            "web3",
            "int64",
            "uint8array",
            "float32",
            "iso8601",
            "iso27001",
            "rfc3339",
            "es2015",
            "win32",
            "o365",
            "auth0",
            "1password",
            "port8080",
            "year2024",
            "cart2",
            "c3p0",
            "h2database",
            "oauth2callback",
            "sha256rsa",
            "route53",
            "GetCart2",
            "GetS3Url",
            "GetV2Ping",
            "AddV2Item",
            "S3ObjectV2",
            "OAuth2Token",
            "K8sClusterV1",
            "Http2Client",
            "EC2InstanceV2",
            "ListObjectsV2",
            "getUserById2",
            "Base64Encode",
            "Utf8Decoder",
            "GetS3Url2",
            "MD5SHA1",
        ] {
            for name in [name.to_owned(), format!("GET /api/{name}/list"), format!("shop.{name}/Get")] {
                assert_eq!(fold(&name), name);
            }
        }
    }

    #[test]
    fn machines_and_queues_fold_and_small_numbers_stay() {
        for (name, folded) in [
            ("rabbitmq/amq.gen-JzTY20BRgKO-HjmUJj0wLg", "rabbitmq/amq.gen-id"),
            ("rabbitmq/spring.gen-4Jy_qJ1ETqqYyVZ6wkQk2w", "rabbitmq/spring.gen-id"),
            ("nats/_INBOX.3mDp6rU1XO9yv2cnfPTZ7A.1", "nats/_INBOX.id"),
            ("rabbitmq/celeryev.3f2504e0-4f89-11d3-9a0c-0305e82c3301", "rabbitmq/celeryev.id"),
            ("rabbitmq/reply.3f2504e04f8911d39a0c0305e82c3301", "rabbitmq/reply.id"),
            ("rabbitmq/orders-20261128", "rabbitmq/orders-id"),
            ("cart-7d9f8b6c5-x2x4z", "cart"),
            ("cart-service-5d78c9869d-bq7wl.shop.svc", "cart-service.shop.svc"),
            ("fluentd-x7k2p", "fluentd-id"),
            ("ip-10-0-3-17.eu-west-1.compute.internal:8080", "ip-id.eu-west-1.compute.internal:8080"),
            ("10-0-3-17.default.pod.cluster.local", "id.default.pod.cluster.local"),
            ("i-0abcd1234ef567890", "i-id"),
            ("worker-3f9a2b1c4d-1a2b3c4d5e", "worker-id"),
        ] {
            assert_eq!(fold_machine(name), folded, "{name}");
            assert_eq!(fold_machine(folded), folded, "twice");
        }
        for name in [
            "10.0.0.7",
            "10.0.0.7:8080",
            "ipv6/::1:9000",
            "ipv6/2001:db8:85a3::8a2e:370:7334",
            "localhost:9000",
            "ip-0123456789ab:8443",
            "db-1",
            "kafka-0.kafka-headless.shop.svc.cluster.local",
            "kafka/orders",
            "kafka/orders.v1",
            "redis/cache-1",
            "postgresql/orders_7",
            "postgresql/users|public",
            "api.example.com",
            "s3.eu-west-1.amazonaws.com",
            "web-01.example.com",
            "db-primary-2",
            "kafka-brkr2",
            "oauth2-proxy",
            "k8s-api",
            "es7-data-0",
            "rds-pg14",
            "cart-v2",
            "cart-canary",
            "front-proxy",
            "payments.internal",
            "nats/c.-id-",
            "2024-report",
            "",
        ] {
            assert!(
                matches!(fold_machine(name), Cow::Borrowed(same) if same == name),
                "{name}: {}",
                fold_machine(name)
            );
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(name in "\\PC{0,80}") {
            let once = fold(&name).into_owned();
            prop_assert_eq!(fold(&once).into_owned(), once.clone());
        }

        #[test]
        fn folding_machines_twice_changes_nothing(name in "[a-z0-9_./:@-]{0,60}|(([a-f0-9]{4,12}|[a-z]{1,6}|amq.gen)[-./]){0,8}") {
            let once = fold_machine(&name).into_owned();
            prop_assert_eq!(fold_machine(&once).into_owned(), once.clone());
        }

        #[test]
        fn however_many_ids_there_are_the_template_is_one(id in 0u64.., name in "[a-z]{1,12}") {
            prop_assert_eq!(fold(&format!("GET /{name}/{id}/x")).into_owned(), format!("GET /{name}/{{id}}/x"));
        }
    }
}
