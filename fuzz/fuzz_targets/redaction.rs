#![no_main]
use attain_redaction::Redactor;

// Redacting twice changes nothing, with and without the addresses of machines.
libfuzzer_sys::fuzz_target!(|text: &str| {
    for redactor in [Redactor::new(false), Redactor::new(true)] {
        let (once, count) = redactor.redact(text);
        assert_eq!(count == 0, once == text);
        assert_eq!(redactor.redact(&once), (once.as_ref().into(), 0));
    }
});
