//! The fuzzer and the command that starts it. libFuzzer holds `main`; see `fuzz::run::start`.

#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::run::start(),
    |data: &[u8]| {
        fuzz::run::one(data);
    }
);
