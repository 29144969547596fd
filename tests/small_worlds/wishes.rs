//! What the leader may be asked, and in which worlds: three boxes with room, little room or none, away or silent, and a
//! volume in each phase.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use holdfast::core::{
    assign::{found_meta, leave},
    claim::{Disk, Standing},
    conf,
    drbd::{ConnectionState, Device, DiskState, ReplicationState, Resource, Role},
    facts::{Known, Lv, Report, Vg},
    intent::*,
    names::*,
    place::World,
    size::Size,
    wish::{Or, VolumeChange, Wish},
};

use crate::{
    every::Every,
    ground::{boxes, peer, pool, version},
    states::{all, list},
};

pub const SIZE: Size = Size(64 << 20);
/// Free space of a box with little room: one more volume of that size and not two.
const LITTLE: u64 = 100 << 20;

/// What a box says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxIs {
    Room,
    Little,
    NoPool,
    VgsUnknown,
    DrbdUnknown,
    NoModule,
    Away,
    /// It never said anything.
    Silent,
}

/// How far the volume has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    None,
    Unsized,
    /// It has a size, and nothing is assigned yet.
    Sized,
    /// Replicas on the first so many boxes; what their kernels say.
    Built {
        replicas: usize,
        voter: bool,
        born: bool,
        up: Option<DiskState>,
        open: bool,
    },
    /// Replicas on the first so many boxes, born and up, and the box after them still removes its leg.
    Leaving(usize),
    /// It was removed, and a box still has it.
    Gone,
    /// The same, and there is a new one of the name, with a size or not.
    Anew(Option<Size>),
}

/// The meta resource, on the first box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaIs {
    pub born: bool,
    pub up: bool,
}

/// What the leader knows.
pub struct Small {
    pub major: u8,
    pub intent: Intent,
    pub reports: BTreeMap<BoxName, Arc<Report>>,
    pub alive: BTreeSet<BoxName>,
}

pub fn db() -> VolumeName {
    VolumeName::new("db").unwrap()
}

fn id(digit: &str) -> VolumeId {
    VolumeId::parse(&digit.repeat(16)).unwrap()
}

fn leg(n: usize, diskful: bool) -> (BoxName, Leg) {
    let pool = diskful.then(|| pool("main"));
    (boxes()[n].clone(), Leg { node_id: u8::try_from(n).unwrap(), pool, generation: 1 })
}

fn volume(name: &str, digit: &str, size: Option<Size>) -> Volume {
    Volume {
        name: VolumeName::new(name).unwrap(),
        id: id(digit),
        secret: "5".repeat(32),
        size,
        replicas: None,
        place: Place::Auto,
        pool: None,
        group: GroupName::new("default").unwrap(),
        primary: None,
    }
}

fn assignment(name: &str, digit: &str, minor: u32, legs: Vec<(BoxName, Leg)>) -> Assignment {
    Assignment {
        id: id(digit),
        resource: name.to_owned(),
        secret: "5".repeat(32),
        minor,
        port: PORT_FIRST + u16::try_from(minor - MINOR_FIRST).unwrap(),
        size: SIZE,
        born: true,
        seed: Some(legs[0].0.clone()),
        legs: legs.into_iter().collect(),
    }
}

fn leave_of(a: &Assignment, n: usize, leg: Leg) -> Record {
    Record::Leave(leave(a, &boxes()[n], leg))
}

impl Small {
    pub fn new(major: u8, phase: Phase, states: [BoxIs; 3], meta: MetaIs) -> Self {
        let mut small =
            Small { major, intent: Intent::default(), reports: BTreeMap::new(), alive: BTreeSet::new() };
        small.found(meta);
        small.phase(phase);
        for (n, is) in states.into_iter().enumerate() {
            small.report(n, is, phase, meta);
        }
        small
    }

    pub fn put(&mut self, record: Record) {
        self.intent.apply(&[Change::Put(record)]);
    }

