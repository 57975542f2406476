//! What the whole process does once it has chosen; a file of its own, for tests of one file may share a process.

#![allow(missing_docs)]

use attain_redaction::{AddressKey, AlreadyConfigured, Redactor, configure, is_pseudonym};

#[test]
fn everybody_asks_the_process() {
    let before = attain_redaction::redact("from 10.0.0.7").0;
    assert_eq!(before, "from 10.0.0.7");
    assert_eq!(attain_redaction::why_refused("10.0.0.7:80"), None);

    let redactor = Redactor::with_addresses(AddressKey::new(&[7; 32]).expect("long enough"));
    assert_eq!(configure(redactor.clone()), Ok(()));
    assert_eq!(configure(Redactor::default()), Err(AlreadyConfigured));

    assert_eq!(attain_redaction::redact("from 10.0.0.7").0, "from [redacted:ip]");
    let name = attain_redaction::redact_name("10.0.0.7:80").into_owned();
    assert!(is_pseudonym(name.strip_suffix(":80").expect("the port stays")), "{name}");
    assert_eq!(name, redactor.redact_name("10.0.0.7:80"));
    assert_eq!(format!("{}:80", attain_redaction::shown_address([10, 0, 0, 7].into())), name);
    assert_eq!(attain_redaction::shown_address([127, 0, 0, 1].into()), "127.0.0.1");

    let why = attain_redaction::why_refused("10.0.0.7:80").expect("an address");
    assert!(why.contains("privacy.ip_addresses") && !why.contains("10.0"), "{why}");
    let why = attain_redaction::why_refused("jane@mail.example").expect("personal data");
    assert!(why.contains("personal data"), "{why}");
    assert_eq!(attain_redaction::why_refused(&name), None);
}
