//! Valid things of every kind, with values that nobody would expect: what boxes may say to each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use holdfast::core::{
    claim::{Disk, Standing},
    drbd::{
        ConnectionState, Device, DiskState, DrbdVersion, Peer, PeerDevice, ReplicationState, Resource, Role,
    },
    facts::{ErrorLine, Known, Lv, Report, Vg},
    hex,
    intent::{
        Assignment, Change, Cluster, DiskWish, Group, Leave, Leg, META_NAME, Member, Place, Pool, PoolKind,
        Record, Stamp, Txn, Volume,
    },
    message::Message,
    names::{BoxName, DiskIdent, DiskName, GroupName, PoolName, VolumeId, VolumeName},
    refusal::{Errno, Refusal},
    size::Size,
    wish::{Or, Request, VolumeChange, Wish},
};

use crate::random::Random;

const BOXES: [&str; 4] = ["box1", "box2", "box3", "box4"];
const NAMES: [&str; 6] = ["db", "web", "a", "..9", "x.0", "default"];
const DISK_STATES: [&str; 11] = [
    "Diskless",
    "Attaching",
    "Detaching",
    "Failed",
    "Negotiating",
    "Inconsistent",
    "Outdated",
    "DUnknown",
    "Consistent",
    "UpToDate",
    "Sparkling",
];
const LINK_STATES: [&str; 6] =
    ["StandAlone", "Connecting", "Connected", "Unconnected", "TearDown", "Humming"];
const REPLICATION: [&str; 9] = [
    "Off",
    "Established",
    "StartingSyncS",
    "WFBitMapT",
    "SyncSource",
    "SyncTarget",
    "PausedSyncT",
    "Behind",
    "Singing",
];
const ROLES: [&str; 4] = ["Unknown", "Primary", "Secondary", "Tertiary"];

/// A name that every kind of name takes.
pub fn name(random: &mut Random) -> String {
    let mut name = (*random.pick(&NAMES)).trim_start_matches('.').to_owned();
    for _ in 0..random.below(3) {
        name.push(*random.pick(&['a', 'Z', '0', '.', '-']));
    }
    name
}