    fn found(&mut self, is: MetaIs) {
        for (n, name) in boxes().into_iter().enumerate() {
            self.put(Record::Member(member(name, n)));
        }
        self.put(Record::Pool(Pool { name: pool("main"), kind: PoolKind::Lvm }));
        self.put(Record::Pool(Pool { name: pool("ssd"), kind: PoolKind::Lvm }));
        self.put(Record::Group(Group {
            name: GroupName::new("default").unwrap(),
            replicas: 2,
            pool: pool("main"),
        }));
        self.put(Record::Cluster(Cluster {
            id: "c".repeat(16),
            name: "test".to_owned(),
            link_key: "0".repeat(64),
            join_secret: "0".repeat(64),
            leader: boxes()[0].clone(),
        }));
        let mut meta = found_meta(&boxes()[0], &pool("main"), "5".repeat(32));
        meta.born = is.born;
        self.put(Record::Assignment(meta));
        // Another volume has the second minor, and one that is on its way out the third.
        self.put(Record::Volume(volume("web", "b", Some(SIZE))));
        self.put(Record::Assignment(assignment("web", "b", 1001, vec![leg(0, true), leg(1, true)])));
        let gone = assignment("old", "c", 1002, vec![leg(2, true)]);
        self.put(leave_of(&gone, 2, leg(2, true).1));
    }

    fn phase(&mut self, phase: Phase) {
        let legs = |replicas: usize, voter: bool| {
            let mut legs: Vec<_> = (0..replicas).map(|n| leg(n, true)).collect();
            legs.extend(voter.then(|| leg(2, false)));
            legs
        };
        match phase {
            Phase::None => {}
            Phase::Unsized => self.put(Record::Volume(volume("db", "a", None))),
            Phase::Sized => self.put(Record::Volume(volume("db", "a", Some(SIZE)))),
            Phase::Built { replicas, voter, born, .. } => {
                let wish = Volume {
                    replicas: Some(u8::try_from(replicas).unwrap()),
                    ..volume("db", "a", Some(SIZE))
                };
                self.put(Record::Volume(wish));
                let a = assignment("db", "a", 1000, legs(replicas, voter));
                self.put(Record::Assignment(Assignment { born, ..a }));
            }
            Phase::Leaving(replicas) => {
                self.put(Record::Volume(volume("db", "a", Some(SIZE))));
                let a = assignment("db", "a", 1000, legs(replicas, false));
                self.put(leave_of(&a, replicas, leg(replicas, false).1));
                self.put(Record::Assignment(a));
            }
            Phase::Gone | Phase::Anew(_) => {
                let a = assignment("db", "a", 1000, legs(2, false));
                self.put(leave_of(&a, 1, leg(1, true).1));
                if let Phase::Anew(size) = phase {
                    self.put(Record::Volume(volume("db", "f", size)));
                }
            }
        }
    }

    fn report(&mut self, n: usize, is: BoxIs, phase: Phase, meta: MetaIs) {
        let name = boxes()[n].clone();
        if is == BoxIs::Silent {
            return;
        }
        if is != BoxIs::Away {
            self.alive.insert(name.clone());
        }
        let free = if is == BoxIs::Little { LITTLE } else { 2 << 30 };
        let mut vg = Vg { size: Size(4 << 30), free: Size(free), extent: Size(4 << 20), ..Vg::default() };
        vg.pvs.insert("/dev/vdb".to_owned(), Size(free));
        let mut resources = BTreeMap::new();
        for a in self.intent.assignments.values().filter(|a| a.legs.contains_key(&name)) {
            let (disk, open) = match (phase, a.id.as_str().as_bytes()[0]) {
                (Phase::Built { up, open, .. }, b'a') => (up, open),
                (_, b'0') => (meta.up.then_some(DiskState::UpToDate), false),
                _ => (Some(DiskState::UpToDate), false),
            };
            let Some(disk) = disk else { continue };
            resources.insert(a.resource.clone(), resource(a, &name, disk, open && n == 0, self.major));
            if a.legs[&name].pool.is_some() {
                vg.lvs.push(lv(a, self.major));
            }
        }
        let blank = Disk {
            device: "/dev/vdc".to_owned(),
            ident: DiskIdent::new(&format!("{name}-vdc")),
            size: Size(1 << 30),
            model: String::new(),
            serial: String::new(),
            path: String::new(),
            rotational: false,
            standing: Standing::Blank,
        };
        let with = |disk: &str, standing| {
            (
                DiskName::new(disk).unwrap(),
                Disk { ident: DiskIdent::new(&format!("{name}-{disk}")), standing, ..blank.clone() },
            )
        };
        let disks = BTreeMap::from([
            with("vdb", Standing::Claimed(pool("main"))),
            with("vdc", Standing::Blank),
            with("vdd", Standing::Foreign("ext4".to_owned())),
            with("vde", Standing::InUse("/mnt".to_owned())),
            with("vdf", Standing::Unfit("small".to_owned())),
        ]);
        let unknown = || "lost".to_owned();
        let report = Report {
            drbd_version: (is != BoxIs::NoModule).then(|| version(self.major)),
            disks: Known::Known(disks),
            vgs: match is {
                BoxIs::VgsUnknown => Known::Unknown(unknown()),
                BoxIs::NoPool => Known::Known(BTreeMap::new()),
                _ => Known::Known(BTreeMap::from([(pool("main"), vg)])),
            },
            drbd: if is == BoxIs::DrbdUnknown { Known::Unknown(unknown()) } else { Known::Known(resources) },
            ..Report::default()
        };
        self.reports.insert(name, Arc::new(report));
    }

