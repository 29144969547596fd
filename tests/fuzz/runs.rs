//! Runs by number; the number and the input of one that fails are printed.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

use crate::random::Random;

/// One run: its random numbers, and what was made of them so far.
pub struct Run {
    pub random: Random,
    input: Vec<Vec<u8>>,
}

impl Run {
    /// Keeps an input for the case that it makes the run fail.
    pub fn note(&mut self, input: impl AsRef<[u8]>) {
        self.input.push(input.as_ref().to_vec());
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Makes `count` runs of `one`, or as many as the environment says.
pub fn runs(count: u64, mut one: impl FnMut(&mut Run)) {
    let all = match number("HOLDFAST_FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count * number("HOLDFAST_FUZZ_RUNS").unwrap_or(1),
    };
    for seed in all {
        let mut run = Run { random: Random::new(seed), input: Vec::new() };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one(&mut run))) {
            eprintln!("HOLDFAST_FUZZ_SEED={seed}; the input, the newest last:");
            for input in &run.input {
                eprintln!("    b\"{}\"", input.escape_ascii());
            }
            resume_unwind(panic);
        }
    }
}

/// A sentence for people, on one line of their terminal, of a bounded length.
pub fn is_sentence(text: &str) -> bool {
    !text.is_empty() && text.len() < 4_096 && text.chars().all(is_printable)
}

/// What `{:?}` would not have to escape.
fn is_printable(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().eq([c])
}

/// A file below tests/fixtures.
pub fn fixture(name: &str) -> String {
    fs::read_to_string(fixtures().join(name)).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The texts of all files in a folder below tests/fixtures whose names end so, in order of name.
pub fn all_fixtures(folder: &str, end: &str) -> Vec<String> {
    let paths = fs::read_dir(fixtures().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has no {end}");
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}
