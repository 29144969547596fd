//! Three boxes and one or two volumes, as small as they can be told: a few words that a failure prints, and the intent
//! and the reports that they stand for. The box that plans is box2, so that others come before it and after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use holdfast::core::{
    conf,
    drbd::{
        ConnectionState, Device, DiskState, DrbdVersion, Peer, PeerDevice, ReplicationState, Resource, Role,
    },
    facts::{ConfFile, Known, Lv, Report, Vg},
    intent::*,
    names::*,
    place::World,
    plan::{Here, Part, plan},
    size::Size,
};

pub const ME: usize = 1;
pub const SMALL: Size = Size(64 << 20);
pub const GROWN: Size = Size(256 << 20);

/// What a box is for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    No,
    Replica,
    Voter,
}

/// What this box has to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    Nothing,
    /// Its leg of the volume itself: a replica or a voter.
    This(Seat),
    /// Its leg of a volume that had the name before: another id, another minor.
    Old(Seat),
    /// Not this box, but the last one has its leg of the volume itself still.
    Elsewhere,
}

/// Who was told to be Primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nobody,
    Me,
    Another,
}

/// What is wanted of one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub major: u8,
    /// It is the meta resource.
    pub meta: bool,
    /// None: no assignment.
    pub seats: Option<[Seat; 3]>,
    pub born: bool,
    /// Index of the box that makes the first copy.
    pub seed: usize,
    /// Its size was written larger.
    pub grown: bool,
    pub generation: u32,
    pub primary: Told,
    pub goes: Goes,
}

/// Where the LV's name leads, on this box or on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LvIs {
    Unknown,
    /// The pool's volume group is not there.
    NoVg,
    Absent,
    Fresh,
    FreshSmall,
    Zeroed,
    NotZeroed,
    /// Made and zeroed, before the volume was made larger.
    Small,
    Inactive,
    /// The name is taken by an LV of another volume that nothing is known of.
    Foreign,
    /// The same volume's, of another life of the leg.
    OtherLife,
    /// Of the volume that had the name before.
    Old,
    /// The right one, in another pool.
    OtherPool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfIs {
    Unknown,
    Absent,
    Right,
    /// Right, and the kernel was not brought to it.
    Written,
    Stale,
}

/// Whose minor a resource of the name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Own,
    Old,
    /// The other volume's.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelIs {
    Unknown,
    Absent,
    NoDevice,
    Up { minor: Whose, disk: DiskState, role: Role, full: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkIs {
    Missing,
    There(ConnectionState, ReplicationState, DiskState, Role),
}

/// Another box, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherIs {
    Away,
    There { lv: LvIs, disk: Option<DiskState>, trouble: bool },
}

/// What is, of one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub version_known: bool,
    pub current: bool,
    pub lv: LvIs,
    pub conf: ConfIs,
    pub kernel: KernelIs,
    /// To the two other boxes, in order. Where there is one link only (8.4), it is the first that counts.
    pub links: [LinkIs; 2],
    /// A link to somebody who has no leg.
    pub surplus: bool,
    pub others: [OtherIs; 2],
}

pub fn boxes() -> [BoxName; 3] {
    ["box1", "box2", "box3"].map(|n| BoxName::new(n).unwrap())
}

pub fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

pub fn version(major: u8) -> DrbdVersion {
    DrbdVersion { major, minor: 4, patch: 11 }
}

/// What stays the same of a volume: there are two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nth(pub usize);

impl Nth {
    pub fn name(self, order: &Order) -> String {
        if order.meta { META_NAME.to_owned() } else { ["db", "web"][self.0].to_owned() }
    }

    pub fn id(self, order: &Order) -> VolumeId {
        if order.meta { VolumeId::meta() } else { id(['a', 'b'][self.0]) }
    }

    pub fn old_id(self) -> VolumeId {
        id(['c', 'd'][self.0])
    }

    pub fn minor(self, whose: Whose) -> u32 {
        let this = u32::try_from(self.0).unwrap();
        match whose {
            Whose::Own => 1000 + this,
            Whose::Old => 1010 + this,
            Whose::Other => 1001 - this,
        }
    }

