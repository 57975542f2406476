//! Secrets that nobody wrote down: generated values in every place of a grammar, spelt in every way that text travels. None
//! may survive, neither as it is nor as it was spelt.

#![allow(missing_docs)]

use attain_redaction::{AddressKey, Redactor, redact};
use proptest::prelude::*;

/// Names whose values are secrets.
const NAMES: &[&str] = &[
    "password",
    "DB_PASSWORD",
    "spring.datasource.password",
    "PGPASSWORD",
    "userPassword",
    "Pwd",
    "passphrase",
    "secret",
    "client_secret",
    "clientSecret",
    "AWS_SECRET_ACCESS_KEY",
    "token",
    "access_token",
    "authToken",
    "X-Auth-Token",
    "api_key",
    "apikey",
    "X-Api-Key",
    "private_key",
    "AccountKey",
    "SharedAccessKey",
    "credentials",
    "JSESSIONID",
    "connection_string",
    "SMTP_PASS",
    "webhook_url",
    "_auth",
];

/// Places for a name and a value without blanks, quotes or separators.
const PLAIN: &[&str] = &[
    "{name}={value}",
    "{name}: {value}",
    "{name} = {value}",
    "{name}:{value},next=1",
    "{name}={value};Timeout=5",
    "a=1&{name}={value}&b=2",
    "https://x.example/y?{name}={value}",
    "{name} => {value}",
    "export {name}={value}",
    "<{name}>{value}</{name}>",
    "- name: {name}\n  value: {value}",
    "{name}: |\n  {value}\n",
];

/// Places for a value with anything in it.
const QUOTED: &[&str] = &[
    "{name}=\"{value}\"",
    "\"{name}\": \"{value}\"",
    "{\"a\":{\"{name}\":\"{value}\"},\"b\":1}",
    "{name}: \"{value}",
    "[{name}=\"{value}\"]",
];

/// Places for a password in an address; what an address reserves is percent-encoded there.
const ADDRESSES: &[&str] = &[
    "postgres://app:{value}@db:5432/x",
    "mongodb+srv://app:{value}@m.example/?w=1",
    "amqps://:{value}@mq",
    "redis://:{value}@r:6379/0",
    "https://app:{value}@registry.example/v2/",
    "jdbc:postgresql://app:{value}@db/x",
    "ftp://a:{value}@f.example/b c",
];

/// The same without a scheme; these are known only as they are written.
const OTHER_ADDRESSES: &[&str] = &[
    "app:{value}@tcp(db:3306)/x?tls=true",
    "jdbc:oracle:thin:app/{value}@db:1521:x",
    "curl --user app:{value} https://x",
];

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if unreserved { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        })
        .collect()
}

fn json_escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            '/' => "\\/".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

fn with_addresses() -> Redactor {
    Redactor::with_addresses(AddressKey::new(&[7; 32]).expect("long enough"))
}

/// Places for the address of a machine.
const PLACES_OF_ADDRESSES: &[&str] = &[
    "{value}",
    "dial tcp {value}: connection refused",
    "at 12:30:45 {value}",
    "peer={value},next=1",
    "peer:{value} next",
    "\"peer\":\"{value}\"",
    "[{value}]:8080",
    "http://{value}/x",
    "ipv6/{value}",
    "_{value}_",
    "aa:bb:cc:dd:ee:ff {value}/24",
    "{value} {value},{value}",
    "\n{value}",
];

fn filled(place: &str, name: &str, value: &str) -> String {
    place.replace("{name}", name).replace("{value}", value)
}

/// At least one digit, so that no value is a word of the text around it.
fn plain_value() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!$^*()_.~#@/+-]{6,20}[0-9][A-Za-z0-9]{3}"
}

fn any_value() -> impl Strategy<Value = String> {
    "[A-Za-z0-9 ,;&'!$^*(){}<>\\[\\]_.~#@/|ü字-]{6,20}[0-9][A-Za-z0-9]{3}"
}

