//! What all contracts use: names and sizes, looking, and taking steps.

use holdfast::core::{
    claim::{Disk, Standing},
    conf,
    drbd::{Counters, Device, Resource},
    facts::{ConfFile, Known, Lv, Vg},
    intent::{Assignment, Leg},
    names::{DiskIdent, PoolName, VolumeId},
    node::{Facts, Source},
    size::Size,
    step::{LvRef, Step, StepClass, StepError},
};

use super::Bench;

pub const MIB: u64 = 1 << 20;
pub const DB: &str = "db";
pub const MINOR: u32 = 1000;
pub const SIZE: Size = Size(64 * MIB);
/// What a box may take for something that has to come by itself.
const PAUSES: u32 = 600;

pub fn pool() -> PoolName {
    PoolName::new("contract").unwrap()
}

pub fn id() -> VolumeId {
    VolumeId::parse("00112233445566aa").unwrap()
}

pub fn lv_ref(name: &str) -> LvRef {
    LvRef { pool: pool(), name: name.into(), id: id(), device_nr: 0, generation: 1 }
}

/// `db`'s LV.
pub fn db_lv() -> LvRef {
    lv_ref("db.0")
}

/// How large the LV of a device has to be.
pub fn lv_size(b: &dyn Bench, device: Size) -> Size {
    conf::lv_size_for(device, b.drbd())
}

/// Legs on the first of the boxes: two diskful ones, and with DRBD 9 a third without a disk.
pub fn assignment(b: &dyn Bench, resource: &str, minor: u32, boxes: usize) -> Assignment {
    let most = if b.drbd().is_9() { boxes } else { boxes.min(2) };
    let leg = |node_id: u8| Leg { node_id, pool: (node_id < 2).then(pool), generation: 1 };
    let legs = b.members().into_keys().zip((0..).map(leg)).take(most).collect();
    Assignment {
        id: id(),
        resource: resource.into(),
        secret: "00112233445566778899aabbccddeeff".into(),
        minor,
        port: 6000 + u16::try_from(minor).unwrap(),
        size: SIZE,
        born: false,
        seed: b.members().into_keys().next(),
        legs,
    }
}

/// `db` alone on this box, whatever other boxes there are.
pub fn lone(b: &dyn Bench) -> Assignment {
    let mut lone = assignment(b, DB, MINOR, 1);
    let leg = lone.legs.pop_first().unwrap().1;
    lone.legs.insert(b.me(), leg);
    lone.seed = Some(b.me());
    lone
}

/// The .res file.
pub fn text(b: &dyn Bench, assignment: &Assignment) -> String {
    conf::render(assignment, &b.members(), b.drbd())
}

// ---- steps

/// Its outcome is shown, with the time that it took.
pub fn take(b: &dyn Bench, step: &Step) -> Result<(), StepError> {
    let started = std::time::Instant::now();
    let result = b.host().apply(step);
    let said = result.as_ref().map_or_else(|e| format!("{:?}: {e}", e.class), |()| "done".to_owned());
    println!("   {step}: {said} ({:.2} s)", started.elapsed().as_secs_f32());
    result
}

/// LVs and files, as they are seen.
fn seen(b: &dyn Bench) -> String {
    format!("{:?} {:?}", b.host().observe(Source::Vgs), b.host().observe(Source::Conf))
}

/// It is well, both times; the second time nothing is done to LVs and files.
pub fn twice(b: &dyn Bench, step: Step) {
    take(b, &step).unwrap();
    let once = seen(b);
    take(b, &step).unwrap();
    assert_eq!(seen(b), once, "{step} did something the second time");
}

/// The same; but what closed it a moment ago, or udev, may have it open still.
pub fn twice_when_closed(b: &dyn Bench, step: Step) {
    until(b, "closed", || match take(b, &step) {
        Err(error) if error.class == StepClass::Busy => false,
        result => result.map(|()| true).unwrap(),
    });
    take(b, &step).unwrap();
}

