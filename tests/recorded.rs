//! What real kernels and tools said, recorded by `holdfast daemon --record` in vm-tests/50-contracts.sh, given to the parsers.
#![allow(clippy::unwrap_used)]

mod recording;

use std::path::{Path, PathBuf};

use holdfast::{
    core::drbd::{DiskState, Role},
    edge::lvm_report::VgReport,
};
use recording::{Recording, replay};

fn folders() -> [PathBuf; 2] {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded");
    ["8.4", "9.2"].map(|version| all.join(version))
}

#[test]
fn every_recorded_call_and_event_is_understood() {
    folders().iter().for_each(|folder| recording::check(folder));
}
