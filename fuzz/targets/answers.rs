#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| encke_fuzz::answers::check(data));
