use super::*;
use crate::core::drbd::{Device, Peer, PeerDevice, Resource};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/drbd")
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(fixtures().join(name)).unwrap()
}

fn replay(text: &str) -> Model {
    let mut model = Model::default();
    for line in text.lines() {
        model.apply(&parse_line(line).unwrap());
    }
    model
}

/// The only resource of a recorded dump.
fn dump(name: &str) -> Resource {
    let model = replay(&fixture(&format!("{name}.events2-now.txt")));
    assert!(model.ready());
    assert_eq!(model.resources().len(), 1, "{:?}", model.resources());
    model.resources().values().next().unwrap().clone()
}

#[test]
fn every_recorded_line_of_both_modules_is_understood() {
    let mut lines = 0;
    for version in ["9.2.18", "8.4.11"] {
        for file in std::fs::read_dir(fixtures().join(version)).unwrap() {
            let file = file.unwrap().path();
            if file.to_str().unwrap().ends_with(".proc.txt") {
                continue; // not events
            }
            for line in std::fs::read_to_string(&file).unwrap().lines() {
                let event = parse_line(line).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
                assert!(!format!("{event:?}").contains("Other"), "{}: {line}", file.display());
                lines += 1;
            }
        }
    }
    assert!(lines > 1000, "{lines}");
}

#[test]
fn a_connected_resource_with_a_client_is_read_whole() {
    let peer = |name: &str, role, disk, client| Peer {
        name: Some(name.to_string()),
        connection: ConnectionState::Connected,
        role,
        devices: BTreeMap::from([(
            0,
            PeerDevice { disk, client, replication: ReplicationState::Established, ..PeerDevice::default() },
        )]),
    };
    let wanted = Resource {
        name: "r0".to_string(),
        role: Role::Secondary,
        suspended: "no".to_string(),
        force_io_failures: false,
        devices: BTreeMap::from([(
            0,
            Device {
                minor: 1000,
                disk: DiskState::UpToDate,
                client: false,
                quorum: Some(true),
                size_kib: 65484,
                backing: Some("/dev/vg/a0".to_string()),
                open: None,
            },
        )]),
        split: Default::default(),
        peers: BTreeMap::from([
            (1, peer("n2", Role::Primary, DiskState::UpToDate, false)),
            (2, peer("n3", Role::Secondary, DiskState::Diskless, true)),
        ]),
    };
    assert_eq!(dump("9.2.18/04-primary-on-n1.n1"), wanted);
}

#[test]
fn a_sync_shows_its_progress() {
    let resource = dump("9.2.18/06-syncing-full-initial.n1");
    let to = &resource.peers[&2].devices[&0];
    assert_eq!((to.replication, to.disk), (ReplicationState::SyncSource, DiskState::Inconsistent));
    assert_eq!((to.done_hundredths, to.out_of_sync_kib), (Some(586), 246692));
    assert_eq!(resource.peers[&1].devices[&0].done_hundredths, Some(606));
}

#[test]
fn a_lost_disk_is_diskless_but_no_client() {
    let resource = dump("9.2.18/09-disk-failed-detached.n1");
    let device = &resource.devices[&0];
    assert_eq!((device.disk, device.client, device.backing.as_deref()), (DiskState::Diskless, false, None));
    assert_eq!(resource.role, Role::Primary);
    let seen_by_peer = &dump("9.2.18/09-disk-failed-detached.n2").peers[&0].devices[&0];
    assert_eq!((seen_by_peer.disk, seen_by_peer.client), (DiskState::Diskless, false));
}

#[test]
fn a_primary_without_quorum_says_so() {
    let resource = dump("9.2.18/11-quorum-lost-primary-io-error.n3");
    let device = &resource.devices[&0];
    assert_eq!(
        (resource.role, device.disk, device.quorum),
        (Role::Primary, DiskState::UpToDate, Some(false))
    );
    assert_eq!(resource.suspended, "no");
    assert!(resource.peers.values().all(|peer| peer.connection == ConnectionState::Connecting));
    assert_eq!(dump("9.2.18/14-quorum-lost-primary-suspend-io.n2").suspended, "quorum");
}

