//! What others say is damaged, mixed up and made up, and each reader is held to what it promises: not only that it does
//! not panic, but that it never claims what was not said.
//!
//! Every run has a number; all that is random in it follows from the number. A failure prints it with the input, so that
//! the input can be kept as a test of its own. `HOLDFAST_FUZZ_RUNS=N` makes N times as many runs, with further numbers;
//! `HOLDFAST_FUZZ_SEED=N` makes only the run of that number.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod drbd;
mod export;
mod lvm;
mod make;
mod messages;
mod node;
mod paths;
mod peer;
mod random;
mod runs;
#[path = "../tree_world/mod.rs"]
mod tree_world;
mod values;
mod words;