/// Any text.
pub fn text(random: &mut Random) -> String {
    let mut bytes = name(random).into_bytes();
    for _ in 0..random.below(4) {
        bytes.extend(random.token());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn on(random: &mut Random) -> BoxName {
    BoxName::new(*random.pick(&BOXES)).unwrap()
}

pub fn address(random: &mut Random) -> IpAddr {
    match random.below(3) {
        0 => IpAddr::V6(Ipv6Addr::from(u128::from(random.next()) << 64 | u128::from(random.next()))),
        _ => IpAddr::from([10, 0, 0, random.next() as u8]),
    }
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    if random.one_in(2) { Some(make(random)) } else { None }
}

fn some<T>(random: &mut Random, most: usize, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
    (0..random.below(most + 1)).map(|_| make(random)).collect()
}

fn pool(random: &mut Random) -> PoolName {
    let any = name(random);
    PoolName::new(*random.pick(&["main", "ssd", &any])).unwrap()
}

fn volume_name(random: &mut Random) -> VolumeName {
    VolumeName::new(name(random)).unwrap()
}

fn group_name(random: &mut Random) -> GroupName {
    let any = name(random);
    GroupName::new(*random.pick(&["default", "default", &any])).unwrap()
}

fn id(random: &mut Random) -> VolumeId {
    if random.one_in(6) {
        return VolumeId::meta();
    }
    VolumeId::parse(&format!("{:016x}", random.below(6))).unwrap()
}

fn secret(random: &mut Random) -> String {
    hex::text(&random.bytes(16))
}

fn key(random: &mut Random) -> String {
    hex::text(&random.bytes(32))
}

fn size(random: &mut Random) -> Size {
    let ordinary = (1 + random.below(40) as u64) << 29;
    Size(if random.one_in(3) { random.number() } else { ordinary })
}

fn ident(random: &mut Random) -> DiskIdent {
    let any = text(random);
    let ident = match random.below(3) {
        0 => "serial-vdb",
        1 => "serial-vdc",
        _ => &any,
    };
    DiskIdent::new(ident)
}

fn disk_name(random: &mut Random) -> DiskName {
    DiskName::new(*random.pick(&["vda", "vdb", "vdc", "nvme0n1"])).unwrap()
}

fn known<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Known<T> {
    if random.one_in(6) { Known::Unknown(text(random)) } else { Known::Known(make(random)) }
}

fn word<T: From<String>>(random: &mut Random, words: &[&str]) -> T {
    T::from((*random.pick(words)).to_owned())
}

fn place(random: &mut Random) -> Place {
    if random.one_in(2) { Place::Auto } else { Place::Boxes(some(random, 3, on).into_iter().collect()) }
}

fn volume(random: &mut Random) -> Volume {
    Volume {
        name: volume_name(random),
        id: id(random),
        secret: secret(random),
        size: maybe(random, size),
        replicas: maybe(random, |random| random.below(5) as u8),
        place: place(random),
        pool: maybe(random, pool),
        group: group_name(random),
        primary: maybe(random, on),
    }
}

fn leg(random: &mut Random) -> Leg {
    Leg {
        node_id: if random.one_in(9) { u8::MAX } else { random.below(4) as u8 },
        pool: maybe(random, pool),
        generation: if random.one_in(9) { u32::MAX } else { 1 },
    }
}

/// What DRBD may call a resource of ours.
fn resource_name(random: &mut Random, id: &VolumeId) -> String {
    if id == &VolumeId::meta() { META_NAME.to_owned() } else { name(random) }
}

pub fn assignment(random: &mut Random) -> Assignment {
    let id = id(random);
    Assignment {
        resource: resource_name(random, &id),
        id,
        secret: secret(random),
        minor: if random.one_in(6) { random.number() as u32 } else { 999 + random.below(4) as u32 },
        port: if random.one_in(6) { random.number() as u16 } else { 7000 + random.below(4) as u16 },
        size: size(random),
        born: random.one_in(2),
        seed: maybe(random, on),
        legs: some(random, 4, |random| (on(random), leg(random))).into_iter().collect(),
    }
}

fn leave(random: &mut Random) -> Leave {
    let id = id(random);
    Leave {
        resource: resource_name(random, &id),
        id,
        minor: 999 + random.below(4) as u32,
        port: 7000 + random.below(4) as u16,
        on: on(random),
        leg: leg(random),
    }
}

fn cluster(random: &mut Random) -> Cluster {
    Cluster {
        id: secret(random)[..16].to_owned(),
        name: name(random),
        link_key: key(random),
        join_secret: key(random),
        leader: on(random),
    }
}

fn member(random: &mut Random) -> Member {
    Member {
        name: on(random),
        public_key: if random.one_in(9) { text(random) } else { key(random) },
        address: address(random),
    }
}

/// Commits of the far future would end the count; nothing that a leader makes gets there.
pub fn stamp(random: &mut Random) -> Stamp {
    Stamp { epoch: random.below(5) as u64, revision: random.next() >> (2 + random.below(62)) }
}

pub fn record(random: &mut Random) -> Record {
    match random.below(9) {
        0 => Record::Cluster(cluster(random)),
        1 => Record::Member(member(random)),
        2 => Record::Pool(Pool { name: pool(random), kind: PoolKind::Lvm }),
        3 => Record::Group(Group {
            name: group_name(random),
            replicas: random.below(4) as u8,
            pool: pool(random),
        }),
        4 => Record::Disk(DiskWish {
            on: on(random),
            ident: ident(random),
            name: disk_name(random),
            pool: pool(random),
        }),
        5 => Record::Volume(volume(random)),
        6 => Record::Assignment(assignment(random)),
        7 => Record::Leave(leave(random)),
        _ => Record::Stamp(stamp(random)),
    }
}

fn txn(random: &mut Random) -> Txn {
    some(random, 5, |random| match random.below(3) {
        0 => Change::Delete(if random.one_in(4) { text(random) } else { record(random).key() }),
        _ => Change::Put(record(random)),
    })
}

fn disk(random: &mut Random) -> Disk {
    Disk {
        device: format!("/dev/{}", name(random)),
        ident: ident(random),
        size: size(random),
        model: text(random),
        serial: text(random),
        path: text(random),
        rotational: random.one_in(2),
        standing: match random.below(5) {
            0 => Standing::Claimed(pool(random)),
            1 => Standing::Blank,
            2 => Standing::Foreign(text(random)),
            3 => Standing::InUse(text(random)),
            _ => Standing::Unfit(text(random)),
        },
    }
}

fn lv(random: &mut Random) -> Lv {
    Lv {
        name: format!("{}.0", name(random)),
        id: id(random),
        device_nr: random.below(2) as u16,
        generation: 1 + random.below(2) as u32,
        size: size(random),
        fresh: random.one_in(3),
        zeroed: random.one_in(2),
        active: random.one_in(2),
    }
}

fn vg(random: &mut Random) -> Vg {
    Vg {
        size: size(random),
        free: size(random),
        extent: Size(4 << 20),
        pvs: some(random, 2, |random| (format!("/dev/{}", name(random)), size(random))).into_iter().collect(),
        missing_pvs: random.below(2) as u32,
        lvs: some(random, 3, lv),
    }
}

fn device(random: &mut Random) -> Device {
    Device {
        minor: 999 + random.below(4) as u32,
        disk: word::<DiskState>(random, &DISK_STATES),
        client: random.one_in(3),
        quorum: maybe(random, |random| random.one_in(2)),
        size_kib: size(random).bytes() >> random.below(11),
        backing: maybe(random, |random| format!("/dev/{}", name(random))),
        open: maybe(random, |random| random.one_in(2)),
    }
}

fn peer_device(random: &mut Random) -> PeerDevice {
    let replication = word::<ReplicationState>(random, &REPLICATION);
    PeerDevice {
        disk: word::<DiskState>(random, &DISK_STATES),
        client: random.one_in(3),
        replication,
        resync_suspended: (*random.pick(&["no", "user", "peer,dependency"])).to_owned(),
        out_of_sync_kib: random.number(),
        done_hundredths: maybe(random, |random| random.below(10_001) as u16)
            .filter(|_| replication.has_progress()),
    }
}

fn peer(random: &mut Random) -> Peer {
    Peer {
        name: maybe(random, name),
        connection: word::<ConnectionState>(random, &LINK_STATES),
        role: word::<Role>(random, &ROLES),
        devices: some(random, 2, |random| (random.below(2) as u16, peer_device(random)))
            .into_iter()
            .collect(),
    }
}

pub fn resource(random: &mut Random, name: &str) -> Resource {
    Resource {
        name: name.to_owned(),
        role: word::<Role>(random, &ROLES),
        suspended: (*random.pick(&["no", "quorum", "user,no-data"])).to_owned(),
        force_io_failures: random.one_in(5),
        devices: some(random, 2, |random| (random.below(2) as u16, device(random))).into_iter().collect(),
        peers: some(random, 3, |random| (random.below(4) as u8, peer(random))).into_iter().collect(),
        split: if random.one_in(4) { BTreeSet::from([random.below(4) as u8]) } else { BTreeSet::new() },
    }
}

pub fn resources(random: &mut Random) -> BTreeMap<String, Resource> {
    let names = some(random, 3, |random| {
        let id = id(random);
        resource_name(random, &id)
    });
    names.into_iter().map(|name| (name.clone(), resource(random, &name))).collect()
}

pub fn version(random: &mut Random) -> DrbdVersion {
    match random.below(3) {
        0 => DrbdVersion { major: 8, minor: 4, patch: 11 },
        1 => {
            DrbdVersion { major: random.next() as u8, minor: random.next() as u8, patch: random.next() as u8 }
        }
        _ => DrbdVersion { major: 9, minor: 2, patch: 18 },
    }
}

fn error_line(random: &mut Random) -> ErrorLine {
    ErrorLine { at_s: random.number(), number: random.number(), about: text(random), text: text(random) }
}

fn about(random: &mut Random) -> String {
    format!("volumes/{}", name(random))
}

pub fn disks(random: &mut Random) -> Known<BTreeMap<DiskName, Disk>> {
    known(random, |random| some(random, 3, |random| (disk_name(random), disk(random))).into_iter().collect())
}

pub fn vgs(random: &mut Random) -> Known<BTreeMap<PoolName, Vg>> {
    known(random, |random| some(random, 3, |random| (pool(random), vg(random))).into_iter().collect())
}

pub fn report(random: &mut Random) -> Report {
    Report {
        version: text(random),
        kernel: text(random),
        drbd_version: maybe(random, version),
        since_s: random.number(),
        disks: disks(random),
        vgs: vgs(random),
        drbd: known(random, resources),
        // Not told to others.
        conf: Known::default(),
        trouble: some(random, 2, |random| (about(random), text(random))).into_iter().collect(),
        errors: some(random, 2, error_line),
        settled: some(random, 2, |random| (about(random), random.number())).into_iter().collect(),
        left: some(random, 2, |random| record(random).key()).into_iter().collect::<BTreeSet<_>>(),
    }
}

fn or<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Or<T> {
    if random.one_in(3) { Or::Default } else { Or::Set(make(random)) }
}

fn wish(random: &mut Random) -> Wish {
    match random.below(13) {
        0 => Wish::MakeVolume(volume_name(random)),
        1 => Wish::RemoveVolume(volume_name(random)),
        2 | 3 => {
            let change = VolumeChange {
                size: maybe(random, size),
                replicas: maybe(random, |random| or(random, |random| random.below(4) as u8)),
                place: maybe(random, place),
                pool: maybe(random, |random| or(random, pool)),
                group: maybe(random, group_name),
            };
            Wish::ChangeVolume(volume_name(random), change)
        }
        4 => Wish::SetRole(volume_name(random), on(random), random.one_in(2)),
        5 => Wish::SetDiskPool(on(random), disk_name(random), maybe(random, pool)),
        6 => Wish::MakePool(pool(random)),
        7 => Wish::RemovePool(pool(random)),
        8 => Wish::MakeGroup(group_name(random)),
        9 => Wish::RemoveGroup(group_name(random)),
        10 => Wish::SetGroupReplicas(group_name(random), random.next() as u8),
        11 => match random.below(3) {
            0 => Wish::SetGroupPool(group_name(random), pool(random)),
            1 => Wish::SetClusterName(text(random)),
            _ => Wish::SetToken(maybe(random, key)),
        },
        _ => Wish::Join(member(random)),
    }
}

pub fn request(random: &mut Random) -> Request {
    Request { seed: if random.one_in(9) { text(random) } else { key(random) }, wish: wish(random) }
}

fn refusal(random: &mut Random) -> Refusal {
    let errnos = [
        Errno::Invalid,
        Errno::NoSpace,
        Errno::Busy,
        Errno::Exists,
        Errno::NotFound,
        Errno::NotPermitted,
        Errno::ReadOnly,
        Errno::TimedOut,
        Errno::NotSupported,
        Errno::Failed,
    ];
    Refusal::new(*random.pick(&errnos), text(random))
}

pub const KINDS: usize = 9;

/// The message of that kind.
pub fn message(random: &mut Random, kind: usize) -> Message {
    match kind {
        0 => Message::Hello { stamp: stamp(random), leads: random.one_in(2) },
        1 => Message::Current(stamp(random)),
        2 => Message::State(some(random, 12, record).into()),
        3 => Message::Commit { from: stamp(random), txn: txn(random).into() },
        4 => Message::Behind,
        5 => Message::Resigned,
        6 => Message::Report(report(random).into()),
        7 => Message::Ask(request(random)),
        _ => Message::Answer {
            seed: key(random),
            result: if random.one_in(2) { Ok(()) } else { Err(refusal(random)) },
        },
    }
}

pub fn any_message(random: &mut Random) -> Message {
    let kind = random.below(KINDS);
    message(random, kind)
}
