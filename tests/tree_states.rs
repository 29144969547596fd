//! Which word a volume's state has, and what `health` says, for each kind of trouble.
#![allow(clippy::unwrap_used)]

mod tree_world;

use holdfast::core::{
    drbd::{ConnectionState, DiskState, ReplicationState, Resource, Role},
    facts::Known,
    size::Size,
    status::{health, volume_state},
    view::View,
};
use tree_world as world;
use world::{EIGHT, G, NINE, change_intent, change_report, change_resource};

/// `db` of 1G on box1 and box2 with all well, and box3 voting.
fn well() -> View {
    let mut view = world::empty(NINE);
    world::add(&mut view, world::volume("db", 1, Some(G)));
    world::assign(&mut view, world::assignment("db", 1, G, &["box1", "box2", "(box3)"]), NINE);
    view
}

fn state(view: &View) -> String {
    volume_state(view, &view.intent.volumes["db"]).to_string()
}

fn disk(r: &mut Resource, disk: DiskState) {
    r.devices.get_mut(&0).unwrap().disk = disk;
}

fn link(r: &mut Resource, node_id: u8, connection: ConnectionState) {
    r.peers.get_mut(&node_id).unwrap().connection = connection;
}

fn quorum(r: &mut Resource, has: bool) {
    r.devices.get_mut(&0).unwrap().quorum = Some(has);
}

fn away(view: &mut View, name: &str) {
    view.alive.remove(name);
}

fn born(view: &mut View, born: bool) {
    change_intent(view, |i| i.assignments.values_mut().for_each(|a| a.born = born));
}

#[test]
fn what_is_held_open_is_to_be_unmounted_and_the_own_state_is_not_said_to_be_usable() {
    let mut view = world::world_84();
    trouble(&mut view, "box2", "make db Secondary: drbdadm: (-12) Device is held open by someone");
    view.leader = None;
    away(&mut view, "box1");
    let lines = health(&view);
    assert!(lines.iter().any(|l| l.contains("held open by someone; unmount it there")), "{lines:#?}");
    let own: Vec<_> = lines.iter().filter(|l| l.starts_with("the cluster's own state: degraded")).collect();
    assert!(own.len() == 1 && !own[0].contains("it can be used"), "{lines:#?}");
}

type Change = fn(&mut View);

#[test]
fn each_kind_of_trouble_has_its_word() {
    let cases: &[(&str, Change)] = &[
        ("ready", |_| {}),
        ("unsized", |v| {
            change_intent(v, |i| {
                i.assignments.remove(&world::id(1));
                i.volumes.get_mut("db").unwrap().size = None;
            });
        }),
        ("creating", |v| change_intent(v, |i| drop(i.assignments.remove(&world::id(1))))),
        ("creating", |v| born(v, false)),
        ("failed: box2: lvcreate: no room; try again", |v| {
            born(v, false);
            trouble(v, "box2", "lvcreate: no room\n  try again\n");
        }),
        ("wedged (box2: drbdadm down db)", |v| trouble(v, "box2", "wedged: drbdadm down db")),
        ("ready", |v| trouble(v, "box2", "lvcreate: no room")),
        ("degraded (box2 is away)", |v| away(v, "box2")),
        ("ready", |v| away(v, "box3")),
        ("degraded (box2 has no copy running)", |v| {
            change_report(v, "box2", |r| r.drbd = Known::Known(Default::default()));
        }),
        ("degraded (box2 does not know its replicas: no drbdsetup)", |v| {
            change_report(v, "box2", |r| r.drbd = Known::Unknown("no drbdsetup".to_owned()));
        }),
        ("degraded (the copy on box2 is Failed)", |v| {
            change_resource(v, "box2", "db", |r| disk(r, DiskState::Failed));
        }),
        ("degraded (the copy on box2 is Other)", |v| {
            change_resource(v, "box2", "db", |r| disk(r, DiskState::Other));
        }),
        ("degraded (box1 is not connected to box2: Connecting)", |v| {
            change_resource(v, "box1", "db", |r| link(r, 1, ConnectionState::Connecting));
        }),
        ("degraded (box2 has no quorum)", |v| change_resource(v, "box2", "db", |r| quorum(r, false))),
        ("stopped (no quorum)", |v| {
            for name in ["box1", "box2", "box3"] {
                change_resource(v, name, "db", |r| quorum(r, false));
            }
        }),
        ("stopped (no UpToDate copy in reach: box1 is away; box2 is away)", |v| {
            for name in ["box1", "box2", "box3"] {
                away(v, name);
            }
        }),
        // box1 and box2 run on, only their daemons are away: box3 is still linked to UpToDate copies.
        ("degraded (box1 is away; box2 is away)", |v| {
            away(v, "box1");
            away(v, "box2");
        }),
        ("degraded (box1 does not know its replicas: not looked at yet; box2 is away)", |v| {
            change_report(v, "box1", |r| r.drbd = Known::default());
            away(v, "box2");
            away(v, "box3");
        }),
        ("stopped (I/O is frozen on box1: fencing)", |v| {
            change_resource(v, "box1", "db", |r| r.suspended = "fencing".to_owned());
            away(v, "box2");
            away(v, "box3");
        }),
        ("growing", |v| change_intent(v, |i| assigned(i).size = Size(2 * G))),
        ("failed: box1: lvextend: no room", |v| {
            change_intent(v, |i| assigned(i).size = Size(2 * G));
            trouble(v, "box1", "lvextend: no room");
        }),
        ("syncing 43%", |v| world::syncing(v, "db", "box1", "box2", Some(4310))),
        ("syncing 25%", |v| world::syncing(v, "db", "box1", "box2", None)),
        ("syncing 99%", |v| world::syncing(v, "db", "box1", "box2", Some(10_000))),
        // Its daemon is away, but the source tells.
        ("degraded (box2 is away)", |v| {
            world::syncing(v, "db", "box1", "box2", Some(4310));
            away(v, "box2");
        }),
    ];
    for (wanted, change) in cases {
        let mut view = well();
        change(&mut view);
        assert_eq!(&state(&view), wanted);
    }
}

