#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pipemesh_node_fuzz::pipe_frame::run(input));
