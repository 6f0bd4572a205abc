#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| homa_fuzz::node::run(input));