    pub fn world(&self) -> World<'_> {
        World { intent: &self.intent, reports: &self.reports, alive: &self.alive }
    }

    pub fn with(&self, txn: &Txn) -> Self {
        let mut after = Small {
            major: self.major,
            intent: self.intent.clone(),
            reports: self.reports.clone(),
            alive: self.alive.clone(),
        };
        after.intent.apply(txn);
        after
    }
}

fn member(name: BoxName, n: usize) -> Member {
    Member {
        name,
        public_key: n.to_string().repeat(64),
        address: format!("10.77.0.{}", n + 1).parse().unwrap(),
    }
}

fn lv(a: &Assignment, major: u8) -> Lv {
    Lv {
        name: conf::lv_name(&a.resource, 0),
        id: a.id.clone(),
        device_nr: 0,
        generation: 1,
        size: conf::lv_size_for(a.size, version(major)),
        fresh: false,
        zeroed: true,
        active: true,
    }
}

fn resource(a: &Assignment, on: &BoxName, disk: DiskState, open: bool, major: u8) -> Resource {
    let own = if a.legs[on].pool.is_some() { disk } else { DiskState::Diskless };
    let device = Device { minor: a.minor, disk: own, size_kib: a.size.0 / 1024, ..Device::default() };
    let others = a.legs.iter().filter(|(name, _)| *name != on);
    let link = || peer(ConnectionState::Connected, ReplicationState::Established, disk, Role::Secondary);
    Resource {
        name: a.resource.clone(),
        role: if open { Role::Primary } else { Role::Secondary },
        devices: BTreeMap::from([(0, device)]),
        peers: others.map(|(_, leg)| (if major >= 9 { leg.node_id } else { 0 }, link())).collect(),
        ..Resource::default()
    }
}

pub fn phases(major: u8) -> Vec<Phase> {
    use DiskState::{Inconsistent, UpToDate};
    let built = |replicas, voter, born, up| Phase::Built { replicas, voter, born, up, open: false };
    let mut phases =
        vec![Phase::None, Phase::Unsized, Phase::Sized, Phase::Leaving(1), Phase::Leaving(2), Phase::Gone];
    phases.extend([
        Phase::Anew(None),
        Phase::Anew(Some(SIZE)),
        built(1, false, true, Some(UpToDate)),
        built(2, false, false, None),
        built(2, false, false, Some(Inconsistent)),
        built(2, false, false, Some(UpToDate)),
        built(2, false, true, Some(UpToDate)),
        built(2, false, true, None),
        Phase::Built { replicas: 2, voter: false, born: true, up: Some(UpToDate), open: true },
    ]);
    if major >= 9 {
        phases.extend([
            built(1, true, true, Some(UpToDate)),
            built(2, true, true, Some(UpToDate)),
            built(3, false, true, Some(UpToDate)),
            built(2, true, false, None),
        ]);
    }
    phases
}

/// One state of all boxes.
pub fn box_state(every: &mut Every) -> [BoxIs; 3] {
    use BoxIs::{Away, DrbdUnknown, Little, NoModule, NoPool, Room, Silent, VgsUnknown};
    let leader =
        list(&[Room, Little, VgsUnknown], &[Room, Little, NoPool, VgsUnknown, DrbdUnknown, NoModule]);
    let second = [Room, Little, NoPool, VgsUnknown, DrbdUnknown, NoModule, Away, Silent];
    let second = if all() { &second[..] } else { &[Room, Little, Away, DrbdUnknown] };
    let third = list(&[Room, Little, NoPool, Silent], &[Room, Little, NoPool, VgsUnknown, Away, Silent]);
    [every.of(leader), every.of(second), every.of(third)]
}

