//! What each step promises, tried on a real kernel: what it needs, what it does, and that doing it again does nothing.
//!
//! Inside a box that may be broken, as root, with a blank disk of 2G or more and DRBD's module loaded:
//! `HOLDFAST_TEST_DISK=/dev/vdb HOLDFAST_TEST_BOXES=box1=10.77.0.1 host_contract --ignored --nocapture a_step`
//! and, in two or three boxes at once, with all their names and addresses,
//! `HOLDFAST_TEST_DISK=/dev/vdb HOLDFAST_TEST_BOXES=box1=10.77.0.1,box2=10.77.0.2 host_contract --ignored --nocapture boxes`
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::{
    core::{
        claim::{Disk, Standing},
        conf,
        drbd::DrbdVersion,
        facts::{Known, Lv, Vg},
        intent::{Assignment, Leg, META_MINOR, META_NAME, META_PORT, META_SIZE, Member},
        names::{BoxName, DiskIdent, PoolName, VolumeId},
        node::{Facts, Source},
        size::Size,
        step::{LvRef, SeedHow, Step, StepClass},
    },
    edge::{drbd::module_version, meta::Meta, run::Programs, udev::Monitor},
    host::{Host, RealHost},
};

const MIB: u64 = 1 << 20;

type Members = BTreeMap<BoxName, Member>;

/// A DOS partition table with one partition, by hand: a box need not have a partitioning program.
const PARTITION: &str = r"printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\0\001\0' | dd of=D bs=1 seek=446 status=none;
    printf '\125\252' | dd of=D bs=1 seek=510 status=none; blockdev --rereadpt D";

struct World {
    host: RealHost,
    meta: Meta,
    device: String,
    drbd: DrbdVersion,
    pool: PoolName,
}

impl World {
    fn new() -> Self {
        let programs = Arc::new(Programs::resolve().unwrap());
        Self {
            host: RealHost::new(Arc::clone(&programs)),
            meta: Meta::new(programs),
            device: std::env::var("HOLDFAST_TEST_DISK").expect("HOLDFAST_TEST_DISK is a blank disk"),
            drbd: module_version().expect("DRBD's module is loaded"),
            pool: PoolName::new("contract").unwrap(),
        }
    }

    fn disk(&self) -> Disk {
        let Facts::Disks(Known::Known(disks)) = self.host.observe(Source::Disks) else { panic!("not known") };
        disks.into_values().find(|disk| disk.device == self.device).expect("the disk is there")
    }

    fn vg(&self) -> Option<Vg> {
        let Facts::Vgs(Known::Known(mut vgs)) = self.host.observe(Source::Vgs) else { panic!("not known") };
        vgs.remove(&self.pool)
    }

    fn lv(&self, name: &str) -> Option<Lv> {
        self.vg()?.lvs.into_iter().find(|lv| lv.name == name)
    }

    fn lv_ref(&self, name: &str, generation: u32) -> LvRef {
        LvRef {
            pool: self.pool.clone(),
            name: name.into(),
            id: VolumeId::parse("00112233445566aa").unwrap(),
            device_nr: 0,
            generation,
        }
    }

    /// Takes a step twice: the second time does nothing, and says that it is well.
    fn twice(&self, step: Step) {
        for time in ["first", "second"] {
            let started = Instant::now();
            let result = self.host.apply(&step);
            println!("{time} time {step}: {result:?} after {:.2} s", started.elapsed().as_secs_f32());
            result.unwrap();
        }
    }

    fn refused(&self, step: Step, class: StepClass) {
        let error = self.host.apply(&step).expect_err("it has to be refused");
        println!("{step}: {:?}: {error}", error.class);
        assert_eq!(error.class, class, "{error}");
    }

    fn claim(&self, ident: DiskIdent) -> Step {
        Step::ClaimDisk { pool: self.pool.clone(), device: self.device.clone(), ident }
    }

