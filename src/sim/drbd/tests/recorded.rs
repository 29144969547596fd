//! What the model tells against what real kernels told, in the fields that decisions are made from.

use super::*;
use crate::edge::drbd_events::{Model, parse_line};

fn recorded(name: &str) -> Resource {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/drbd");
    let text = std::fs::read_to_string(root.join(format!("{name}.events2-now.txt"))).unwrap();
    let mut model = Model::default();
    for line in text.lines() {
        model.apply(&parse_line(line).unwrap());
    }
    model.resources().values().next().unwrap().clone()
}

/// The fields that decisions are made from, the same whatever the boxes are called.
fn shape(resource: &Resource) -> Vec<String> {
    let device = |d: &crate::core::drbd::Device| {
        let size = d.size_kib > 0;
        format!(
            "{} client:{} quorum:{:?} backing:{} size:{size}",
            d.disk,
            d.client,
            d.quorum,
            d.backing.is_some()
        )
    };
    let peer = |p: &crate::core::drbd::Peer| {
        let d = &p.devices[&0];
        let waits = &d.resync_suspended;
        let named = p.name.as_deref().map(|name| if name == "peer" { "peer" } else { "its name" });
        let progress = d.done_hundredths.is_some();
        format!(
            "{named:?} {} {} {} client:{} {} {waits} {progress}",
            p.connection, p.role, d.disk, d.client, d.replication
        )
    };
    let head = format!("{} {} {}", resource.role, resource.suspended, resource.force_io_failures);
    let mut peers: Vec<_> = resource.peers.values().map(peer).collect();
    peers.sort();
    std::iter::once(head).chain(resource.devices.values().map(device)).chain(peers).collect()
}

fn same(lab: &Lab, n: BoxId, name: &str) {
    assert_eq!(shape(&lab.look(n)), shape(&recorded(name)), "box{n} and {name}");
}

#[test]
fn nine_from_the_first_day_to_the_first_primary() {
    let mut lab = Lab::new(NINE, 2, 1);
    lab.up(1).unwrap();
    same(&lab, 1, "9.2.18/01-just-created-alone.n1");
    lab.up(2).unwrap();
    lab.up(3).unwrap();
    lab.run(1000);
    for n in 1..=3 {
        same(&lab, n, &format!("9.2.18/02-just-created-all-connected-inconsistent.n{n}"));
    }
    lab.k.seed(1, DB, SeedHow::ClearBitmap).unwrap();
    for n in 1..=3 {
        same(&lab, n, &format!("9.2.18/03-uptodate-all-secondary.n{n}"));
    }
    lab.primary(3);
    for n in 1..=2 {
        same(&lab, n, &format!("9.2.18/05-primary-on-diskless-client-n3.n{n}"));
    }
}

#[test]
fn nine_syncing_from_a_primary() {
    let mut lab = Lab::new(NINE, 2, 0);
    lab.up(1).unwrap();
    lab.up(2).unwrap();
    lab.run(1000);
    lab.k.seed(1, DB, SeedHow::Force).unwrap();
    lab.primary(1);
    lab.run(100);
    let told = &recorded("9.2.18/06-syncing-full-initial.n1").peers[&1];
    let peer = &lab.look(1).peers[&1];
    assert_eq!((peer.connection, peer.role), (told.connection, told.role));
    assert_eq!(peer.devices[&0].replication, told.devices[&0].replication);
    assert_eq!(peer.devices[&0].disk, told.devices[&0].disk);
    assert!(peer.devices[&0].done_hundredths.is_some() && told.devices[&0].done_hundredths.is_some());
}

#[test]
fn nine_with_a_dead_disk() {
    let mut lab = Lab::ready(NINE, 2, 0);
    lab.primary(1);
    lab.k.fail_backing(lab.disks[&1]);
    same(&lab, 1, "9.2.18/09-disk-failed-detached.n1");
    same(&lab, 2, "9.2.18/09-disk-failed-detached.n2");
}

#[test]
fn nine_without_quorum_and_after_a_failover() {
    let mut lab = Lab::ready(NINE, 3, 0);
    lab.primary(3);
    lab.cut_off(3, false);
    lab.run(8000);
    same(&lab, 3, "9.2.18/11-quorum-lost-primary-io-error.n3");
    lab.primary(1);
    same(&lab, 1, "9.2.18/12-one-peer-down-new-primary.n1");
}

#[test]
fn nine_with_suspended_io() {
    let mut lab = Lab::ready(NINE, 3, 0);
    let text = lab.text().replace("on-no-quorum io-error", "on-no-quorum suspend-io");
    lab.up_with(2, &text).unwrap();
    lab.primary(2);
    lab.cut_off(2, false);
    lab.run(8000);
    same(&lab, 2, "9.2.18/14-quorum-lost-primary-suspend-io.n2");
}

#[test]
fn nine_after_a_split_brain() {
    let mut lab = Lab::ready(NINE, 2, 0);
    lab.wire(1, 2, false);
    lab.run(8000);
    for n in [1, 2] {
        lab.primary(n);
        lab.k.close(n, DB);
    }
    same(&lab, 1, "9.2.18/30-disconnected-peer-down.n2");
    lab.wire(1, 2, true);
    lab.run(3000);
    same(&lab, 1, "9.2.18/31-split-brain-standalone.n2");
    same(&lab, 2, "9.2.18/31-split-brain-standalone.n3");
}

#[test]
fn eight_four_from_the_first_day_to_a_dead_disk() {
    let mut lab = Lab::new(EIGHT, 2, 0);
    lab.up(1).unwrap();
    lab.up(2).unwrap();
    lab.run(1000);
    same(&lab, 1, "8.4.11/01-just-created.n4");
    same(&lab, 2, "8.4.11/01-just-created.n5");
    lab.k.seed(1, DB, SeedHow::ClearBitmap).unwrap();
    same(&lab, 1, "8.4.11/02-uptodate-secondary.n4");
    same(&lab, 2, "8.4.11/02-uptodate-secondary.n5");
    lab.primary(1);
    same(&lab, 1, "8.4.11/03-primary.n4");
    same(&lab, 2, "8.4.11/03-primary.n5");
    lab.k.grow_backing(lab.disks[&1], conf::lv_size_for(Size(2 * GIB), EIGHT));
    lab.k.grow_backing(lab.disks[&2], conf::lv_size_for(Size(2 * GIB), EIGHT));
    lab.k.resize(1, DB).unwrap();
    same(&lab, 1, "8.4.11/04-resize-syncing.n4");
    same(&lab, 2, "8.4.11/04-resize-syncing.n5");
    lab.run(9000);
    lab.k.fail_backing(lab.disks[&2]);
    same(&lab, 1, "8.4.11/07-peer-detached.n4");
    same(&lab, 2, "8.4.11/07-peer-detached.n5");
    lab.wire(1, 2, false);
    lab.run(8000);
    same(&lab, 2, "8.4.11/08-peer-down-secondary.n5");
}