    fn port(self, whose: Whose) -> u16 {
        PORT_FIRST + u16::try_from(self.minor(whose) - MINOR_FIRST).unwrap()
    }
}

fn id(digit: char) -> VolumeId {
    VolumeId::parse(&digit.to_string().repeat(16)).unwrap()
}

/// An order as the records it is: what the outer loops make once.
#[derive(Clone)]
pub struct Wanted {
    pub nth: Nth,
    pub order: Order,
    pub intent: Intent,
    pub crc: u32,
}

impl Wanted {
    pub fn new(nth: Nth, order: Order) -> Self {
        let mut intent = Intent::default();
        for (n, name) in boxes().into_iter().enumerate() {
            let address = format!("10.77.0.{}", n + 1).parse().unwrap();
            let disk = DiskWish {
                on: name.clone(),
                ident: DiskIdent::new("disk1"),
                name: DiskName::new("sdb").unwrap(),
                pool: pool("main"),
            };
            let member = Member { name, public_key: n.to_string().repeat(64), address };
            intent.apply(&[Change::Put(Record::Member(member)), Change::Put(Record::Disk(disk))]);
        }
        let a = assignment(nth, &order);
        let records =
            a.iter().cloned().map(Record::Assignment).chain(volume(nth, &order)).chain(leave(nth, &order));
        intent.apply(&records.map(Change::Put).collect::<Vec<_>>());
        let crc = a.map_or(0, |a| conf::crc(&conf::render(&a, &intent.members, version(order.major))));
        Self { nth, order, intent, crc }
    }
}

fn assignment(nth: Nth, order: &Order) -> Option<Assignment> {
    let names = boxes();
    let leg = |(n, seat): (usize, Seat)| {
        let pool = match seat {
            Seat::No => return None,
            Seat::Replica => Some(pool("main")),
            Seat::Voter => None,
        };
        let generation = if n == ME { order.generation } else { 1 };
        Some((names[n].clone(), Leg { node_id: u8::try_from(n).unwrap(), pool, generation }))
    };
    Some(Assignment {
        id: nth.id(order),
        resource: nth.name(order),
        secret: "5".repeat(32),
        minor: nth.minor(Whose::Own),
        port: nth.port(Whose::Own),
        size: if order.grown { GROWN } else { SMALL },
        born: order.born,
        seed: Some(names[order.seed].clone()),
        legs: order.seats?.into_iter().enumerate().filter_map(leg).collect(),
    })
}

fn volume(nth: Nth, order: &Order) -> Option<Record> {
    (order.seats.is_some() && !order.meta).then(|| {
        Record::Volume(Volume {
            name: VolumeName::new(nth.name(order)).unwrap(),
            id: nth.id(order),
            secret: "5".repeat(32),
            size: Some(if order.grown { GROWN } else { SMALL }),
            replicas: None,
            place: Place::Auto,
            pool: None,
            group: GroupName::new("default").unwrap(),
            primary: match order.primary {
                Told::Nobody => None,
                Told::Me => Some(boxes()[ME].clone()),
                Told::Another => Some(boxes()[0].clone()),
            },
        })
    })
}

fn leave(nth: Nth, order: &Order) -> Option<Record> {
    let (id, whose, seat) = match order.goes {
        Goes::Nothing => return None,
        Goes::This(seat) => (nth.id(order), Whose::Own, seat),
        Goes::Old(seat) => (nth.old_id(), Whose::Old, seat),
        Goes::Elsewhere => (nth.id(order), Whose::Own, Seat::Voter),
    };
    let on = if order.goes == Goes::Elsewhere { 2 } else { ME };
    let pool = (seat == Seat::Replica).then(|| pool("main"));
    Some(Record::Leave(Leave {
        id,
        resource: nth.name(order),
        minor: nth.minor(whose),
        port: nth.port(whose),
        on: boxes()[on].clone(),
        leg: Leg { node_id: u8::try_from(on).unwrap(), pool, generation: 1 },
    }))
}

/// The reports that these facts are: by box, and who is alive.
#[derive(Clone)]
pub struct Seen {
    pub reports: BTreeMap<BoxName, Arc<Report>>,
    pub alive: BTreeSet<BoxName>,
    pub current: bool,
}

