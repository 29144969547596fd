//! Claiming disks.

use holdfast::core::{
    claim::Standing,
    names::{DiskIdent, PoolName},
    step::{Step, StepClass},
};

use super::{
    Bench, Spoil,
    help::{claim, create, disk, lv_ref, pool, refused, remove, standing, twice, until, vg, vg_of},
};

pub fn a_disk_is_taken_only_as_the_one_that_was_seen(b: &dyn Bench) {
    let disk = disk(b, &b.disks()[0]);
    println!("{disk:?}, DRBD {}", b.drbd());
    assert_eq!(disk.standing, Standing::Blank);
    refused(b, claim(&disk.device, DiskIdent::new("another")), StepClass::Refused);
    refused(b, claim("/dev/vdzz", disk.ident), StepClass::Gone);
    assert_eq!(standing(b, &disk.device), Standing::Blank);
    assert_eq!(vg_of(b, &pool()), None);
}

pub fn a_disk_with_anything_on_it_is_refused(b: &dyn Bench) {
    let device = &b.disks()[0];
    let ident = disk(b, device).ident;
    for how in [Spoil::FileSystem, Spoil::PartitionTable, Spoil::Mounted, Spoil::Swap] {
        b.spoil(device, how);
        // At once, whether or not udev has looked already.
        refused(b, claim(device, ident.clone()), StepClass::Refused);
        let wanted = |standing: Standing| match how {
            Spoil::FileSystem => matches!(standing, Standing::Foreign(_)),
            Spoil::PartitionTable | Spoil::Mounted | Spoil::Swap => matches!(standing, Standing::InUse(_)),
        };
        until(b, &format!("{how:?} is seen"), || wanted(standing(b, device)));
        println!("   {how:?}: {}", standing(b, device));
        refused(b, claim(device, ident.clone()), StepClass::Refused);
        b.clean(device, how);
        until(b, "blank again", || standing(b, device) == Standing::Blank);
    }
    assert_eq!(vg_of(b, &pool()), None);
}

pub fn a_blank_disk_becomes_the_pools_once(b: &dyn Bench) {
    let disk = disk(b, &b.disks()[0]);
    twice(b, claim(&disk.device, disk.ident.clone()));
    until(b, "claimed", || standing(b, &disk.device) == Standing::Claimed(pool()));
    let vg = vg(b);
    assert_eq!(vg.pvs.keys().collect::<Vec<_>>(), [&disk.device]);
    assert_eq!((vg.free, vg.missing_pvs, vg.lvs.len()), (vg.size, 0, 0));
    // The first MiB and what is less than an extent are LVM's.
    assert!(vg.size < disk.size && vg.size.bytes() + 2 * vg.extent.bytes() >= disk.size.bytes(), "{vg:?}");
    // By now whatever its name stands for is not looked at: it is in the group.
    twice(b, claim(&disk.device, disk.ident));
    assert_eq!(super::help::vg(b), vg);
}

/// Where there is a second one.
pub fn another_disk_makes_the_pool_larger(b: &dyn Bench) {
    let disks = b.disks();
    let [first, second, ..] = &disks[..] else { return println!("   there is one disk only") };
    let before = vg(b);
    twice(b, claim(second, disk(b, second).ident));
    until(b, "claimed", || standing(b, second) == Standing::Claimed(pool()));
    let after = vg(b);
    assert_eq!(after.pvs.len(), 2);
    assert_eq!(after.size.bytes(), before.size.bytes() + after.pvs[second].bytes());
    let lv = lv_ref("second.0");
    let size = after.extent;
    twice(b, Step::CreateLv { lv: lv.clone(), volume: "second".into(), size, pv: Some(second.clone()) });
    let filled = vg(b);
    assert_eq!(filled.pvs[first], after.pvs[first]);
    assert_eq!(filled.pvs[second].bytes(), after.pvs[second].bytes() - size.bytes());
    twice(b, remove(&lv));
    assert_eq!(vg(b), after);
}

pub fn a_disk_of_one_pool_is_not_anothers(b: &dyn Bench) {
    let disk = disk(b, &b.disks()[0]);
    let other = PoolName::new("other").unwrap();
    let step = Step::ClaimDisk { pool: other.clone(), device: disk.device.clone(), ident: disk.ident };
    refused(b, step, StepClass::Refused);
    assert_eq!(vg_of(b, &other), None);
    assert_eq!(standing(b, &disk.device), Standing::Claimed(pool()));
    // And what has no group gets no LV.
    let lv = holdfast::core::step::LvRef { pool: other, ..lv_ref("db.0") };
    refused(b, create(&lv, super::help::SIZE), StepClass::Refused);
}
