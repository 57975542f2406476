#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| attain_ingestion::fuzzing::page_tokens(text));
