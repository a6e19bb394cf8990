#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| causeway_fuzz::kubeconfig(input));
