#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| attain_gateway::fuzzing::template(text));
