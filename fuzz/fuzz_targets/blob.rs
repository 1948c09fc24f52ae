//! A `weight.bin`.

#![no_main]

use coremill_fuzz::{drive, mutate, seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(init: seeds::sow(seeds::blob), |data: &[u8]| drive::blob(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::apply(mutate::blob, data, size, max_size, seed, &mut fuzzer_mutate)
});
