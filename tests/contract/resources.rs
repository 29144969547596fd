//! Files, and bringing a resource up until it has data.

use holdfast::core::{
    conf,
    drbd::{ConnectionState, DiskState, Role},
    facts::ConfFile,
    step::{SeedHow, Step, StepClass},
};

use super::{
    Bench,
    help::{
        DB, MINOR, SIZE, adjust, counters, demote, device, device_size, down, file, found, lone, promote,
        refused, remove_conf, resize, text, twice, write_conf,
    },
};

pub fn seed(how: SeedHow) -> Step {
    Step::Seed { resource: DB.into(), how }
}

pub fn a_file_is_written_replaced_and_removed(b: &dyn Bench) {
    for text in [format!("{}\n", conf::MARK), format!("{} again\n", conf::MARK)] {
        twice(b, write_conf("spare", text.clone()));
        assert_eq!(file(b, "spare"), Some(ConfFile { crc: conf::crc(&text), adjusted: false }));
    }
    twice(b, remove_conf("spare"));
    assert_eq!(file(b, "spare"), None);
}

pub fn a_file_that_is_not_ours_is_left_alone(b: &dyn Bench) {
    b.write_foreign_conf("theirs");
    assert_eq!(file(b, "theirs"), None);
    refused(b, write_conf("theirs", text(b, &lone(b))), StepClass::Refused);
    // Nothing of ours is there.
    twice(b, remove_conf("theirs"));
    refused(b, adjust("theirs"), StepClass::Gone);
    refused(b, write_conf("theirs", text(b, &lone(b))), StepClass::Refused);
    b.remove_foreign_conf("theirs");
}

pub fn without_a_file_nothing_is_done(b: &dyn Bench) {
    for step in [adjust(DB), seed(SeedHow::Force), promote(DB), demote(DB), resize(DB)] {
        refused(b, step, StepClass::Gone);
    }
    twice(b, down(DB, MINOR));
}

pub fn adjust_brings_up_what_the_file_says(b: &dyn Bench) {
    let text = text(b, &lone(b));
    twice(b, write_conf(DB, text.clone()));
    let written = ConfFile { crc: conf::crc(&text), adjusted: false };
    assert_eq!(file(b, DB), Some(written));
    assert_eq!(b.resource(DB), None);
    for step in [seed(SeedHow::Force), promote(DB), demote(DB), resize(DB)] {
        refused(b, step, StepClass::Gone);
    }
    twice(b, adjust(DB));
    assert_eq!(file(b, DB), Some(ConfFile { adjusted: true, ..written }));
    let up = found(b, DB);
    assert_eq!((up.role, up.suspended.as_str()), (Role::Secondary, "no"));
    let device = device(&up);
    assert_eq!((device.minor, device.disk, device.client), (MINOR, DiskState::Inconsistent, false));
    let quorum = b.drbd().is_9().then_some(true);
    assert_eq!(device.quorum, quorum);
    // 8.4 has a peer where nobody is, see core/conf.rs.
    let peers: Vec<_> = up.peers.values().map(|peer| peer.connection).collect();
    let connecting = if b.drbd().is_9() { 0 } else { 1 };
    assert_eq!(peers.len(), connecting, "{up:?}");
    assert!(!peers.contains(&ConnectionState::Connected) && !peers.contains(&ConnectionState::StandAlone));
    assert!(device_size(b, MINOR) >= SIZE);
    assert_eq!(counters(b, MINOR + 1), None);
}

pub fn what_has_no_data_yet_cannot_be_used(b: &dyn Bench) {
    let before = found(b, DB);
    refused(b, promote(DB), StepClass::Refused);
    assert!(b.open(MINOR, true).is_err());
    assert!(b.open(MINOR, false).is_err());
    twice(b, demote(DB));
    assert_eq!(found(b, DB), before);
}

pub fn another_minor_is_left_alone(b: &dyn Bench) {
    let before = found(b, DB);
    let mut other = lone(b);
    other.minor += 1;
    twice(b, write_conf(DB, text(b, &other)));
    refused(b, adjust(DB), StepClass::Refused);
    refused(b, down(DB, MINOR + 1), StepClass::Refused);
    twice(b, write_conf(DB, text(b, &lone(b))));
    twice(b, adjust(DB));
    assert_eq!(found(b, DB), before);
}

pub fn the_first_copy_is_made_once(b: &dyn Bench) {
    twice(b, seed(SeedHow::Force));
    let made = found(b, DB);
    assert_eq!((made.role, device(&made).disk), (Role::Secondary, DiskState::UpToDate));
    // What is UpToDate is not declared anything again.
    twice(b, seed(SeedHow::ClearBitmap));
    twice(b, adjust(DB));
    assert_eq!(found(b, DB), made);
}