/// All of them.
pub fn box_states() -> Vec<[BoxIs; 3]> {
    let (mut every, mut found) = (Every::default(), Vec::new());
    while every.more() {
        found.push(box_state(&mut every));
    }
    found
}

/// Every kind of wish; those about the volume with every combination of sizes around the limits, replicas and place.
pub fn wishes() -> Vec<Wish> {
    let [one, two, three] = boxes();
    let place = |names: &[&BoxName]| Some(Place::Boxes(names.iter().map(|n| (*n).clone()).collect()));
    let places =
        [None, Some(Place::Auto), place(&[&one, &two]), place(&[&two, &three]), place(&[&one, &two, &three])];
    let room = |free: u64| Size(free - (4 << 20));
    let sizes = [
        None,
        Some(Size(0)),
        Some(Size((4 << 20) - 1)),
        Some(Size(4 << 20)),
        Some(Size(SIZE.0 - 1)),
        Some(SIZE),
    ];
    let large = [
        Size(SIZE.0 + 1),
        room(LITTLE),
        Size(LITTLE),
        Size(SIZE.0 + LITTLE),
        room(2 << 30),
        Size(2 << 30),
        Size(u64::MAX),
    ];
    let sizes: Vec<Option<Size>> = sizes.into_iter().chain(large.map(Some)).collect();
    let replicas = [
        None,
        Some(Or::Default),
        Some(Or::Set(0)),
        Some(Or::Set(1)),
        Some(Or::Set(2)),
        Some(Or::Set(3)),
        Some(Or::Set(8)),
    ];
    let mut wishes = vec![Wish::MakeVolume(db()), Wish::RemoveVolume(db())];
    for size in &sizes {
        for replicas in &replicas {
            for place in &places {
                let change = VolumeChange {
                    size: *size,
                    replicas: replicas.clone(),
                    place: place.clone(),
                    ..VolumeChange::default()
                };
                wishes.push(Wish::ChangeVolume(db(), change));
            }
        }
    }
    let group = |name: &str| GroupName::new(name).unwrap();
    let nobody = BoxName::new("box9").unwrap();
    let change = |change| Wish::ChangeVolume(db(), change);
    wishes.push(change(VolumeChange { place: place(&[&one, &nobody]), ..VolumeChange::default() }));
    wishes.push(change(VolumeChange { place: place(&[]), ..VolumeChange::default() }));
    for to in [Or::Default, Or::Set(pool("main")), Or::Set(pool("ssd")), Or::Set(pool("none"))] {
        wishes.push(change(VolumeChange { pool: Some(to.clone()), ..VolumeChange::default() }));
        wishes.push(change(VolumeChange { pool: Some(to), size: Some(SIZE), ..VolumeChange::default() }));
    }
    wishes.extend(
        ["default", "none"]
            .map(|g| change(VolumeChange { group: Some(group(g)), ..VolumeChange::default() })),
    );
    for on in [&one, &two, &three, &nobody] {
        wishes.extend([true, false].map(|primary| Wish::SetRole(db(), on.clone(), primary)));
        for disk in ["vdb", "vdc", "vdd", "vde", "vdf", "vdz"] {
            let disk = DiskName::new(disk).unwrap();
            wishes.extend(
                [None, Some(pool("main")), Some(pool("ssd")), Some(pool("none"))]
                    .map(|to| Wish::SetDiskPool(on.clone(), disk.clone(), to)),
            );
        }
    }
    wishes.extend(["main", "ssd", "new"].map(|p| Wish::MakePool(pool(p))));
    wishes.extend(["main", "ssd", "none"].map(|p| Wish::RemovePool(pool(p))));
    for g in ["default", "none"] {
        wishes.extend([
            Wish::MakeGroup(group(g)),
            Wish::RemoveGroup(group(g)),
            Wish::SetGroupPool(group(g), pool("ssd")),
        ]);
        wishes.extend([0, 1, 2, 3, 8].map(|n| Wish::SetGroupReplicas(group(g), n)));
    }
    wishes.extend([None, Some("0".repeat(64)), Some("1".repeat(64))].map(Wish::SetToken));
    wishes.push(Wish::SetClusterName("other".to_owned()));
    wishes.push(Wish::Join(member(nobody, 8)));
    wishes.push(Wish::Join(member(one.clone(), 0)));
    wishes.push(Wish::Join(Member { public_key: "e".repeat(64), ..member(one, 0) }));
    wishes.push(Wish::Join(Member { address: "10.77.0.1".parse().unwrap(), ..member(two, 1) }));
    wishes
}
