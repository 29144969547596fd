//! A hand-made cluster of three boxes for the tests of the tree: one view of it, and the parts to change it with.
#![allow(dead_code, clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use holdfast::core::{
    claim::{Disk, Standing},
    drbd::{
        ConnectionState, Device, DiskState, DrbdVersion, Peer, PeerDevice, ReplicationState, Resource, Role,
    },
    facts::{ErrorLine, Known, Report, Vg},
    intent::{
        Assignment, Cluster, DiskWish, Group, Intent, Leave, Leg, Member, Place, Pool, PoolKind, Stamp,
        Volume,
    },
    names::{BoxName, DiskIdent, DiskName, GroupName, PoolName, VolumeId, VolumeName},
    size::Size,
    view::View,
};
use holdfast::tree::{self, Kind};

pub const G: u64 = 1 << 30;
pub const NINE: DrbdVersion = DrbdVersion { major: 9, minor: 2, patch: 18 };
pub const EIGHT: DrbdVersion = DrbdVersion { major: 8, minor: 4, patch: 11 };

pub fn on(name: &str) -> BoxName {
    BoxName::new(name).unwrap()
}

pub fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

pub fn id(number: u64) -> VolumeId {
    VolumeId::parse(&format!("{number:016x}")).unwrap()
}

pub fn volume(name: &str, number: u64, size: Option<u64>) -> Volume {
    Volume {
        name: VolumeName::new(name).unwrap(),
        id: id(number),
        secret: "0".repeat(32),
        size: size.map(Size),
        replicas: None,
        place: Place::Auto,
        pool: None,
        group: GroupName::new("default").unwrap(),
        primary: None,
    }
}

/// Legs in order of node id; in parentheses the diskless ones, as `status` has them.
pub fn assignment(name: &str, number: u64, size: u64, legs: &[&str]) -> Assignment {
    let leg = |(node_id, word): (usize, &&str)| {
        let bare = word.trim_matches(['(', ')']);
        let pool = (bare == *word).then(|| pool("main"));
        (on(bare), Leg { node_id: u8::try_from(node_id).unwrap(), pool, generation: 1 })
    };
    Assignment {
        id: id(number),
        resource: name.to_owned(),
        secret: "0".repeat(32),
        minor: 999 + u32::try_from(number).unwrap(),
        port: 7000,
        size: Size(size),
        born: true,
        seed: Some(on("box1")),
        legs: legs.iter().enumerate().map(leg).collect(),
    }
}

/// What the kernel of `name` says when all is well: every copy UpToDate, every link up.
pub fn healthy(assignment: &Assignment, name: &str, version: DrbdVersion) -> Resource {
    let disk = |leg: &Leg| if leg.pool.is_some() { DiskState::UpToDate } else { DiskState::Diskless };
    let own = &assignment.legs[&on(name)];
    let device = Device {
        minor: assignment.minor,
        disk: disk(own),
        client: own.pool.is_none(),
        quorum: version.is_9().then_some(true),
        size_kib: assignment.size.bytes() / 1024,
        backing: None,
        open: None,
    };
    let others = assignment.legs.iter().filter(|(other, _)| other.as_str() != name);
    let peers = others.map(|(other, leg)| {
        let device = PeerDevice {
            disk: disk(leg),
            client: leg.pool.is_none(),
            replication: ReplicationState::Established,
            ..PeerDevice::default()
        };
        let peer = Peer {
            name: Some(other.to_string()),
            connection: ConnectionState::Connected,
            role: Role::Secondary,
            devices: BTreeMap::from([(0, device)]),
        };
        (if version.is_9() { leg.node_id } else { 0 }, peer)
    });
    Resource {
        name: assignment.resource.clone(),
        role: Role::Secondary,
        devices: BTreeMap::from([(0, device)]),
        peers: peers.collect(),
        ..Resource::default()
    }
}

pub fn disk(device: &str, standing: Standing) -> (DiskName, Disk) {
    let disk = Disk {
        device: format!("/dev/{device}"),
        ident: DiskIdent::new(&format!("serial-{device}")),
        size: Size(4 * G),
        model: "QEMU HARDDISK".to_owned(),
        serial: format!("S-{device}"),
        path: "pci-0000:00:05.0".to_owned(),
        rotational: device == "vdd",
        standing,
    };
    (DiskName::new(device).unwrap(), disk)
}

