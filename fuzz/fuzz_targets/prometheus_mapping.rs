#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| attain_ingestion::fuzzing::prometheus_mapping(text));