pub fn refused(b: &dyn Bench, step: Step, class: StepClass) {
    let error = take(b, &step).expect_err("it has to be refused");
    assert_eq!(error.class, class, "{step}: {error}");
    assert!(!error.text.is_empty() && !error.text.contains('\n'), "{error}");
}

pub fn claim(device: &str, ident: DiskIdent) -> Step {
    Step::ClaimDisk { pool: pool(), device: device.into(), ident }
}

pub fn create(lv: &LvRef, size: Size) -> Step {
    Step::CreateLv { lv: lv.clone(), volume: DB.into(), size, pv: None }
}

pub fn create_md(lv: &LvRef) -> Step {
    Step::CreateMd { lv: lv.clone(), minor: MINOR }
}

pub fn grow(lv: &LvRef, size: Size) -> Step {
    Step::GrowLv { lv: lv.clone(), size }
}

pub fn remove(lv: &LvRef) -> Step {
    Step::RemoveLv { lv: lv.clone() }
}

pub fn write_conf(resource: &str, text: String) -> Step {
    Step::WriteConf { resource: resource.into(), text }
}

pub fn remove_conf(resource: &str) -> Step {
    Step::RemoveConf { resource: resource.into() }
}

pub fn adjust(resource: &str) -> Step {
    Step::Adjust { resource: resource.into() }
}

pub fn promote(resource: &str) -> Step {
    Step::Promote { resource: resource.into() }
}

pub fn demote(resource: &str) -> Step {
    Step::Demote { resource: resource.into() }
}

pub fn resize(resource: &str) -> Step {
    Step::Resize { resource: resource.into() }
}

pub fn down(resource: &str, minor: u32) -> Step {
    Step::Down { resource: resource.into(), minor }
}

// ---- looking

pub fn disk(b: &dyn Bench, device: &str) -> Disk {
    let Facts::Disks(Known::Known(disks)) = b.host().observe(Source::Disks) else { panic!("not known") };
    disks.into_values().find(|disk| disk.device == device).expect("the disk is there")
}

pub fn standing(b: &dyn Bench, device: &str) -> Standing {
    disk(b, device).standing
}

pub fn vg_of(b: &dyn Bench, pool: &PoolName) -> Option<Vg> {
    let Facts::Vgs(Known::Known(mut vgs)) = b.host().observe(Source::Vgs) else { panic!("not known") };
    vgs.remove(pool)
}

pub fn vg(b: &dyn Bench) -> Vg {
    vg_of(b, &pool()).expect("the group is there")
}

pub fn lv(b: &dyn Bench, name: &str) -> Option<Lv> {
    vg_of(b, &pool())?.lvs.into_iter().find(|lv| lv.name == name)
}

/// Our .res file.
pub fn file(b: &dyn Bench, resource: &str) -> Option<ConfFile> {
    let Facts::Conf(Known::Known(files)) = b.host().observe(Source::Conf) else { panic!("not known") };
    files.get(resource).copied()
}

pub fn counters(b: &dyn Bench, minor: u32) -> Option<Counters> {
    let Facts::Counters(all) = b.host().observe(Source::Counters) else { panic!("not counters") };
    all.get(&minor).copied()
}

pub fn device_size(b: &dyn Bench, minor: u32) -> Size {
    Size(counters(b, minor).expect("the device is there").size_kib * 1024)
}

/// A resource that the kernel has.
pub fn found(b: &dyn Bench, name: &str) -> Resource {
    b.resource(name).expect("the kernel has it")
}

/// Its one device.
pub fn device(resource: &Resource) -> &Device {
    assert_eq!(resource.devices.len(), 1, "{resource:?}");
    &resource.devices[&0]
}

/// For what comes by itself a moment later.
pub fn until(b: &dyn Bench, what: &str, done: impl Fn() -> bool) {
    for _ in 0..PAUSES {
        if done() {
            return;
        }
        b.pause();
    }
    panic!("it does not come: {what}");
}
