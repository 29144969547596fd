//! The contracts on a real kernel, and what only a real kernel can show. Run by vm-tests/50-contracts.sh.
//!
//! Inside a box that may be broken, as root, with DRBD's module loaded and one or more blank disks of 512M or more:
//! `HOLDFAST_TEST_DISK=/dev/vdb HOLDFAST_TEST_BOXES=box1=10.77.0.1 host_contract --ignored --nocapture --test-threads=1 alone`
//! and, in two or three boxes at once, with all their names and addresses, the same with `together`.
#![allow(clippy::unwrap_used)]

mod contract;
mod real_bench;
mod recording;

use std::{path::Path, sync::Arc, time::Duration};

use contract::{
    Bench,
    help::{disk, down, lv_ref, refused, twice, twice_when_closed},
};
use holdfast::{
    core::{
        conf,
        intent::{META_MINOR, META_NAME, META_PORT, META_SIZE},
        names::VolumeId,
        step::{LvRef, SeedHow, Step, StepClass},
    },
    edge::{meta::Meta, run::Programs, udev::Monitor},
};
use real_bench::{RealBench, disks, sh};

#[test]
#[ignore = "needs blank disks in a box"]
fn every_step_keeps_its_promises_alone() {
    contract::alone(&RealBench::new());
}

#[test]
#[ignore = "needs blank disks in two or three boxes"]
fn every_step_keeps_its_promises_together() {
    contract::together(&RealBench::new());
}

/// No step, but what the leader does with a resource: the store's place is made once, kept, and in use while it is open.
#[test]
#[ignore = "needs blank disks in a box"]
fn the_stores_place_is_made_once_and_kept() {
    let bench = RealBench::new();
    let b: &dyn Bench = &bench;
    let place = Meta::new(Arc::new(Programs::resolve().unwrap()));
    let disk = disk(b, &b.disks()[0]);
    twice(b, contract::help::claim(&disk.device, disk.ident));
    let lv = LvRef { id: VolumeId::meta(), ..lv_ref(&conf::lv_name(META_NAME, 0)) };
    let size = contract::help::lv_size(b, META_SIZE);
    twice(b, Step::CreateLv { lv: lv.clone(), volume: META_NAME.into(), size, pv: None });
    twice(b, Step::CreateMd { lv: lv.clone(), minor: META_MINOR });
    let mut assignment = contract::help::lone(b);
    (assignment.id, assignment.resource, assignment.minor) = (VolumeId::meta(), META_NAME.into(), META_MINOR);
    (assignment.port, assignment.size) = (META_PORT, META_SIZE);
    twice(b, contract::help::write_conf(META_NAME, contract::help::text(b, &assignment)));
    twice(b, contract::help::adjust(META_NAME));
    twice(b, Step::Seed { resource: META_NAME.into(), how: SeedHow::Force });

    println!("{}", place.open(false).expect_err("it is empty"));
    let folder = place.open(true).unwrap();
    std::fs::write(folder.join("store"), "kept").unwrap();
    assert_eq!(place.open(false).unwrap(), folder);
    refused(b, down(META_NAME, META_MINOR), StepClass::Busy);
    place.close().unwrap();
    place.close().unwrap();
    assert_eq!(std::fs::read_to_string(place.open(true).unwrap().join("store")).unwrap(), "kept");
    place.close().unwrap();
    // Its auto-promote is off with DRBD 9: only who opens the place is Primary.
    assert!(b.open(META_MINOR, true).is_err());

    twice_when_closed(b, down(META_NAME, META_MINOR));
    twice(b, contract::help::remove_conf(META_NAME));
    twice_when_closed(b, contract::help::remove(&lv));
    b.tidy(&contract::help::pool());
}

#[test]
#[ignore = "needs a blank disk in a box"]
fn looking_is_not_heard_but_a_change_is() {
    let device = disks().remove(0);
    let (to, from) = std::sync::mpsc::channel();
    let _monitor = Monitor::start(move || to.send(()).unwrap_or_default()).unwrap();
    let hear = |seconds| from.recv_timeout(Duration::from_secs(seconds));
    assert!(hear(10).is_ok(), "the first look is asked for");
    while hear(2).is_ok() {}
    for _ in 0..3 {
        // A new one each time, which remembers no probe.
        disk(&RealBench::new(), &device);
    }
    assert!(hear(3).is_err(), "looking made an event: it would never end");
    sh(&format!("mkswap -q {device}"));
    assert!(hear(10).is_ok(), "a new signature is heard of");
    sh(&format!("wipefs -qa {device}"));
}

/// `HOLDFAST_TEST_RECORD=DIR`, of the contracts above.
#[test]
#[ignore = "needs what the contracts recorded"]
fn what_steps_said_is_understood() {
    let dir = std::env::var("HOLDFAST_TEST_RECORD").expect("HOLDFAST_TEST_RECORD is a folder");
    recording::check(Path::new(&dir));
}

/// `HOLDFAST_TEST_RECORDING=DIR`, of a daemon that made and removed something.
#[test]
#[ignore = "needs what a daemon recorded"]
fn a_recording_is_understood() {
    let dir = std::env::var("HOLDFAST_TEST_RECORDING").expect("HOLDFAST_TEST_RECORDING is a folder");
    recording::check(Path::new(&dir));
}
