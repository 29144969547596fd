//! `make soak SEEDS=N`: that many simulated clusters under faults, on all cores. The first failure is made as short as
//! it can be and written as a script for `holdfast replay`; the exit code is then 1.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use holdfast::sim::simulate::{self, Done, Failure, LENGTH};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> ExitCode {
    let (seeds, from) = (number("SEEDS", 1_000), number("FROM", 0));
    let threads = number("THREADS", std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let failed: Mutex<Option<Failure>> = Mutex::default();
    let all: Mutex<Done> = Mutex::default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Done::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        break;
                    }
                    match simulate::run(seed, LENGTH) {
                        Ok(done) => mine.add(done),
                        Err(failure) => {
                            stop.store(true, Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                        }
                    }
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).add(mine);
            });
        }
    });
    let runs = next.load(Ordering::Relaxed).min(from + seeds) - from;
    let seconds = started.elapsed().as_secs_f64();
    let done = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{runs} runs of {LENGTH} commands in {seconds:.1} s on {threads} threads: {:.1} a second, {:.1} on each",
        runs as f64 / seconds,
        runs as f64 / seconds / threads as f64
    );
    println!(
        "{} events, {} steps, {} wishes granted, {} refused",
        done.events, done.steps, done.granted, done.refused
    );
    let Some(failure) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) else {
        println!("no invariant broke");
        return ExitCode::SUCCESS;
    };
    println!(
        "seed {}: invariant {} is broken: {}",
        failure.seed, failure.broken.invariant, failure.broken.text
    );
    let failure = simulate::shrink(failure);
    let path = format!("target/seed-{}.txt", failure.seed);
    match std::fs::write(&path, failure.script()) {
        Ok(()) => println!("{} commands are left: holdfast replay {path}", failure.commands.len()),
        Err(error) => println!("{path}: {error}\n{}", failure.script()),
    }
    ExitCode::FAILURE
}
