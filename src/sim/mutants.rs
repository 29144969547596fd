//! Is each invariant really checked? Rules of the core are broken on purpose, one after the other; each has to be found.

use super::simulate;
use crate::core::mutant;

/// Found within so many runs, or the invariant is not being checked.
const SEEDS: u64 = 500;
/// Commands in a run.
const LENGTH: usize = 300;

/// The broken rule, and the invariants that it breaks.
const MUTANTS: [(&str, &[u8]); 0] = [];

#[test]
fn each_broken_rule_is_found_and_each_invariant_finds_one() {
    let mut found = std::collections::BTreeSet::new();
    for (name, breaks) in MUTANTS {
        mutant::set(name);
        let failure = (0..SEEDS).find_map(|seed| simulate::run(seed, LENGTH).err());
        mutant::set("");
        let Some(failure) = failure else { panic!("{name}: not found in {SEEDS} runs") };
        println!(
            "{name}: invariant {} in run {}: {}",
            failure.broken.invariant, failure.seed, failure.broken.text
        );
        assert!(
            breaks.contains(&failure.broken.invariant),
            "{name} breaks {breaks:?}, found was {:?}",
            failure.broken
        );
        found.insert(failure.broken.invariant);
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), (1..=11).collect::<Vec<u8>>());
}