impl Seen {
    pub fn new(w: &Wanted, facts: &Facts) -> Self {
        let [one, me, three] = boxes();
        let mut seen =
            Seen { reports: BTreeMap::new(), alive: BTreeSet::from([me.clone()]), current: facts.current };
        for (name, n, is) in [(one, 0, facts.others[0]), (three, 2, facts.others[1])] {
            let OtherIs::There { lv, disk, trouble } = is else { continue };
            let mut report = Report { drbd_version: Some(version(w.order.major)), ..Report::default() };
            report.vgs = vgs(w, lv, 1);
            report.drbd = Known::Known(disk.map(|disk| theirs(w, n, disk)).into_iter().collect());
            if trouble {
                report.trouble.insert(format!("volumes/{}", w.nth.name(&w.order)), "no".to_owned());
            }
            seen.reports.insert(name.clone(), Arc::new(report));
            seen.alive.insert(name);
        }
        let report = Report {
            drbd_version: facts.version_known.then(|| version(w.order.major)),
            vgs: vgs(w, facts.lv, w.order.generation),
            drbd: kernel(w, facts),
            conf: conf_files(w, facts.conf),
            ..Report::default()
        };
        seen.reports.insert(me, Arc::new(report));
        seen
    }

    pub fn here<'a>(&'a self, intent: &'a Intent, me: &'a BoxName) -> Here<'a> {
        let world = World { intent, reports: &self.reports, alive: &self.alive };
        Here { world, me, report: &self.reports[me], current: self.current, lvs: None }
    }
}

/// This box's part of the one resource that `intent` is about.
pub fn part(here: &Here<'_>, resource: &str, crc: u32) -> Part {
    let intent = here.world.intent;
    let leaves: Vec<_> =
        intent.leaves.iter().filter(|(_, l)| &l.on == here.me && l.resource == resource).collect();
    let a = intent.assignment_of(resource).and_then(|a| Some((a, a.legs.get(here.me)?)));
    plan(here, resource, &leaves, a, crc)
}

fn vgs(w: &Wanted, is: LvIs, generation: u32) -> Known<BTreeMap<PoolName, Vg>> {
    let drbd = version(w.order.major);
    let wanted = conf::lv_size_for(if w.order.grown { GROWN } else { SMALL }, drbd);
    let small = Size(conf::lv_size_for(if w.order.grown { SMALL } else { Size(4 << 20) }, drbd).0);
    let lv = Lv {
        name: conf::lv_name(&w.nth.name(&w.order), 0),
        id: w.nth.id(&w.order),
        device_nr: 0,
        generation,
        size: wanted,
        fresh: false,
        zeroed: true,
        active: true,
    };
    let mut vg = Vg { size: Size(8 << 30), free: Size(4 << 30), extent: Size(4 << 20), ..Vg::default() };
    vg.pvs = BTreeMap::from([("/dev/vdb".to_owned(), Size(3 << 30)), ("/dev/vdc".to_owned(), Size(1 << 30))]);
    let mut all = BTreeMap::new();
    let other = pool("ssd");
    match is {
        LvIs::Unknown => return Known::Unknown("lvm does not answer".to_owned()),
        LvIs::NoVg => return Known::Known(all),
        LvIs::Absent => {}
        LvIs::OtherPool => drop(all.insert(other, Vg { lvs: vec![lv], ..vg.clone() })),
        LvIs::Fresh => vg.lvs.push(Lv { fresh: true, zeroed: false, ..lv }),
        LvIs::FreshSmall => vg.lvs.push(Lv { fresh: true, zeroed: false, size: small, ..lv }),
        LvIs::Zeroed => vg.lvs.push(lv),
        LvIs::NotZeroed => vg.lvs.push(Lv { zeroed: false, ..lv }),
        LvIs::Small => vg.lvs.push(Lv { size: small, ..lv }),
        LvIs::Inactive => vg.lvs.push(Lv { active: false, ..lv }),
        LvIs::Foreign => vg.lvs.push(Lv { id: id('e'), ..lv }),
        LvIs::OtherLife => vg.lvs.push(Lv { generation: 3 - generation, ..lv }),
        LvIs::Old => vg.lvs.push(Lv { id: w.nth.old_id(), generation: 1, ..lv }),
    }
    all.insert(pool("main"), vg);
    Known::Known(all)
}