#[test]
fn a_split_brain_is_stand_alone_with_good_disks() {
    let resource = dump("9.2.18/31-split-brain-standalone.n2");
    let peer = &resource.peers[&1];
    assert_eq!((peer.connection, peer.role), (ConnectionState::StandAlone, Role::Unknown));
    assert_eq!(peer.devices[&0].disk, DiskState::DUnknown);
    assert_eq!(resource.devices[&0].disk, DiskState::UpToDate);
}

#[test]
fn a_split_brain_is_remembered_until_the_link_stands_again() {
    let (mut model, mut seen) = (Model::default(), Vec::new());
    for line in fixture("8.4.11/events2-stream.n4.txt").lines() {
        model.apply(&parse_line(line).unwrap());
        let Some(resource) = model.resources().get("t0") else { continue };
        let alone = resource.peers.is_empty();
        let now = (!resource.split.is_empty(), alone);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    // Found, given up, and linked again after one side dropped its writes.
    let found = seen.windows(3).any(|w| w == [(true, false), (true, true), (true, false)]);
    assert!(found && seen.windows(2).any(|w| w == [(true, false), (false, false)]), "{seen:?}");
}

#[test]
fn volumes_are_kept_apart() {
    let resource = dump("9.2.18/23-two-volumes.n2");
    let minors: Vec<_> = resource.devices.iter().map(|(volume, device)| (*volume, device.minor)).collect();
    assert_eq!(minors, [(0, 1100), (1, 1101)]);
    assert_eq!(resource.peers[&1].devices.len(), 2);
}

#[test]
fn the_stock_module_says_less() {
    let resource = dump("8.4.11/03-primary.n4");
    let device = &resource.devices[&0];
    assert_eq!((resource.role, device.minor, device.size_kib), (Role::Primary, 1000, 65496));
    assert_eq!((device.quorum, device.client, device.backing.as_deref()), (None, false, None));
    let peer = &resource.peers[&0];
    assert_eq!((peer.name.as_deref(), peer.connection), (Some("peer"), ConnectionState::Connected));

    let syncing = &dump("8.4.11/05-syncing.n4").peers[&0].devices[&0].clone();
    assert_eq!((syncing.replication, syncing.out_of_sync_kib), (ReplicationState::SyncSource, 11048));
    assert_eq!(syncing.done_hundredths, None);

    assert_eq!(dump("8.4.11/07-peer-detached.n5").devices[&0].disk, DiskState::Diskless);
    assert_eq!(dump("8.4.11/07-peer-detached.n4").peers[&0].devices[&0].disk, DiskState::Diskless);
}

#[test]
fn a_peer_of_the_stock_module_that_stands_alone_has_no_name() {
    let peer = &dump("8.4.11/10-split-brain-standalone.n4").peers[&0];
    assert_eq!((peer.name.as_deref(), peer.connection), (None, ConnectionState::StandAlone));
    assert_eq!(peer.devices[&0].disk, DiskState::Outdated);
}

#[test]
fn recorded_sessions_end_in_the_right_state() {
    for (session, left) in [
        ("9.2.18/events2-full-stream.n1.txt", LEFT_N1),
        ("9.2.18/events2-full-stream.n2.txt", LEFT_N2),
        ("9.2.18/events2-full-stream.n3.txt", LEFT_N3),
        ("8.4.11/events2-stream.n4.txt", LEFT_N4),
    ] {
        let model = replay(&fixture(session));
        assert!(model.ready());
        let lines: Vec<_> = model.resources().values().map(short).collect();
        assert_eq!(lines, left, "{session}");
    }
}

// Made by reading the last word on each object by other means.
const LEFT_N1: &[&str] = &[
    "meta Primary UpToDate n2=Connected/Secondary/UpToDate/Established n3=Connected/Secondary/UpToDate/Established",
    "r0 Secondary UpToDate n2=Connected/Secondary/UpToDate/Established n3=Connected/Secondary/Diskless/Established",
    "r1 Primary UpToDate n2=Connected/Secondary/UpToDate/Established n3=Connected/Secondary/UpToDate/Established",
    "r2 Secondary UpToDate n2=Connected/Secondary/UpToDate/Established",
];
const LEFT_N2: &[&str] = &[
    "meta Primary UpToDate n1=Connected/Secondary/Inconsistent/SyncSource n3=Connected/Secondary/UpToDate/Established",
    "r0 Secondary UpToDate n1=Connected/Secondary/UpToDate/Established n3=Connected/Secondary/Diskless/Established",
    "r1 Secondary UpToDate n1=Connected/Secondary/UpToDate/Established n3=Connected/Secondary/UpToDate/Established",
    "r2 Secondary UpToDate n1=Connected/Secondary/UpToDate/Established",
];
const LEFT_N3: &[&str] = &[
    "meta Primary UpToDate n1=Connected/Secondary/Inconsistent/Established n2=Connected/Secondary/Inconsistent/SyncSource",
    "r0 Secondary Diskless n1=Connected/Secondary/UpToDate/Established n2=Connected/Secondary/UpToDate/Established",
    "r1 Secondary UpToDate n1=Connected/Secondary/UpToDate/Established n2=Connected/Secondary/UpToDate/Established",
];
// The stock module takes a link that stands alone out of its events.
const LEFT_N4: &[&str] = &["t0 Primary UpToDate"];

/// One line a resource, as short as it can be compared.
fn short(resource: &Resource) -> String {
    let devices = resource.devices.values().map(|device| device.disk.to_string());
    let peers = resource.peers.values().map(|peer| {
        let devices = peer.devices.values().map(|device| format!("/{}/{}", device.disk, device.replication));
        format!(
            " {}={}/{}{}",
            peer.name.as_deref().unwrap_or("-"),
            peer.connection,
            peer.role,
            devices.collect::<String>()
        )
    });
    let devices = devices.collect::<Vec<_>>().join(",");
    format!("{} {} {devices}{}", resource.name, resource.role, peers.collect::<String>())
}

#[test]
fn counters_are_no_change_but_progress_is() {
    let mut model = replay(&fixture("9.2.18/06-syncing-full-initial.n1.events2-now.txt"));
    let mut apply = |line: &str| model.apply(&parse_line(line).unwrap());
    let counters = "change device name:r1 volume:0 minor:1001 backing_dev:/dev/vg/a1 disk:UpToDate client:no \
                    quorum:yes size:262052 read:99 written:7 blocked:upper";
    assert_eq!(apply(counters), None);
    assert_eq!(
        apply("change connection name:r1 peer-node-id:2 conn-name:n3 congested:no ap-in-flight:9"),
        None
    );
    assert_eq!(apply("change path name:r1 peer-node-id:2 conn-name:n3 established:no"), None);
    let progress = "change peer-device name:r1 peer-node-id:2 conn-name:n3 volume:0 replication:SyncSource \
                    done:7.00 out-of-sync:240000";
    assert_eq!(apply(progress).as_deref(), Some("r1"));
    let end = "change peer-device name:r1 peer-node-id:2 conn-name:n3 volume:0 replication:Established \
               peer-disk:UpToDate out-of-sync:0";
    assert_eq!(apply(end).as_deref(), Some("r1"));
    assert_eq!(apply(end), None);
    assert_eq!(model.resources()["r1"].peers[&2].devices[&0].done_hundredths, None);
}

#[test]
fn partial_lines_leave_the_rest_as_it_was() {
    let mut model = replay(&fixture("8.4.11/03-primary.n4.events2-now.txt"));
    let before = model.resources()["t0"].clone();
    let line = "change connection name:t0 peer-node-id:0 conn-name:peer role:Primary";
    assert_eq!(model.apply(&parse_line(line).unwrap()).as_deref(), Some("t0"));
    let mut wanted = before;
    wanted.peers.get_mut(&0).unwrap().role = Role::Primary;
    assert_eq!(model.resources()["t0"], wanted);
}

#[test]
fn destroyed_objects_are_gone_and_renamed_resources_keep_their_facts() {
    let mut model = replay(&fixture("9.2.18/23-two-volumes.n2.events2-now.txt"));
    let mut apply = |line: &str| model.apply(&parse_line(line).unwrap());
    assert_eq!(apply("destroy device name:b0 volume:1").as_deref(), Some("b0"));
    assert_eq!(apply("destroy device name:b0 volume:1"), None);
    assert_eq!(apply("rename resource name:b0 new_name:b9").as_deref(), Some("b9"));
    assert_eq!(apply("destroy connection name:b0 peer-node-id:1"), None, "nothing has that name");
    let b9 = model.resources()["b9"].clone();
    assert_eq!((b9.name.as_str(), b9.devices.len(), b9.peers[&1].devices.len()), ("b9", 1, 1));
    let mut apply = |line: &str| model.apply(&parse_line(line).unwrap());
    assert_eq!(apply("destroy connection name:b9 peer-node-id:1 conn-name:n3").as_deref(), Some("b9"));
    assert_eq!(apply("destroy resource name:b9").as_deref(), Some("b9"));
    assert!(model.resources().is_empty());
}

#[test]
fn helpers_are_told_apart_from_their_answers() {
    let line = "2026-11-22T14:12:43.090323+00:00 response helper name:t0 peer-node-id:0 conn-name:peer \
                helper:fence-peer status:1280";
    let wanted = Event::Helper {
        resource: "t0".to_string(),
        helper: "fence-peer".to_string(),
        node_id: Some(0),
        status: Some(1280),
    };
    assert_eq!(parse_line(line), Ok(wanted));
    let call = parse_line("call helper name:t0 helper:fence-peer");
    assert!(matches!(call, Ok(Event::Helper { status: None, .. })));
}

#[test]
fn what_is_not_understood_is_a_sentence_that_quotes_it() {
    for line in [
        "",
        "2026-11-22T14:12:43.090323+00:00",
        "exists",
        "change gizmo name:db",
        "ponder resource name:db",
        "change resource role:Primary",
        "change device name:db volume:65536",
        "change device name:db volume:0 size:-1",
        "change connection name:db peer-node-id:900",
        "response helper name:db helper:fence-peer",
        "Netlink failure",
    ] {
        let why = parse_line(line).unwrap_err();
        assert!(why.starts_with("drbdsetup events2: ") && why.contains(line), "{why}");
    }
}

/// Found by tests/fuzz: the sentence had the word in full besides the beginning of the line.
#[test]
fn a_long_line_is_quoted_in_part() {
    for line in [
        "x".repeat(5_000) + " y",
        "exists ".to_owned() + &"x".repeat(5_000),
        format!("change device name:db volume:{}", "9".repeat(5_000)),
    ] {
        assert!(parse_line(&line).unwrap_err().len() < 400, "{line}");
    }
}

#[test]
fn mangled_lines_never_panic() {
    let text = fixture("9.2.18/events2-full-stream.n2.txt") + &fixture("8.4.11/events2-stream.n4.txt");
    let lines: Vec<&str> = text.lines().collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit.max(1) as u64) as usize
    };
    let mut model = Model::default();
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut line = lines[below(lines.len())].as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(line.len());
            match below(4) {
                0 if !line.is_empty() => line[at] ^= 1 << below(8),
                1 => line.truncate(at),
                2 => drop(line.splice(at..at, lines[below(lines.len())].bytes())),
                _ => drop(line.drain(at..(at + below(9)).min(line.len()))),
            }
        }
        if let Ok(event) = parse_line(&String::from_utf8_lossy(&line)) {
            understood += 1;
            model.apply(&event);
        }
    }
    assert!((1_000..20_000).contains(&understood), "{understood}");
}
