//! The spec of a sweep.

#![no_main]

use coremill_fuzz::{mutate, records, seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(init: seeds::sow(seeds::spec), |data: &[u8]| records::spec(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::apply(mutate::record, data, size, max_size, seed, &mut fuzzer_mutate)
});