pub fn report(name: &str, version: DrbdVersion) -> Report {
    let vg = Vg { size: Size(4 * G - (4 << 20)), free: Size(3 * G), extent: Size(4 << 20), ..Vg::default() };
    let mut disks = BTreeMap::from([disk("vdb", Standing::Claimed(pool("main")))]);
    if name == "box1" {
        disks.extend([
            disk("vdc", Standing::Blank),
            disk("vdd", Standing::Foreign("ext4".to_owned())),
            disk("vda", Standing::InUse("/".to_owned())),
        ]);
    }
    Report {
        version: "0.1.0".to_owned(),
        kernel: "6.12.57+deb13-amd64".to_owned(),
        drbd_version: Some(version),
        since_s: 1_772_366_400,
        disks: Known::Known(disks),
        vgs: Known::Known(BTreeMap::from([(pool("main"), vg)])),
        drbd: Known::Known(BTreeMap::new()),
        ..Report::default()
    }
}

/// A cluster with no volumes; the meta resource on all boxes, on two of them with 8.4.
pub fn empty(version: DrbdVersion) -> View {
    let cluster = Cluster {
        id: "00112233445566ff".to_owned(),
        name: "lab".to_owned(),
        link_key: "0".repeat(64),
        join_secret: "0".repeat(64),
        leader: on("box1"),
    };
    let mut intent = Intent {
        stamp: Stamp { epoch: 2, revision: 17 },
        cluster: Some(cluster),
        pools: BTreeMap::from([(pool("main"), Pool { name: pool("main"), kind: PoolKind::Lvm })]),
        ..Intent::default()
    };
    let default = GroupName::new("default").unwrap();
    intent.groups.insert(default.clone(), Group { name: default, replicas: 2, pool: pool("main") });
    let wish = DiskWish {
        on: on("box1"),
        ident: DiskIdent::new("serial-vdb"),
        name: DiskName::new("vdb").unwrap(),
        pool: pool("main"),
    };
    intent.disks.insert("disk/box1/serial-vdb".to_owned(), wish);
    let mut view = View { me: Some(on("box1")), leader: Some(on("box1")), ..View::default() };
    for (index, name) in ["box1", "box2", "box3"].into_iter().enumerate() {
        let address = format!("10.0.0.{}", index + 1).parse().unwrap();
        intent.members.insert(on(name), Member { name: on(name), public_key: "0".repeat(64), address });
        view.reports.insert(on(name), Arc::new(report(name, version)));
        view.alive.insert(on(name));
    }
    view.intent = Arc::new(intent);
    let mut meta = assignment("holdfast-meta", 0, 128 << 20, &["box1", "box2"]);
    if version.is_9() {
        meta = assignment("holdfast-meta", 0, 128 << 20, &["box1", "box2", "box3"]);
    }
    meta.id = VolumeId::meta();
    assign(&mut view, meta, version);
    view
}

pub fn change_intent(view: &mut View, change: impl FnOnce(&mut Intent)) {
    let mut intent = Intent::clone(&view.intent);
    change(&mut intent);
    view.intent = Arc::new(intent);
}

pub fn change_report(view: &mut View, name: &str, change: impl FnOnce(&mut Report)) {
    let mut report = Report::clone(&view.reports[&on(name)]);
    change(&mut report);
    view.reports.insert(on(name), Arc::new(report));
}

pub fn change_resource(view: &mut View, name: &str, resource: &str, change: impl FnOnce(&mut Resource)) {
    change_report(view, name, |report| {
        let Known::Known(drbd) = &mut report.drbd else { panic!("{name}: unknown") };
        change(drbd.get_mut(resource).unwrap());
    });
}

/// Adds an assignment and what the boxes' kernels say of it when all is well.
pub fn assign(view: &mut View, assignment: Assignment, version: DrbdVersion) {
    for name in assignment.legs.keys() {
        let resource = healthy(&assignment, name.as_str(), version);
        change_report(view, name.as_str(), |report| {
            let Known::Known(drbd) = &mut report.drbd else { panic!("{name}: unknown") };
            drbd.insert(assignment.resource.clone(), resource);
        });
    }
    change_intent(view, |intent| drop(intent.assignments.insert(assignment.id.clone(), assignment)));
}

pub fn add(view: &mut View, volume: Volume) {
    change_intent(view, |intent| drop(intent.volumes.insert(volume.name.clone(), volume)));
}

