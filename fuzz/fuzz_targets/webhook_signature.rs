#![no_main]
libfuzzer_sys::fuzz_target!(|data: &str| attain_ingestion::fuzzing::webhook_signature(data));
