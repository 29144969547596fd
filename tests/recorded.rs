//! What real kernels and tools said, recorded in vm-tests/50-contracts.sh, given to the parsers that the daemon has.
//!
//! `tests/fixtures/recorded/VERSION`: `recording` is of a daemon whose cluster of two boxes made, used and removed a volume,
//! `steps` of the contracts in one box, refusals and all. Calls that say nothing new were left out.
#![allow(clippy::unwrap_used)]

mod recording;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use holdfast::{
    core::{
        drbd::{DiskState, Role},
        step::StepClass,
    },
    edge::{lvm_report::VgReport, outcome::class_of},
};
use recording::{Recording, replay};

const VERSIONS: [&str; 2] = ["8.4", "9.2"];

fn folder(version: &str, of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded").join(version).join(of)
}

#[test]
fn every_recorded_call_and_event_is_understood() {
    for version in VERSIONS {
        recording::check(&folder(version, "recording"));
        recording::check(&folder(version, "steps"));
    }
}

#[test]
fn a_volume_comes_to_be_used_and_goes_in_the_events() {
    for version in VERSIONS {
        let found = Recording::read(&folder(version, "recording"));
        let [stream] = &found.streams[..] else { panic!("{version}: one daemon, one stream") };
        let mut seen = BTreeSet::new();
        for end in 0..stream.len() {
            let model = replay(stream[..=end].iter().map(String::as_str));
            let Some(db) = model.resources().get("db") else { continue };
            let disk = db.devices.get(&0).map(|device| device.disk);
            seen.extend((db.role == Role::Primary).then_some("used"));
            seen.extend((disk == Some(DiskState::UpToDate)).then_some("up to date"));
            let peer = db.peers.values().find_map(|peer| peer.devices.get(&0)).map(|device| device.disk);
            seen.extend((peer == Some(DiskState::UpToDate)).then_some("and its peer"));
        }
        assert_eq!(seen.len(), 3, "{version}: {seen:?}");
        let end = replay(stream.iter().map(String::as_str));
        assert_eq!(end.resources().keys().collect::<Vec<_>>(), ["holdfast-meta"], "{version}");
    }
}

#[test]
fn the_report_of_lvm_follows_what_the_steps_did() {
    for version in VERSIONS {
        let found = Recording::read(&folder(version, "steps"));
        let reports: Vec<_> =
            found.of("lvm", "fullreport").map(|call| VgReport::parse(&call.stdout).unwrap()).collect();
        let group = |report: &VgReport| report.vgs.get("holdfast-contract").cloned();
        assert!(reports.iter().any(|report| group(report).is_none()), "{version}: before the claim");
        let groups: Vec<_> = reports.iter().filter_map(group).collect();
        let lvs = || groups.iter().flat_map(|group| &group.lvs);
        let tagged = |tag: &str| lvs().any(|lv| lv.tags.contains(tag));
        assert!(groups.iter().any(|group| group.pvs.len() == 2), "{version}: two disks");
        assert!(tagged("holdfast.fresh") && tagged("holdfast.generation=1"), "{version}");
        assert!(lvs().any(|lv| lv.open) && lvs().any(|lv| !lv.open && lv.active), "{version}");
        assert!(lvs().any(|lv| !lv.active && !lv.open), "{version}: not active");
        assert!(lvs().any(|lv| lv.name == "theirs" && lv.tags.is_empty()), "{version}: another's");
    }
}

/// Calls that failed, by program and a word of theirs, with the class that their words have to lead to.
const REFUSALS: [(&str, &str, &str, StepClass); 8] = [
    ("drbdadm", "primary", "(-2) Need access to UpToDate data", StepClass::Refused),
    ("drbdadm", "secondary", "Device is held open by someone", StepClass::Busy),
    ("drbdadm", "secondary", "nknown", StepClass::Gone),
    ("drbdadm", "resize", "(127) Device minor not allocated", StepClass::Gone),
    ("drbdsetup", "secondary", "Device is held open by someone", StepClass::Busy),
    ("lvm", "lvcreate", "already exists", StepClass::Refused),
    ("lvm", "lvcreate", "insufficient free space", StepClass::Refused),
    ("lvm", "lvextend", "Insufficient free space", StepClass::Refused),
];

#[test]
fn the_words_of_a_refusal_lead_to_its_class() {
    for version in VERSIONS {
        let found = Recording::read(&folder(version, "steps"));
        for (program, word, words, class) in REFUSALS {
            // 8.4 has other words for what its kernel does not have.
            let words = if (words, version) == ("nknown", "8.4") { "(127)" } else { words };
            let call = found.of(program, word).find(|call| call.stderr.contains(words));
            let call = call.unwrap_or_else(|| panic!("{version}: no {program} {word} says {words:?}"));
            assert!(call.exit_code().is_some_and(|code| code != 0), "{call}");
            assert_eq!(class_of(&call.stderr), class, "{version}: {call}");
        }
    }
}

/// DRBD 9 calls it a want of data that a Secondary cannot go down while somebody reads from it.
#[test]
fn down_under_a_reader_is_busy_with_drbd_9() {
    let found = Recording::read(&folder("9.2", "steps"));
    let call = found.of("drbdsetup", "down").find(|call| call.exit_code() != Some(0)).unwrap();
    assert!(call.stderr.contains("(-2) Need access to UpToDate data"), "{call}");
    assert_eq!(class_of(&call.stderr), StepClass::Busy, "{call}");
}
