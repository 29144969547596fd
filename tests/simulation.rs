//! Whole clusters under generated operators and faults (src/sim/simulate.rs says which), and the failures of former times.
//! `HOLDFAST_SEEDS=N` runs more; `make soak SEEDS=N` runs many, in parallel, in release.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use holdfast::sim::{script, simulate};

/// Commands in a run.

#[test]
fn no_invariant_breaks_under_any_of_the_seeds() {
    let seeds = std::env::var("HOLDFAST_SEEDS").map_or(300, |text| text.parse().unwrap());
    let mut done = simulate::Done::default();
    for seed in 0..seeds {
        match simulate::run(seed, simulate::LENGTH) {
            Ok(this) => done.add(this),
            Err(failure) => {
                let failure = simulate::shrink(failure);
                panic!("\n{}\nwrite this into a file, and: holdfast replay FILE", failure.script());
            }
        }
    }
    println!("{seeds} seeds: {done:?}");
    assert!(
        done.granted > seeds && done.refused > seeds && done.steps > 10 * seeds,
        "the runs do little: {done:?}"
    );
}

#[test]
fn what_once_broke_does_not_break_again() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut scripts: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for path in scripts {
        let commands = script::commands(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(simulate::repeat(&commands), None, "{}", path.display());
    }
}
