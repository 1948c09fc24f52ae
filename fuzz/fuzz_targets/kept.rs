//! What a run keeps as numbers: the tokens of an artifact, the distributions of a reference.

#![no_main]

use coremill_fuzz::{records, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::sow(seeds::kept), |data: &[u8]| {
    records::tokens(data);
    records::distributions(data);
});
