//! Is each invariant really checked? Rules of the core are broken on purpose, one after the other; each has to be found.

use super::simulate;
use crate::core::mutant;

/// Found within so many runs, or the invariant is not being checked.
const SEEDS: u64 = 500;

/// The broken rule, and the invariants that it breaks.
const MUTANTS: [(&str, &[u8]); 11] = [
    // Of a volume with one replica that is the last copy, of one with two it is one too few.
    ("drop a leg that is needed", &[1, 7]),
    ("claim what is not blank", &[2]),
    ("answer before the commit", &[3]),
    ("keep the epoch", &[4]),
    ("adjust at every start", &[5]),
    ("give away minors that leave", &[6]),
    ("call equal what was not zeroed", &[8]),
    ("never resize", &[9]),
    ("shrink", &[9]),
    ("freeze without quorum", &[10]),
    ("leave the file behind", &[11]),
];

#[test]
fn each_broken_rule_is_found_and_each_invariant_finds_one() {
    let mut found = std::collections::BTreeSet::new();
    for (name, breaks) in MUTANTS {
        mutant::set(name);
        for invariant in breaks {
            let broken = |seed| {
                simulate::run(seed, simulate::LENGTH).err().filter(|f| f.broken.invariant == *invariant)
            };
            let Some(failure) = (0..SEEDS).find_map(broken) else {
                panic!("{name}: invariant {invariant} did not break in {SEEDS} runs")
            };
            println!("{name}: invariant {invariant} in run {}: {}", failure.seed, failure.broken.text);
            found.insert(*invariant);
        }
        mutant::set("");
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), (1..=11).collect::<Vec<u8>>());
}
