//! A resource that has data: used, grown, taken down, brought back, removed.

use holdfast::core::{
    drbd::{DiskState, Role},
    names::VolumeId,
    size::Size,
    step::{LvRef, StepClass},
};

use super::{
    Bench,
    help::{
        DB, MINOR, SIZE, adjust, counters, create, create_md, db_lv, demote, device, device_size, down, file,
        found, grow, lv, lv_size, pool, promote, refused, remove, remove_conf, resize, twice,
        twice_when_closed, until, vg,
    },
};

/// Ready, as a contract found it.
fn is_ready(b: &dyn Bench) {
    let now = found(b, DB);
    assert_eq!((now.role, device(&now).disk), (Role::Secondary, DiskState::UpToDate), "{now:?}");
}

/// What was written last is there.
fn has(b: &dyn Bench, number: u64) {
    twice(b, promote(DB));
    assert_eq!(b.read(MINOR), number);
    twice_when_closed(b, demote(DB));
}

pub fn it_is_used_where_it_is_primary(b: &dyn Bench) {
    twice(b, promote(DB));
    assert_eq!(found(b, DB).role, Role::Primary);
    b.write(MINOR, 1);
    let user = b.open(MINOR, true).unwrap();
    refused(b, demote(DB), StepClass::Busy);
    // Refused as a whole: it goes on in use.
    refused(b, down(DB, MINOR), StepClass::Busy);
    refused(b, remove(&db_lv()), StepClass::Busy);
    let now = found(b, DB);
    assert_eq!((now.role, device(&now).disk), (Role::Primary, DiskState::UpToDate), "{now:?}");
    twice(b, promote(DB));
    drop(user);
    twice_when_closed(b, demote(DB));
    assert_eq!(found(b, DB).role, Role::Secondary);
    has(b, 1);
    is_ready(b);
}

pub fn opening_promotes_with_drbd_9_only(b: &dyn Bench) {
    if !b.drbd().is_9() {
        assert!(b.open(MINOR, true).is_err() && b.open(MINOR, false).is_err());
        return is_ready(b);
    }
    let user = b.open(MINOR, true).unwrap();
    until(b, "promoted", || found(b, DB).role == Role::Primary);
    refused(b, demote(DB), StepClass::Busy);
    refused(b, down(DB, MINOR), StepClass::Busy);
    drop(user);
    until(b, "demoted", || found(b, DB).role == Role::Secondary);
    is_ready(b);
}

/// With DRBD 9 it may go on reading on a Secondary, but the device does not go away under it.
pub fn a_reader_is_a_user_too(b: &dyn Bench) {
    twice(b, promote(DB));
    let reader = b.open(MINOR, false).unwrap();
    if b.drbd().is_9() {
        twice_when_closed(b, demote(DB));
        assert_eq!(found(b, DB).role, Role::Secondary);
    } else {
        refused(b, demote(DB), StepClass::Busy);
    }
    // DRBD 9's words for it are misleading, and some of it may be down by then: adjust brings that back.
    refused(b, down(DB, MINOR), StepClass::Busy);
    drop(reader);
    twice(b, adjust(DB));
    until(b, "UpToDate", || device(&found(b, DB)).disk == DiskState::UpToDate);
    twice_when_closed(b, demote(DB));
    is_ready(b);
}

pub fn what_has_data_is_not_made_anew(b: &dyn Bench) {
    let before = (vg(b), found(b, DB));
    twice(b, create(&db_lv(), SIZE));
    twice(b, create_md(&db_lv()));
    refused(b, create(&LvRef { generation: 2, ..db_lv() }, SIZE), StepClass::Refused);
    refused(b, remove(&db_lv()), StepClass::Busy);
    assert_eq!((vg(b), found(b, DB)), before);
    has(b, 1);
}

pub fn a_device_grows_in_use_and_keeps_what_it_has(b: &dyn Bench) {
    let before = (device_size(b, MINOR), lv(b, "db.0").unwrap().size);
    // There is nothing to take over, nothing to shrink, and no such room.
    twice(b, resize(DB));
    twice(b, grow(&db_lv(), Size(512)));
    refused(b, grow(&db_lv(), Size(1 << 50)), StepClass::Refused);
    assert_eq!((device_size(b, MINOR), lv(b, "db.0").unwrap().size), before);

    twice(b, promote(DB));
    b.write(MINOR, 2);
    let user = b.open(MINOR, true).unwrap();
    let larger = Size(SIZE.bytes() * 2);
    twice(b, grow(&db_lv(), lv_size(b, larger)));
    assert_eq!(lv(b, "db.0").unwrap().size, lv_size(b, larger));
    assert_eq!(device_size(b, MINOR), before.0);
    twice(b, resize(DB));
    assert!(device_size(b, MINOR) >= larger);
    assert_eq!(b.read(MINOR), 2);
    drop(user);
    twice_when_closed(b, demote(DB));
    is_ready(b);
}

/// Also where it is Primary, if nobody has it open.
pub fn what_is_down_is_gone_from_the_kernel_only(b: &dyn Bench) {
    twice(b, promote(DB));
    let before = (file(b, DB), lv(b, "db.0"));
    twice_when_closed(b, down(DB, MINOR));
    assert_eq!(b.resource(DB), None);
    assert_eq!(counters(b, MINOR), None);
    assert!(b.open(MINOR, false).is_err());
    assert_eq!((file(b, DB), lv(b, "db.0")), before);
    for step in [promote(DB), demote(DB), resize(DB)] {
        refused(b, step, StepClass::Gone);
    }
}

pub fn what_was_down_comes_back_with_its_data(b: &dyn Bench) {
    twice(b, create(&db_lv(), SIZE));
    twice(b, create_md(&db_lv()));
    twice(b, adjust(DB));
    until(b, "UpToDate", || device(&found(b, DB)).disk == DiskState::UpToDate);
    is_ready(b);
    assert!(device_size(b, MINOR).bytes() >= SIZE.bytes() * 2);
    has(b, 2);
    twice_when_closed(b, down(DB, MINOR));
    assert_eq!(b.resource(DB), None);
}

pub fn what_is_removed_leaves_nothing(b: &dyn Bench) {
    twice(b, remove_conf(DB));
    assert_eq!(file(b, DB), None);
    let others = [
        LvRef { generation: 2, ..db_lv() },
        LvRef { id: VolumeId::parse("ffffffffffffffff").unwrap(), ..db_lv() },
    ];
    for other in others {
        refused(b, remove(&other), StepClass::Refused);
    }
    let user = b.hold_lv(&pool(), "db.0");
    refused(b, remove(&db_lv()), StepClass::Busy);
    drop(user);
    twice_when_closed(b, remove(&db_lv()));
    let left = vg(b);
    assert_eq!((left.lvs.len(), left.free), (0, left.size));
    // Its next life finds nothing of it there.
    let next = LvRef { generation: 2, ..db_lv() };
    twice(b, create(&next, lv_size(b, SIZE)));
    assert!(lv(b, "db.0").unwrap().fresh);
    twice(b, remove(&next));
}