fn conf_files(w: &Wanted, is: ConfIs) -> Known<BTreeMap<String, ConfFile>> {
    let file = match is {
        ConfIs::Unknown => return Known::Unknown("no folder".to_owned()),
        ConfIs::Absent => return Known::Known(BTreeMap::new()),
        ConfIs::Right => ConfFile { crc: w.crc, adjusted: true },
        ConfIs::Written => ConfFile { crc: w.crc, adjusted: false },
        ConfIs::Stale => ConfFile { crc: w.crc ^ 1, adjusted: true },
    };
    Known::Known(BTreeMap::from([(w.nth.name(&w.order), file)]))
}

/// Full size of the volume in KiB, and the size it had.
pub fn sizes_kib(order: &Order) -> (u64, u64) {
    let (full, small) = if order.grown { (GROWN, SMALL) } else { (SMALL, Size(SMALL.0 / 2)) };
    (full.0 / 1024, small.0 / 1024)
}

fn kernel(w: &Wanted, facts: &Facts) -> Known<BTreeMap<String, Resource>> {
    let name = w.nth.name(&w.order);
    let mut resource = Resource { name: name.clone(), role: Role::Secondary, ..Resource::default() };
    match facts.kernel {
        KernelIs::Unknown => return Known::Unknown("drbdsetup does not answer".to_owned()),
        KernelIs::Absent => return Known::Known(BTreeMap::new()),
        KernelIs::NoDevice => {}
        KernelIs::Up { minor, disk, role, full } => {
            let (all, small) = sizes_kib(&w.order);
            let size_kib = if full { all } else { small };
            resource.role = role;
            let device = Device { minor: w.nth.minor(minor), disk, size_kib, ..Device::default() };
            resource.devices.insert(0, device);
        }
    }
    resource.peers = peers(w, facts);
    Known::Known(BTreeMap::from([(name, resource)]))
}

/// Which of the two links this box has by its orders, and under which node id.
pub fn link_ids(order: &Order) -> [Option<u8>; 2] {
    let seats = order.seats.unwrap_or([Seat::Replica, Seat::Replica, Seat::No]);
    if order.major < 9 {
        return [Some(0), None];
    }
    [(0, seats[0]), (2, seats[2])].map(|(id, seat)| {
        // Two without a disk have nothing to say to each other.
        let needed = seat != Seat::No && (seat == Seat::Replica || seats[ME] != Seat::Voter);
        needed.then_some(id)
    })
}

fn peers(w: &Wanted, facts: &Facts) -> BTreeMap<u8, Peer> {
    let mut peers = BTreeMap::new();
    for (id, link) in link_ids(&w.order).into_iter().zip(facts.links) {
        let (Some(id), LinkIs::There(connection, replication, disk, role)) = (id, link) else { continue };
        peers.insert(id, peer(connection, replication, disk, role));
    }
    if facts.surplus && w.order.major >= 9 {
        peers.insert(
            6,
            peer(ConnectionState::Connecting, ReplicationState::Off, DiskState::DUnknown, Role::Unknown),
        );
    }
    peers
}

pub fn peer(connection: ConnectionState, replication: ReplicationState, disk: DiskState, role: Role) -> Peer {
    let device = PeerDevice { disk, replication, ..PeerDevice::default() };
    Peer { name: None, connection, role, devices: BTreeMap::from([(0, device)]) }
}

/// Another box's kernel: nothing but its own disk is looked at.
fn theirs(w: &Wanted, n: usize, disk: DiskState) -> (String, Resource) {
    let name = w.nth.name(&w.order);
    let (size_kib, _) = sizes_kib(&w.order);
    let device = Device { minor: w.nth.minor(Whose::Own), disk, size_kib, ..Device::default() };
    let mut resource = Resource { name: name.clone(), role: Role::Secondary, ..Resource::default() };
    resource.devices.insert(0, device);
    for id in (0..3).filter(|id| usize::from(*id) != n) {
        let link = peer(ConnectionState::Connected, ReplicationState::Established, disk, Role::Secondary);
        resource.peers.insert(id, link);
    }
    (name, resource)
}