fn assigned(intent: &mut holdfast::core::intent::Intent) -> &mut holdfast::core::intent::Assignment {
    intent.assignments.get_mut(&world::id(1)).unwrap()
}

fn trouble(view: &mut View, name: &str, text: &str) {
    change_report(view, name, |r| drop(r.trouble.insert("volumes/db".to_owned(), text.to_owned())));
}

#[test]
fn with_8_4_the_only_peer_is_the_other_leg() {
    let mut view = world::world_84();
    assert_eq!(state(&view), "ready");
    assert_eq!(volume_state(&view, &view.intent.volumes["placed"]).to_string(), "syncing 25%");
    change_resource(&mut view, "box1", "db", |r| {
        let peer = r.peers.values_mut().next().unwrap();
        peer.connection = ConnectionState::StandAlone;
        peer.name = None;
    });
    assert_eq!(state(&view), "degraded (box1 is not connected to box2: StandAlone)");
}

#[test]
fn a_split_brain_is_told_from_a_cut() {
    let eight = || {
        let mut view = world::world_84();
        // What 8.4 shows of a link that is down: it tries, or is gone from the events.
        change_resource(&mut view, "box1", "db", |r| link(r, 0, ConnectionState::Connecting));
        change_resource(&mut view, "box2", "db", |r| link(r, 0, ConnectionState::Connecting));
        view
    };
    let primary = |view: &mut View, name| change_resource(view, name, "db", |r| r.role = Role::Primary);
    let says = |view: &View| {
        health(view).iter().any(|line| line.contains("volumes/db: split brain: box1 and box2 "))
    };
    assert!(!says(&eight()), "cut, and used on box2 only: {:#?}", health(&eight()));
    let mut alone = eight();
    change_resource(&mut alone, "box1", "db", |r| r.peers.clear());
    assert!(!says(&alone), "a link that was taken down by hand, or is just being made");
    let mut both = eight();
    primary(&mut both, "box1");
    assert!(says(&both), "Primary on both, and they hear each other");
    for (name, tries) in [("box1", true), ("box1", false), ("box2", true), ("box2", false)] {
        let mut found = eight();
        change_resource(&mut found, name, "db", |r| {
            r.split.insert(0);
            if !tries {
                r.peers.clear();
            }
        });
        assert!(says(&found), "{name} {tries}: {:#?}", health(&found));
    }
    let mut cut = well();
    for (name, other) in [("box1", 1), ("box2", 0)] {
        change_resource(&mut cut, name, "db", |r| {
            r.role = Role::Primary;
            link(r, other, ConnectionState::Connecting);
        });
    }
    assert!(says(&cut));
    change_resource(&mut cut, "box1", "db", |r| quorum(r, false));
    assert!(!says(&cut), "box1 cannot write");
}