/// Three boxes with DRBD 9 and a volume in each state that does not come from trouble.
pub fn world() -> View {
    let mut view = empty(NINE);
    add(&mut view, volume("db", 1, Some(20 * G)));
    assign(&mut view, assignment("db", 1, 20 * G, &["box1", "box2", "(box3)"]), NINE);
    change_resource(&mut view, "box1", "db", |r| r.role = Role::Primary);

    add(&mut view, volume("fresh", 2, None));

    let mut placed = volume("placed", 3, Some(512 << 20));
    placed.place = Place::Boxes([on("box2"), on("box3")].into());
    placed.replicas = Some(2);
    placed.pool = Some(pool("main"));
    add(&mut view, placed);
    assign(&mut view, assignment("placed", 3, 512 << 20, &["box2", "box3"]), NINE);
    syncing(&mut view, "placed", "box2", "box3", Some(4310));

    add(&mut view, volume("web", 4, Some(G + 512)));
    assign(&mut view, assignment("web", 4, G + 512, &["box1", "box3"]), NINE);
    change_resource(&mut view, "box3", "web", |r| {
        r.devices.get_mut(&0).unwrap().disk = DiskState::Failed;
    });
    change_report(&mut view, "box3", |report| {
        let line = |at_s, text: &str| ErrorLine {
            at_s,
            number: at_s,
            about: "volumes/web".to_owned(),
            text: text.to_owned(),
        };
        report.errors = vec![
            line(1_772_366_400, "\"1X\" is not a size: the units are K, M, G, T and P; write it like 20G"),
            line(1_772_366_460, "\"\u{e4}\" is not plain ASCII text: write letters, digits and signs"),
        ];
    });
    let leave = Leave {
        id: id(9),
        resource: "gone".to_owned(),
        minor: 1008,
        port: 7008,
        on: on("box2"),
        leg: Leg { node_id: 0, pool: Some(pool("main")), generation: 1 },
    };
    change_intent(&mut view, |intent| drop(intent.leaves.insert("leave/9/box2/1".to_owned(), leave)));
    view.plan = vec!["adjust web".to_owned(), "remove gone.res".to_owned()];
    view.counters = vec![("commits", 17), ("steps", 42)];
    view
}

/// The same cluster on a stock kernel: `db` is promoted by hand on box2, `placed` syncs without a percentage.
pub fn world_84() -> View {
    let mut view = empty(EIGHT);
    let mut db = volume("db", 1, Some(20 * G));
    db.primary = Some(on("box2"));
    add(&mut view, db);
    assign(&mut view, assignment("db", 1, 20 * G, &["box1", "box2"]), EIGHT);
    change_resource(&mut view, "box2", "db", |r| r.role = Role::Primary);
    add(&mut view, volume("placed", 2, Some(G)));
    assign(&mut view, assignment("placed", 2, G, &["box2", "box3"]), EIGHT);
    syncing(&mut view, "placed", "box2", "box3", None);
    view
}

/// `target` is written by `source`; a quarter is done where the kernel says no percentage.
pub fn syncing(view: &mut View, resource: &str, source: &str, target: &str, done: Option<u16>) {
    let set = |r: &mut Resource, replication, disk, peer_disk| {
        let device = r.devices.get_mut(&0).unwrap();
        device.disk = disk;
        let out_of_sync_kib = device.size_kib / 4 * 3;
        let peer = r.peers.values_mut().next().unwrap().devices.get_mut(&0).unwrap();
        *peer = PeerDevice {
            disk: peer_disk,
            replication,
            out_of_sync_kib,
            done_hundredths: done,
            ..PeerDevice::default()
        };
    };
    change_resource(view, source, resource, |r| {
        set(r, ReplicationState::SyncSource, DiskState::UpToDate, DiskState::Inconsistent);
    });
    change_resource(view, target, resource, |r| {
        set(r, ReplicationState::SyncTarget, DiskState::Inconsistent, DiskState::UpToDate);
    });
}

/// Every path of the tree, directories before what is in them.
pub fn walk(view: &View) -> Vec<(String, Kind)> {
    let mut all = vec![(String::new(), Kind::Dir)];
    let mut at = 0;
    while at < all.len() {
        let (path, kind) = all[at].clone();
        if kind == Kind::Dir {
            let entries = tree::list(view, &path).unwrap_or_else(|| panic!("{path} cannot be listed"));
            let inside = entries.into_iter().map(|entry| {
                let path = if path.is_empty() { entry.name } else { format!("{path}/{}", entry.name) };
                (path, entry.kind)
            });
            let inside: Vec<_> = inside.collect();
            all.splice(at + 1..at + 1, inside);
        }
        at += 1;
    }
    all
}