    /// With legs on the first of the boxes that are given: two diskful ones, and on DRBD 9 a third that votes.
    fn assignment(&self, resource: &str, minor: u32, port: u16, boxes: usize) -> (Assignment, Members) {
        let all = std::env::var("HOLDFAST_TEST_BOXES").expect("HOLDFAST_TEST_BOXES is NAME=ADDRESS,...");
        let member = |text: &str| {
            let (name, address) = text.split_once('=').unwrap();
            let (name, address) = (BoxName::new(name).unwrap(), address.parse().unwrap());
            (name.clone(), Member { name, public_key: String::new(), address })
        };
        let members: Members = all.split(',').map(member).collect();
        let most = if self.drbd.is_9() { boxes } else { boxes.min(2) };
        let leg =
            |node_id: u8| Leg { node_id, pool: (node_id < 2).then(|| self.pool.clone()), generation: 1 };
        let legs: BTreeMap<_, _> = members.keys().cloned().zip((0..).map(leg)).take(most).collect();
        let assignment = Assignment {
            id: VolumeId::parse("00112233445566aa").unwrap(),
            resource: resource.into(),
            secret: "00112233445566778899aabbccddeeff".into(),
            minor,
            port,
            size: META_SIZE,
            born: false,
            seed: legs.keys().next().cloned(),
            legs,
        };
        (assignment, members)
    }

    /// From nothing to a device that is UpToDate.
    fn build(&self, resource: &str, minor: u32, port: u16) {
        let (mut assignment, members) = self.assignment(resource, minor, port, 1);
        if resource == META_NAME {
            assignment.id = VolumeId::meta();
        }
        let lv = LvRef { id: assignment.id.clone(), ..self.lv_ref(&conf::lv_name(resource, 0), 1) };
        let (volume, size) = (resource.to_owned(), conf::lv_size_for(assignment.size, self.drbd));
        self.twice(Step::CreateLv { lv: lv.clone(), volume, size, pv: Some(self.device.clone()) });
        assert!(self.lv(&lv.name).unwrap().fresh);
        self.twice(Step::CreateMd { lv: lv.clone(), minor });
        let made = self.lv(&lv.name).unwrap();
        println!("zeroed: {}", made.zeroed);
        assert!(!made.fresh && made.active);
        let text = conf::render(&assignment, &members, self.drbd);
        self.twice(Step::WriteConf { resource: resource.into(), text: text.clone() });
        let Facts::Conf(Known::Known(files)) = self.host.observe(Source::Conf) else { panic!() };
        assert_eq!(files[resource], conf::crc(&text));
        self.twice(Step::Adjust { resource: resource.into() });
        self.twice(Step::Seed { resource: resource.into(), how: SeedHow::Force });
        assert!(device_bytes(minor) >= assignment.size.bytes());
    }

    fn remove(&self, resource: &str, minor: u32, id: VolumeId) {
        let lv = LvRef { id, ..self.lv_ref(&conf::lv_name(resource, 0), 1) };
        self.refused(Step::RemoveLv { lv: lv.clone() }, StepClass::Busy);
        self.refused(Step::Down { resource: resource.into(), minor: minor + 1 }, StepClass::Refused);
        self.twice(Step::Down { resource: resource.into(), minor });
        self.twice(Step::RemoveConf { resource: resource.into() });
        let other = LvRef { generation: 2, ..lv.clone() };
        self.refused(Step::RemoveLv { lv: other }, StepClass::Refused);
        self.twice(Step::RemoveLv { lv });
    }
}