#[test]
fn connected_is_not_ready_before_it_is_known_what_to_sync() {
    for agreeing in [ReplicationState::Off, ReplicationState::WFBitMapS, ReplicationState::WFBitMapT] {
        let mut view = well();
        change_resource(&mut view, "box1", "db", |r| {
            r.peers.values_mut().flat_map(|p| p.devices.values_mut()).for_each(|d| d.replication = agreeing);
        });
        assert_ne!(state(&view), "ready", "{agreeing}");
    }
}

#[test]
fn health_is_ok_while_all_is_well_also_while_a_copy_syncs() {
    let mut view = well();
    assert_eq!(health(&view), Vec::<String>::new());
    world::syncing(&mut view, "db", "box1", "box2", Some(10));
    assert_eq!(health(&view), Vec::<String>::new());
    world::add(&mut view, world::volume("new", 7, None));
    assert_eq!(health(&view), Vec::<String>::new());
}

#[test]
fn each_problem_is_one_line_that_says_what_to_do() {
    let cases: &[(&str, Change)] = &[
        ("no leader: box1, this box, has not opened", |v| v.leader = None),
        ("no leader: box1 keeps the wishes and cannot be reached", |v| {
            v.leader = None;
            v.me = Some(world::on("box2"));
        }),
        ("box2: away; see that it has power", |v| away(v, "box2")),
        ("box3: the DRBD module is not loaded: try `modprobe drbd`", |v| {
            change_report(v, "box3", |r| r.drbd_version = None);
        }),
        ("two generations of DRBD: 8.4 on box3, 9 on box1 box2", |v| {
            change_report(v, "box3", |r| r.drbd_version = Some(EIGHT));
        }),
        ("box1: its volume groups cannot be read: vgs: timed out", |v| {
            change_report(v, "box1", |r| r.vgs = Known::Unknown("vgs: timed out".to_owned()));
        }),
        ("box1: its disks cannot be read", |v| change_report(v, "box1", |r| r.disks = Known::default())),
        ("box1: its DRBD resources cannot be read", |v| {
            change_report(v, "box1", |r| r.drbd = Known::default());
        }),
        ("box2: pool main misses 1 of its disks", |v| {
            change_report(v, "box2", |r| {
                let Known::Known(vgs) = &mut r.vgs else { panic!("unknown") };
                vgs.values_mut().for_each(|vg| vg.missing_pvs = 1);
            });
        }),
        ("volumes/db: degraded: box2 has no quorum; it can be used", |v| {
            change_resource(v, "box2", "db", |r| quorum(r, false));
        }),
        ("volumes/db: stopped: no quorum", |v| {
            for name in ["box1", "box2", "box3"] {
                change_resource(v, name, "db", |r| quorum(r, false));
            }
        }),
        ("box1: volumes/db: lvextend: no room", |v| trouble(v, "box1", "lvextend: no room")),
        ("the cluster's own state has 1 of 3 copies, and box2 box3 can hold another", |v| {
            change_intent(v, |i| {
                let meta = i.assignments.get_mut(&holdfast::core::names::VolumeId::meta()).unwrap();
                meta.legs.retain(|name, _| name.as_str() == "box1");
            });
        }),
        ("volumes/db: split brain: box1 and box2 each have writes", |v| {
            change_resource(v, "box1", "db", |r| link(r, 1, ConnectionState::StandAlone));
            change_resource(v, "box2", "db", |r| link(r, 0, ConnectionState::StandAlone));
        }),
        ("this box cannot do that", |v| v.notes.push("this box cannot do that: try another".to_owned())),
        ("this box belongs to no cluster", |v| change_intent(v, |i| i.cluster = None)),
    ];
    for (wanted, change) in cases {
        let mut view = well();
        change(&mut view);
        let lines = health(&view);
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}: {lines:#?}");
        assert!(lines.iter().all(|line| !line.contains('\n')), "{lines:#?}");
    }
}
