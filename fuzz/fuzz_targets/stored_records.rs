#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| attain_ingestion::fuzzing::stored_records(data));