fn sh(command: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn device_bytes(minor: u32) -> u64 {
    // Not by opening it: 8.4 refuses that while it is Secondary.
    let sectors: u64 = sh(&format!("cat /sys/block/drbd{minor}/size")).trim().parse().unwrap();
    sectors * 512
}

/// udev's record follows what was written a moment later.
fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs a blank disk in a box"]
fn a_step_does_what_it_says_once_and_touches_nothing_else() {
    let world = World::new();
    let disk = world.disk();
    println!("{disk:?}, DRBD {}", world.drbd);
    assert_eq!(disk.standing, Standing::Blank);
    world.refused(world.claim(DiskIdent::new("another")), StepClass::Refused);
    let gone =
        Step::ClaimDisk { pool: world.pool.clone(), device: "/dev/vdzz".into(), ident: disk.ident.clone() };
    world.refused(gone, StepClass::Gone);
    for (make, undo) in [
        ("mkfs.ext4 -q -F D", "wipefs -qa D"),
        (PARTITION, "dd if=/dev/zero of=D bs=1M count=1 status=none; blockdev --rereadpt D"),
        ("mkfs.ext4 -q -F D && mount D /mnt", "umount /mnt; wipefs -qa D"),
        ("mkswap -q D && swapon D", "swapoff D; wipefs -qa D"),
    ] {
        sh(&make.replace('D', &world.device));
        world.refused(world.claim(disk.ident.clone()), StepClass::Refused);
        until("not blank any more", || world.disk().standing != Standing::Blank);
        println!("{make}: {}", world.disk().standing);
        sh(&undo.replace('D', &world.device));
        until("blank again", || world.disk().standing == Standing::Blank);
    }
    world.twice(world.claim(disk.ident.clone()));
    until("claimed", || world.disk().standing == Standing::Claimed(world.pool.clone()));

    let lv = world.lv_ref("db.0", 1);
    sh("lvcreate -qq -an -Wn -Zn -n theirs -L 8M holdfast-contract");
    world.refused(Step::RemoveLv { lv: world.lv_ref("theirs", 1) }, StepClass::Refused);
    world.refused(Step::CreateMd { lv: world.lv_ref("theirs", 1), minor: 1000 }, StepClass::Refused);
    assert!(world.lv("theirs").is_none());
    sh("lvremove -qq -y holdfast-contract/theirs");

    let idle = world.lv_ref("idle.0", 1);
    let create = Step::CreateLv { lv: idle.clone(), volume: "idle".into(), size: Size(8 * MIB), pv: None };
    world.twice(create.clone());
    sh("lvchange -qq -an holdfast-contract/idle.0");
    assert!(!world.lv("idle.0").unwrap().active);
    world.twice(create);
    assert!(world.lv("idle.0").unwrap().active);
    sh("lvchange -qq -an holdfast-contract/idle.0");
    world.twice(Step::RemoveLv { lv: idle });

    world.build("db", 1000, 7000);
    let other = LvRef { generation: 2, ..lv.clone() };
    let again = Step::CreateLv { lv: other, volume: "db".into(), size: Size(8 * MIB), pv: None };
    world.refused(again, StepClass::Refused);
    let huge = Step::CreateLv {
        lv: world.lv_ref("huge.0", 1),
        volume: "huge".into(),
        size: Size(1 << 50),
        pv: None,
    };
    world.refused(huge, StepClass::Refused);

    let before = device_bytes(1000);
    world.twice(Step::Promote { resource: "db".into() });
    sh("echo written > /tmp/in; dd if=/tmp/in of=/dev/drbd1000 conv=fsync status=none");
    let larger = Size(META_SIZE.bytes() * 2);
    world.twice(Step::GrowLv { lv: lv.clone(), size: conf::lv_size_for(larger, world.drbd) });
    world.twice(Step::Resize { resource: "db".into() });
    assert!(before < larger.bytes() && device_bytes(1000) >= larger.bytes());
    {
        let _user = OpenOptions::new().write(true).open("/dev/drbd1000").unwrap();
        world.refused(Step::Demote { resource: "db".into() }, StepClass::Busy);
        world.refused(Step::Down { resource: "db".into(), minor: 1000 }, StepClass::Busy);
    }
    assert!(sh("head -c 8 /dev/drbd1000").starts_with("written"));
    world.twice(Step::Demote { resource: "db".into() });
    world.remove("db", 1000, lv.id);

    world.build(META_NAME, META_MINOR, META_PORT);
    println!("{}", world.meta.open(false).expect_err("it is empty"));
    let place = world.meta.open(true).unwrap();
    std::fs::write(place.join("store"), "kept").unwrap();
    assert_eq!(world.meta.open(false).unwrap(), place);
    world.refused(Step::Down { resource: META_NAME.into(), minor: META_MINOR }, StepClass::Busy);
    world.meta.close().unwrap();
    world.meta.close().unwrap();
    assert_eq!(std::fs::read_to_string(world.meta.open(true).unwrap().join("store")).unwrap(), "kept");
    world.meta.close().unwrap();
    world.remove(META_NAME, META_MINOR, VolumeId::meta());
    sh(&format!("vgremove -qq -y holdfast-contract; wipefs -qa {}", world.device));
}

/// Whether drbdsetup's status of `db` has all of these words.
fn says(words: &[&str]) -> bool {
    let status = sh("drbdsetup status db --verbose || true");
    words.iter().all(|word| status.contains(word))
}

#[test]
#[ignore = "needs blank disks in two or three boxes"]
fn boxes_together_make_grow_and_remove_a_volume() {
    let world = World::new();
    let boxes = std::env::var("HOLDFAST_TEST_BOXES").unwrap().split(',').count();
    let (mut assignment, members) = world.assignment("db", 1000, 7000, boxes);
    let me = BoxName::new(sh("uname -n").trim()).unwrap();
    let Some(leg) = assignment.legs.get(&me).cloned() else { return println!("8.4 has no leg for {me}") };
    let (diskful, first) = (leg.pool.is_some(), assignment.seed.as_ref() == Some(&me));
    let lv = world.lv_ref("db.0", 1);
    let size = |assignment: &Assignment| conf::lv_size_for(assignment.size, world.drbd);
    if diskful {
        world.twice(world.claim(world.disk().ident));
        let size = size(&assignment);
        world.twice(Step::CreateLv { lv: lv.clone(), volume: "db".into(), size, pv: None });
        world.twice(Step::CreateMd { lv: lv.clone(), minor: 1000 });
    }
    let text = conf::render(&assignment, &members, world.drbd);
    world.twice(Step::WriteConf { resource: "db".into(), text });
    world.twice(Step::Adjust { resource: "db".into() });
    if diskful {
        until("connected", || says(&["replication:Established", "peer-disk:Inconsistent"]) || !first);
    }
    if first {
        let how = if world.lv("db.0").unwrap().zeroed { SeedHow::ClearBitmap } else { SeedHow::Force };
        world.twice(Step::Seed { resource: "db".into(), how });
        world.twice(Step::Promote { resource: "db".into() });
    }
    until("both replicas are UpToDate", || says(&["peer-disk:UpToDate"]));
    assignment.size = Size(assignment.size.bytes() * 2);
    if diskful {
        world.twice(Step::GrowLv { lv: lv.clone(), size: size(&assignment) });
    }
    if first {
        until("grown", || {
            let result = world.host.apply(&Step::Resize { resource: "db".into() });
            println!("resize: {result:?}, {} bytes", device_bytes(1000));
            device_bytes(1000) >= assignment.size.bytes()
        });
    }
    until("grown", || device_bytes(1000) >= assignment.size.bytes());
    if first {
        until("synced", || !says(&["SyncSource"]));
        world.twice(Step::Demote { resource: "db".into() });
    } else {
        until("the first is done", || !says(&["role:Primary"]));
    }
    world.twice(Step::Down { resource: "db".into(), minor: 1000 });
    world.twice(Step::RemoveConf { resource: "db".into() });
    if diskful {
        world.twice(Step::RemoveLv { lv });
        sh(&format!("vgremove -qq -y holdfast-contract; wipefs -qa {}", world.device));
    }
}

#[test]
#[ignore = "needs a blank disk in a box"]
fn looking_is_not_heard_but_a_change_is() {
    let device = World::new().device;
    let (to, from) = std::sync::mpsc::channel();
    let _monitor = Monitor::start(move || to.send(()).unwrap_or_default()).unwrap();
    let hear = |seconds| from.recv_timeout(Duration::from_secs(seconds));
    assert!(hear(10).is_ok(), "the first look is asked for");
    while hear(2).is_ok() {}
    for _ in 0..3 {
        // A new one each time, which remembers no probe.
        World::new().disk();
    }
    assert!(hear(3).is_err(), "looking made an event: it would never end");
    sh(&format!("mkswap -q {device}"));
    assert!(hear(10).is_ok(), "a new signature is heard of");
    sh(&format!("wipefs -qa {device}"));
}
