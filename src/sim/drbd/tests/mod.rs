//! One test at least for each paragraph of the model, and what it tells against what real kernels told.

use std::collections::BTreeMap;

use super::*;
use crate::core::{
    conf,
    drbd::{ConnectionState, DiskState, DrbdVersion, PeerDevice, ReplicationState, Resource, Role},
    intent::{Assignment, Leg, Member},
    names::{BoxName, PoolName, VolumeId},
    size::Size,
    step::{SeedHow, StepClass, StepError},
};

mod acts;
mod heal;
mod recorded;
mod replicas;
mod storm;

const NINE: DrbdVersion = DrbdVersion { major: 9, minor: 2, patch: 18 };
const EIGHT: DrbdVersion = DrbdVersion { major: 8, minor: 4, patch: 11 };
const GIB: u64 = 1 << 30;
const DB: &str = "db";

/// Boxes 1 to 4 and one resource.
struct Lab {
    k: Kernels,
    version: DrbdVersion,
    a: Assignment,
    disks: BTreeMap<BoxId, BackingId>,
    now: u64,
}

fn box_name(n: usize) -> BoxName {
    BoxName::new(format!("box{n}")).unwrap()
}

fn leg(n: usize, diskful: bool) -> (BoxName, Leg) {
    let pool = diskful.then(|| PoolName::new("main").unwrap());
    (box_name(n), Leg { node_id: n as u8 - 1, pool, generation: 1 })
}

fn number(name: &str) -> Option<BoxId> {
    name.strip_prefix("box")?.parse().ok()
}

impl Lab {
    /// The first boxes have replicas, the next ones are diskless; nothing is up.
    fn new(version: DrbdVersion, diskful: usize, diskless: usize) -> Self {
        let legs = (1..=diskful + diskless).map(|n| leg(n, n <= diskful)).collect();
        let a = Assignment {
            id: VolumeId::parse("0123456789abcdef").unwrap(),
            resource: DB.to_owned(),
            secret: "0011".to_owned(),
            minor: 1000,
            port: 7000,
            size: Size(GIB),
            born: true,
            seed: None,
            legs,
        };
        let mut lab = Lab { k: Kernels::new(version), version, a, disks: BTreeMap::new(), now: 0 };
        (1..=diskful).for_each(|n| lab.new_disk(n));
        lab
    }

    /// All up, connected and UpToDate, as holdfast makes it.
    fn ready(version: DrbdVersion, diskful: usize, diskless: usize) -> Self {
        let mut lab = Lab::new(version, diskful, diskless);
        (1..=diskful + diskless).for_each(|n| lab.up(n).unwrap());
        lab.run(2000);
        let how = if diskful > 1 { SeedHow::ClearBitmap } else { SeedHow::Force };
        lab.k.seed(1, DB, how).unwrap();
        lab
    }

    fn new_disk(&mut self, n: BoxId) {
        let id = self.k.new_backing(conf::lv_size_for(self.a.size, self.version));
        self.k.create_md(id).unwrap();
        self.disks.insert(n, id);
    }

    fn text(&self) -> String {
        let member = |n: usize| Member {
            name: box_name(n),
            public_key: String::new(),
            address: format!("10.0.0.{n}").parse().unwrap(),
        };
        let members = (1..=4).map(|n| (box_name(n), member(n))).collect();
        conf::render(&self.a, &members, self.version)
    }

    fn up(&mut self, n: BoxId) -> Result<(), StepError> {
        let text = self.text();
        self.up_with(n, &text)
    }

    fn up_with(&mut self, n: BoxId, text: &str) -> Result<(), StepError> {
        let disk = self.disks.get(&n).copied();
        let backing = |path: &str| disk.filter(|_| path == "/dev/holdfast-main/db.0");
        self.k.adjust(n, text, &number, &format!("box{n}"), &backing)
    }

    /// Time goes on, in the steps that the model asks for.
    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(wake) = self.k.next_wake_ms().filter(|wake| *wake <= end) {
            assert!(wake >= self.now, "never back in time");
            self.now = wake;
            self.k.tick(wake);
            assert!(self.k.next_wake_ms().is_none_or(|next| next > wake), "a tick does what is due");
        }
        self.now = end;
        self.k.tick(end);
    }

    fn wire(&mut self, a: BoxId, b: BoxId, up: bool) {
        self.k.wire(a, b, up, self.now);
    }

    fn cut_off(&mut self, n: BoxId, up: bool) {
        (1..=4).filter(|other| *other != n).for_each(|other| self.wire(n, other, up));
    }

    fn look(&self, n: BoxId) -> Resource {
        self.k.look(n, DB).unwrap()
    }

    fn disk(&self, n: BoxId) -> DiskState {
        self.look(n).devices[&0].disk
    }

    fn quorum(&self, n: BoxId) -> bool {
        self.look(n).devices[&0].quorum.unwrap()
    }

    fn link(&self, n: BoxId, peer: BoxId) -> ConnectionState {
        self.look(n).peers[&self.id(peer)].connection
    }

    fn volume(&self, n: BoxId, peer: BoxId) -> PeerDevice {
        self.look(n).peers[&self.id(peer)].devices[&0].clone()
    }

    fn id(&self, n: BoxId) -> u8 {
        if self.version.is_9() { n as u8 - 1 } else { 0 }
    }

    fn content(&self, n: BoxId) -> Version {
        self.k.content(self.disks[&n]).unwrap()
    }

    fn role(&self, n: BoxId) -> Role {
        self.look(n).role
    }

    /// Promotes by opening or by command, and writes.
    fn primary(&mut self, n: BoxId) -> Version {
        match self.version.is_9() {
            true => self.k.open(n, DB).unwrap(),
            false => {
                self.k.promote(n, DB).unwrap();
                self.k.open(n, DB).unwrap();
            }
        }
        self.k.write(n, DB).unwrap()
    }

    fn add_leg(&mut self, n: BoxId, diskful: bool) {
        let (name, leg) = leg(n, diskful);
        self.a.legs.insert(name, leg);
    }

    fn all_equal(&self, boxes: &[BoxId]) {
        for n in boxes {
            assert_eq!(self.disk(*n), DiskState::UpToDate, "box{n}: {:#?}", self.look(*n));
            assert_eq!(self.content(*n), self.content(boxes[0]), "box{n}");
        }
    }
}

fn class(result: Result<(), StepError>) -> StepClass {
    result.unwrap_err().class
}

#[test]
fn descent_is_told_over_long_ways() {
    let mut lab = Lab::ready(NINE, 1, 0);
    let mut all = vec![lab.primary(1)];
    all.extend((0..3000).map(|_| lab.k.write(1, DB).unwrap()));
    for (newer, older) in [(0, 0), (1, 0), (2999, 0), (2999, 1234), (1700, 1699), (3000, 2999)] {
        assert!(lab.k.descends(all[newer], all[older]), "{newer} {older}");
        assert_eq!(lab.k.descends(all[older], all[newer]), newer == older);
    }
    assert!(lab.k.descends(all[7], Version::ZERO));
    let mut other = Lab::ready(NINE, 1, 0);
    let strange = other.primary(1);
    assert_eq!(strange, all[0], "each model counts for itself");
}

#[test]
fn writes_are_quick() {
    let mut lab = Lab::ready(NINE, 3, 0);
    lab.primary(1);
    let start = std::time::Instant::now();
    for _ in 0..100_000 {
        lab.k.write(1, DB).unwrap();
    }
    let took = start.elapsed();
    assert!(took.as_millis() < 2000, "{took:?}");
}
