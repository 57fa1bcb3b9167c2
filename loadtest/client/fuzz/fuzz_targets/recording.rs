#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pipemesh_loadtest_client::fuzz::recording(input));
