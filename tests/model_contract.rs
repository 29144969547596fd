//! The contracts on the model world: what the model says of a step is what a kernel says of it (tests/host_contract.rs).
#![allow(clippy::unwrap_used)]

mod contract;

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use contract::{Bench, Held, Members, Spoil};
use holdfast::{
    core::{
        drbd::{DrbdVersion, Resource},
        names::{BoxName, DiskIdent, DiskName, PoolName},
        size::Size,
    },
    host::Host,
    sim::{
        Content, LogicalVolume, ModelHost, World,
        drbd::{BoxId, Version},
    },
};

const EIGHT: DrbdVersion = DrbdVersion { major: 8, minor: 4, patch: 11 };
const NINE: DrbdVersion = DrbdVersion { major: 9, minor: 2, patch: 18 };
const MIB: u64 = 1 << 20;
/// A box that fails must not let the others wait for ever.
const MEETING_LIMIT: Duration = Duration::from_secs(60);

/// One box of a model world.
struct ModelBench {
    host: ModelHost,
    at: BoxId,
    drbd: DrbdVersion,
    shared: Arc<Shared>,
}

/// What all boxes of a world have in common.
#[derive(Default)]
struct Shared {
    boxes: usize,
    /// The number that was written with each content.
    numbers: Mutex<BTreeMap<Version, u64>>,
    /// How many wait where, and how often all have met.
    meeting: Mutex<(usize, u64, String)>,
    met: Condvar,
}

/// A world's boxes, with two disks each that give zeroes or not.
fn benches(boxes: usize, drbd: DrbdVersion, zeroes: bool) -> Vec<ModelBench> {
    let mut world = World::new(boxes, drbd, 1);
    for (at, machine) in world.boxes.iter_mut().enumerate() {
        machine.zeroes = zeroes;
        for slot in ["sdb", "sdc"] {
            let (ident, slot) = (DiskIdent::new(&format!("{at}{slot}")), DiskName::new(slot).unwrap());
            assert!(machine.storage.plug(&slot, ident, Size(1024 * MIB), Content::Blank));
        }
    }
    let world = Arc::new(Mutex::new(world));
    let shared = Arc::new(Shared { boxes, ..Shared::default() });
    let bench = |at| ModelBench {
        host: ModelHost::new(Arc::clone(&world), at),
        at,
        drbd,
        shared: Arc::clone(&shared),
    };
    (0..boxes).map(bench).collect()
}

impl ModelBench {
    fn world(&self) -> MutexGuard<'_, World> {
        self.host.world()
    }

    fn go_on(&self, ms: u64) {
        let mut world = self.world();
        let limit = world.now_ms + ms;
        while world.step(limit) {}
    }

    fn resource_of(&self, minor: u32) -> Option<String> {
        let all = self.world().kernels.look_all(self.at);
        all.into_values().find(|r| r.devices.values().any(|d| d.minor == minor)).map(|r| r.name)
    }

    fn on_drive(&self, device: &str, content: Content, in_use: Option<&str>) {
        let mut world = self.world();
        let drives = &mut world.boxes[self.at].storage.drives;
        let drive = drives.iter_mut().find(|drive| drive.device() == device).unwrap();
        (drive.content, drive.in_use) = (content, in_use.map(str::to_owned));
    }

    fn on_lv(&self, pool: &PoolName, name: &str, act: impl FnOnce(&mut LogicalVolume)) {
        let mut world = self.world();
        let lvs = world.boxes[self.at].storage.groups.get_mut(pool).unwrap();
        act(lvs.iter_mut().find(|lv| lv.name == name).unwrap());
    }

    fn on_conf(&self, act: impl FnOnce(&mut BTreeMap<String, String>)) {
        act(&mut self.world().boxes[self.at].conf);
    }
}

