//! Making, filling, and not touching LVs.

use holdfast::core::{
    facts::Lv,
    names::{PoolName, VolumeId},
    size::Size,
    step::{LvRef, Step, StepClass},
};

use super::{
    Bench,
    help::{
        MIB, SIZE, create, create_md, db_lv, grow, id, lv, lv_ref, lv_size, pool, refused, remove, take,
        twice, vg,
    },
};

pub fn what_is_not_ours_in_a_group_is_left_alone(b: &dyn Bench) {
    b.make_foreign_lv(&pool(), "theirs");
    let before = vg(b);
    assert!(before.lvs.is_empty(), "{before:?}");
    let theirs = lv_ref("theirs");
    for step in [create(&theirs, SIZE), create_md(&theirs), grow(&theirs, SIZE), remove(&theirs)] {
        refused(b, step, StepClass::Refused);
    }
    assert_eq!(vg(b), before);
    b.remove_foreign_lv(&pool(), "theirs");
    assert_eq!(vg(b).free, Size(before.free.bytes() + 8 * MIB));
}

pub fn an_lv_that_is_not_there_is_gone_and_removed(b: &dyn Bench) {
    let missing = lv_ref("missing.0");
    refused(b, create_md(&missing), StepClass::Gone);
    refused(b, grow(&missing, SIZE), StepClass::Gone);
    twice(b, remove(&missing));
    // A group that is not there may come back with its disks, and the LV with it.
    let nowhere = LvRef { pool: PoolName::new("nowhere").unwrap(), ..missing };
    for step in [create(&nowhere, SIZE), create_md(&nowhere), grow(&nowhere, SIZE), remove(&nowhere)] {
        refused(b, step, StepClass::Refused);
    }
}

pub fn an_lv_needs_room(b: &dyn Bench) {
    let before = vg(b);
    refused(b, create(&lv_ref("huge.0"), Size(1 << 50)), StepClass::Refused);
    let elsewhere = Step::CreateLv {
        lv: lv_ref("away.0"),
        volume: "away".into(),
        size: SIZE,
        pv: Some("/dev/vdzz".to_owned()),
    };
    refused(b, elsewhere, StepClass::Refused);
    assert_eq!(vg(b), before);
}

pub fn an_lv_that_is_not_active_is_used_as_others(b: &dyn Bench) {
    let idle = lv_ref("idle.0");
    let active = || lv(b, "idle.0").unwrap().active;
    twice(b, create(&idle, Size(8 * MIB)));
    assert!(active());
    b.deactivate_lv(&pool(), "idle.0");
    assert!(!active());
    twice(b, create(&idle, Size(8 * MIB)));
    assert!(active());
    b.deactivate_lv(&pool(), "idle.0");
    twice(b, create_md(&idle));
    b.deactivate_lv(&pool(), "idle.0");
    twice(b, remove(&idle));
    assert_eq!(lv(b, "idle.0"), None);
}

pub fn an_lv_is_made_once_and_is_fresh(b: &dyn Bench) {
    let before = vg(b);
    // A size that is no multiple of an extent is rounded up.
    let size = Size(lv_size(b, SIZE).bytes() - 512);
    let pv = Some(b.disks()[0].clone());
    twice(b, Step::CreateLv { lv: db_lv(), volume: "db".into(), size, pv: pv.clone() });
    let after = vg(b);
    let wanted = Lv {
        name: "db.0".into(),
        id: id(),
        device_nr: 0,
        generation: 1,
        size: lv_size(b, SIZE),
        fresh: true,
        zeroed: false,
        active: true,
    };
    assert_eq!(after.lvs, [wanted]);
    assert_eq!(after.free.bytes(), before.free.bytes() - lv_size(b, SIZE).bytes());
    // Again with another size: it is there, and stays as it is.
    twice(b, create(&db_lv(), Size(1 << 50)));
    assert_eq!(vg(b), after);
}

pub fn an_lv_of_another_life_is_left_alone(b: &dyn Bench) {
    let before = vg(b);
    let others = [
        LvRef { generation: 2, ..db_lv() },
        LvRef { device_nr: 1, ..db_lv() },
        LvRef { id: VolumeId::parse("ffffffffffffffff").unwrap(), ..db_lv() },
    ];
    for other in others {
        for step in [create(&other, SIZE), create_md(&other), grow(&other, SIZE), remove(&other)] {
            refused(b, step, StepClass::Refused);
        }
    }
    assert_eq!(vg(b), before);
}

pub fn what_is_open_gets_no_metadata_and_is_not_removed(b: &dyn Bench) {
    let user = b.hold_lv(&pool(), "db.0");
    refused(b, create_md(&db_lv()), StepClass::Busy);
    refused(b, remove(&db_lv()), StepClass::Busy);
    assert!(lv(b, "db.0").unwrap().fresh);
    drop(user);
}

pub fn metadata_is_made_once(b: &dyn Bench) {
    take(b, &create_md(&db_lv())).unwrap();
    let made = lv(b, "db.0").unwrap();
    println!("   zeroed: {}", made.zeroed);
    assert!(!made.fresh && made.active);
    twice(b, create_md(&db_lv()));
    // And it is not made anew by making the LV again.
    twice(b, create(&db_lv(), SIZE));
    assert_eq!(lv(b, "db.0"), Some(made));
}
