#![no_main]
use attain_redaction::{AddressKey, Redactor};

// Redacting twice changes nothing, with and without the addresses of machines.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let key = AddressKey::new(&[7; AddressKey::BYTES_MIN]).expect("long enough");
    for redactor in [Redactor::default(), Redactor::with_addresses(key)] {
        let (once, count) = redactor.redact(text);
        assert_eq!(count == 0, once == text);
        assert_eq!(redactor.redact(&once), (once.as_ref().into(), 0));
    }
});