/// Undone when it is dropped.
struct Undo<F: FnMut()>(F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Bench for ModelBench {
    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn drbd(&self) -> DrbdVersion {
        self.drbd
    }

    fn me(&self) -> BoxName {
        self.world().boxes[self.at].name.clone()
    }

    fn members(&self) -> Members {
        let world = self.world();
        let members = (0..self.shared.boxes).filter_map(|at| world.member(at));
        members.map(|member| (member.name.clone(), member)).collect()
    }

    fn disks(&self) -> Vec<String> {
        ["/dev/sdb", "/dev/sdc"].map(str::to_owned).into()
    }

    fn resource(&self, name: &str) -> Option<Resource> {
        self.go_on(300);
        self.world().kernels.look(self.at, name)
    }

    fn pause(&self) {
        self.go_on(200);
    }

    fn spoil(&self, device: &str, how: Spoil) {
        let (content, in_use) = match how {
            Spoil::FileSystem => ("ext4", None),
            Spoil::PartitionTable => ("dos", Some("partition")),
            Spoil::Mounted => ("ext4", Some("mounted on /mnt")),
            Spoil::Swap => ("swap", Some("swap")),
        };
        self.on_drive(device, Content::Foreign(content.to_owned()), in_use);
    }

    fn clean(&self, device: &str, _how: Spoil) {
        self.on_drive(device, Content::Blank, None);
    }

    fn make_foreign_lv(&self, pool: &PoolName, name: &str) {
        let mut world = self.world();
        let size = Size(8 * MIB);
        let backing = world.kernels.new_backing(size);
        let since_ms = world.now_ms;
        let storage = &mut world.boxes[self.at].storage;
        let of_pool = |content: &Content| content == &Content::Pv(pool.clone());
        let on = storage.drives.iter().position(|drive| of_pool(&drive.content)).unwrap();
        storage.groups.get_mut(pool).unwrap().push(LogicalVolume {
            name: name.to_owned(),
            tags: None,
            size,
            fresh: false,
            zeroed: false,
            on: vec![(on, size.bytes())],
            active: false,
            held: false,
            backing,
            since_ms,
        });
    }

    fn remove_foreign_lv(&self, pool: &PoolName, name: &str) {
        let mut world = self.world();
        world.boxes[self.at].storage.groups.get_mut(pool).unwrap().retain(|lv| lv.name != name);
    }

    fn deactivate_lv(&self, pool: &PoolName, name: &str) {
        self.on_lv(pool, name, |lv| lv.active = false);
    }

    fn hold_lv(&self, pool: &PoolName, name: &str) -> Held {
        self.on_lv(pool, name, |lv| lv.held = true);
        let (host, at, pool, name) = (self.host.clone(), self.at, pool.clone(), name.to_owned());
        Box::new(Undo(move || {
            let mut world = host.world();
            let lvs = world.boxes[at].storage.groups.get_mut(&pool).unwrap();
            lvs.iter_mut().filter(|lv| lv.name == name).for_each(|lv| lv.held = false);
        }))
    }

    fn write_foreign_conf(&self, resource: &str) {
        self.on_conf(|conf| drop(conf.insert(resource.to_owned(), "# Made by somebody else\n".to_owned())));
    }

    fn remove_foreign_conf(&self, resource: &str) {
        self.on_conf(|conf| drop(conf.remove(resource)));
    }

    fn open(&self, minor: u32, write: bool) -> Result<Held, String> {
        let name = self.resource_of(minor).ok_or("there is no such device")?;
        if !write {
            // Who may not read may not open for reading either.
            let read = self.world().kernels.read(self.at, &name);
            read.map_err(|error| format!("{error:?}"))?;
            self.world().boxes[self.at].readers.push(name.clone());
            let (host, at) = (self.host.clone(), self.at);
            return Ok(Box::new(Undo(move || host.world().boxes[at].readers.retain(|other| *other != name))));
        }
        self.world().kernels.open(self.at, &name).map_err(|error| format!("{error:?}"))?;
        let (host, at) = (self.host.clone(), self.at);
        Ok(Box::new(Undo(move || host.world().kernels.close(at, &name))))
    }

    fn write(&self, minor: u32, number: u64) {
        let name = self.resource_of(minor).unwrap();
        let _held = self.open(minor, true).unwrap();
        let version = self.world().kernels.write(self.at, &name).unwrap();
        self.shared.numbers.lock().unwrap().insert(version, number);
    }

    fn read(&self, minor: u32) -> u64 {
        let name = self.resource_of(minor).unwrap();
        let version = self.world().kernels.read(self.at, &name).unwrap();
        self.shared.numbers.lock().unwrap().get(&version).copied().unwrap_or(0)
    }

    fn meet(&self, place: &str) {
        let mut meeting = self.shared.meeting.lock().unwrap();
        if meeting.0 == 0 {
            meeting.2 = place.to_owned();
        }
        assert_eq!(meeting.2, place, "another box is elsewhere");
        meeting.0 += 1;
        if meeting.0 == self.shared.boxes {
            (meeting.0, meeting.1) = (0, meeting.1 + 1);
            self.shared.met.notify_all();
            return;
        }
        let round = meeting.1;
        let here = |meeting: &mut (usize, u64, String)| meeting.1 == round;
        let (_meeting, timeout) = self.shared.met.wait_timeout_while(meeting, MEETING_LIMIT, here).unwrap();
        assert!(!timeout.timed_out(), "nobody comes to {place:?}");
    }

    fn tidy(&self, pool: &PoolName) {
        let mut world = self.world();
        let storage = &mut world.boxes[self.at].storage;
        assert!(storage.groups.remove(pool).is_some_and(|lvs| lvs.is_empty()), "LVs are left");
        for drive in storage.drives.iter_mut().filter(|drive| drive.content == Content::Pv(pool.clone())) {
            drive.content = Content::Blank;
        }
        assert!(world.kernels.look_all(self.at).is_empty() && world.boxes[self.at].conf.is_empty());
    }
}

fn alone(drbd: DrbdVersion) {
    for zeroes in [false, true] {
        contract::alone(&benches(1, drbd, zeroes)[0]);
    }
}

fn together(drbd: DrbdVersion) {
    for boxes in [2, 3] {
        std::thread::scope(|scope| {
            for bench in benches(boxes, drbd, true) {
                scope.spawn(move || contract::together(&bench));
            }
        });
    }
}

#[test]
fn every_step_keeps_its_promises_alone_with_8_4() {
    alone(EIGHT);
}

#[test]
fn every_step_keeps_its_promises_alone_with_9() {
    alone(NINE);
}

#[test]
fn every_step_keeps_its_promises_in_several_boxes_with_8_4() {
    together(EIGHT);
}

#[test]
fn every_step_keeps_its_promises_in_several_boxes_with_9() {
    together(NINE);
}