fn around() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z .]{0,20}", "[üß字\u{1f600} .]{0,8} ", Just("\n".to_owned()), Just("\u{a0}".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn plain_values_go(
        name in prop::sample::select(NAMES), place in prop::sample::select(PLAIN), value in plain_value(),
        before in around(), after in around(),
    ) {
        let text = format!("{before} {} {after}", filled(place, name, &value));
        for (spelt, secret) in [(text.clone(), value.clone()), (json_escaped(&text), json_escaped(&value))] {
            let redacted = redact(&spelt).0.into_owned();
            prop_assert!(!redacted.contains(&secret), "{spelt} → {redacted}");
        }
    }

    #[test]
    fn quoted_values_go(
        name in prop::sample::select(NAMES), place in prop::sample::select(QUOTED), value in any_value(),
        before in around(), after in around(),
    ) {
        let text = format!("{before} {}\n {after}", filled(place, name, &value));
        // The last part tells a value that was cut in the middle.
        let end = &value[value.len() - 4..];
        prop_assume!(!before.contains(end) && !after.contains(end));
        for spelt in [text.clone(), json_escaped(&text)] {
            let redacted = redact(&spelt).0.into_owned();
            prop_assert!(!redacted.contains(end), "{spelt} → {redacted}");
        }
    }

    #[test]
    fn percent_encoded_values_go(name in prop::sample::select(NAMES), value in any_value(), before in "[a-z]{0,8}") {
        // As a parameter, and as a whole text within a parameter of another address.
        let secret = percent_encoded(&value);
        let outer = format!("https://x.example/{before}?{name}={secret}&next=1");
        let inner = format!("https://x.example/?to={}", percent_encoded(&format!("{before} {name}={value}")));
        for text in [outer, inner] {
            let redacted = redact(&text).0.into_owned();
            prop_assert!(!redacted.contains(&secret), "{text} → {redacted}");
        }
    }

    #[test]
    fn passwords_in_addresses_go(place in prop::sample::select(ADDRESSES), value in any_value(), before in around()) {
        let secret = percent_encoded(&value);
        let text = format!("{before}{}", filled(place, "", &secret));
        for (spelt, secret) in [
            (text.clone(), secret.clone()),
            (json_escaped(&text), json_escaped(&secret)),
            (percent_encoded(&text), percent_encoded(&secret)),
        ] {
            let redacted = redact(&spelt).0.into_owned();
            prop_assert!(!redacted.contains(&secret), "{spelt} → {redacted}");
        }
    }

    #[test]
    fn passwords_in_other_addresses_go(place in prop::sample::select(OTHER_ADDRESSES), value in any_value()) {
        let secret = percent_encoded(&value);
        for spelt in [filled(place, "", &secret), json_escaped(&filled(place, "", &secret))] {
            let redacted = redact(&spelt).0.into_owned();
            prop_assert!(!redacted.contains(&secret), "{spelt} → {redacted}");
        }
    }

    #[test]
    fn addresses_of_machines_go(
        four in any::<[u8; 4]>(), six in any::<[u16; 8]>(), zeros in 0usize..8,
        place in prop::sample::select(PLACES_OF_ADDRESSES), before in around(), after in around(),
    ) {
        let mut six = six;
        // Runs of zeros are what is written short.
        six[zeros.min(4)..zeros].fill(0);
        let (four, six) = (std::net::Ipv4Addr::from(four), std::net::Ipv6Addr::from(six));
        prop_assume!(!four.is_loopback() && !four.is_unspecified() && six.to_ipv4_mapped().is_none());
        for written in [four.to_string(), six.to_string(), six.to_string().to_uppercase()] {
            prop_assume!(written.len() >= 7);
            let text = format!("{before} {} {after}", place.replace("{value}", &written));
            let spellings = [
                (text.clone(), written.clone()), (json_escaped(&text), written.clone()),
                (percent_encoded(&text), percent_encoded(&written)),
            ];
            for (spelt, written) in spellings {
                let redactor = with_addresses();
                let redacted = redactor.redact(&spelt).0.into_owned();
                prop_assert!(!redacted.contains(&written), "{spelt} → {redacted}");
                let name = redactor.redact_name(&spelt).into_owned();
                prop_assert!(!name.contains(&written) && !name.contains("[redacted:ip]"), "{spelt} → {name}");
                prop_assert_eq!(redactor.redact_name(&name).into_owned(), name);
            }
        }
    }

    #[test]
    fn nothing_panics_and_twice_is_once(text in "[\\PC\\n]{0,80}", ip_addresses in any::<bool>()) {
        let redactor = if ip_addresses { with_addresses() } else { Redactor::default() };
        let once = redactor.redact(&text).0.into_owned();
        prop_assert_eq!(redactor.redact(&once), (once.as_str().into(), 0));
    }

    /// Text of the grammar's own characters reaches far more of the patterns than any text.
    #[test]
    fn hostile_text_twice_is_once(
        parts in prop::collection::vec(prop_oneof![
            prop::sample::select(NAMES).prop_map(str::to_owned),
            prop::sample::select(vec![
                ":", "=", "://", "@", "/", "\"", "'", "\\", "\\\"", "%40", "%3A", "{", "}", "[", "]", "<", ">", "</", " ", "\n",
                "&", "?", "user", "Basic", "Bearer", "Authorization", "-u", "--password", "is", "name", "value", "+49",
                "4111111111111111", "a.b", "eyJhbGciOiJIUzI1NiJ9.e30.", "[redacted:secret]", "redacted", "tcp(", "thin:", "$", "1", "x", "10.0.0.7", "2001:db8::1", "::", "ip-", "-", ".", "%3A",
            ]).prop_map(str::to_owned),
            "[a-zA-Z0-9]{1,20}",
        ], 0..12),
    ) {
        let text = parts.concat();
        let redactor = with_addresses();
        let once = redactor.redact(&text).0.into_owned();
        prop_assert_eq!(redactor.redact(&once), (once.as_str().into(), 0), "{}", text);
    }
}
