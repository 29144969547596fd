//! The .res files as they are written, one golden file a case in tests/conf/, each parsed by DRBD's own tools.
//!
//! `HOLDFAST_RENEW=1 cargo test --test conf` writes the golden files anew; look at the difference then.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use holdfast::core::{
    conf,
    drbd::DrbdVersion,
    intent::{Assignment, Leg, META_MINOR, META_NAME, META_PORT, META_SIZE, Member},
    names::{BoxName, PoolName, VolumeId},
    size::Size,
};

const NINE: DrbdVersion = DrbdVersion { major: 9, minor: 2, patch: 18 };
const EIGHT: DrbdVersion = DrbdVersion { major: 8, minor: 4, patch: 11 };

fn box_name(n: u8) -> BoxName {
    BoxName::new(format!("box{n}")).unwrap()
}

fn members(net: &str) -> BTreeMap<BoxName, Member> {
    let member = |n| Member {
        name: box_name(n),
        public_key: "5".repeat(64),
        address: format!("{net}{n}").parse().unwrap(),
    };
    (1..=4).map(|n| (box_name(n), member(n))).collect()
}

fn legs(diskful: u8, diskless: u8) -> BTreeMap<BoxName, Leg> {
    let pool = PoolName::new("main").unwrap();
    let leg = |n| Leg { node_id: n - 1, pool: (n <= diskful).then(|| pool.clone()), generation: 1 };
    (1..=diskful + diskless).map(|n| (box_name(n), leg(n))).collect()
}

fn volume(legs: BTreeMap<BoxName, Leg>) -> Assignment {
    Assignment {
        id: VolumeId::parse("0123456789abcdef").unwrap(),
        resource: "db".to_owned(),
        secret: "00112233445566778899aabbccddeeff".to_owned(),
        minor: 1000,
        port: 7000,
        size: Size(20 << 30),
        born: true,
        seed: Some(box_name(1)),
        legs,
    }
}

fn meta(legs: BTreeMap<BoxName, Leg>) -> Assignment {
    Assignment {
        id: VolumeId::meta(),
        resource: META_NAME.to_owned(),
        minor: META_MINOR,
        port: META_PORT,
        size: META_SIZE,
        ..volume(legs)
    }
}

/// Name of the case, what it is of, the module, the beginning of the boxes' addresses.
fn cases() -> Vec<(&'static str, Assignment, DrbdVersion, &'static str)> {
    let (v4, v6) = ("10.0.0.", "fd00::");
    vec![
        ("meta-one-box-9", meta(legs(1, 0)), NINE, v4),
        ("meta-three-boxes-9", meta(legs(3, 0)), NINE, v4),
        ("meta-two-and-voter-9", meta(legs(2, 1)), NINE, v6),
        ("meta-one-box-84", meta(legs(1, 0)), EIGHT, v4),
        ("meta-two-boxes-84", meta(legs(2, 0)), EIGHT, v4),
        ("volume-one-9", volume(legs(1, 0)), NINE, v4),
        ("volume-two-9", volume(legs(2, 0)), NINE, v4),
        ("volume-two-and-voter-9", volume(legs(2, 1)), NINE, v4),
        ("volume-two-and-two-clients-9", volume(legs(2, 2)), NINE, v4),
        ("volume-two-84", volume(legs(2, 0)), EIGHT, v4),
        ("volume-one-84-ipv6", volume(legs(1, 0)), EIGHT, v6),
    ]
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/conf/{name}.res"))
}

#[test]
fn files_are_written_as_the_golden_ones() {
    for (name, assignment, drbd, net) in cases() {
        let text = conf::render(&assignment, &members(net), drbd);
        if std::env::var_os("HOLDFAST_RENEW").is_some() {
            fs::write(golden(name), &text).unwrap();
        }
        let wanted = fs::read_to_string(golden(name)).unwrap_or_default();
        assert_eq!(text, wanted, "{name}: HOLDFAST_RENEW=1 writes it anew");
    }
}

#[test]
fn legs_on_boxes_that_are_no_members_are_left_out() {
    let text = conf::render(&volume(legs(2, 0)), &BTreeMap::new(), NINE);
    assert!(!text.contains("on \"box"), "{text}");
}

#[test]
fn drbdadm_takes_every_file_and_makes_the_links_that_are_meant() {
    for (name, _, drbd, _) in cases() {
        let tool = if drbd.is_9() { "/usr/sbin/drbdadm" } else { "/lib/drbd/drbdadm-84" };
        if !PathBuf::from(tool).exists() {
            println!("SKIPPED {name}: {tool} is not installed (package drbd-utils)");
            continue;
        }
        // The file's own host names hold here, and `-d` only prints: neither the module nor root is needed.
        let output = Command::new(tool)
            .env("__DRBD_NODE__", "box1")
            .arg("-c")
            .arg(golden(name))
            .args(["-d", "up", "all"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(said.contains("/dev/holdfast-main/"), "{name}: {said}");
        assert!(!said.contains("Missing section"), "{name}: {said}");
        let peers = said.matches(if drbd.is_9() { " new-peer " } else { " connect " }).count();
        let wanted = match name {
            "meta-one-box-9" | "volume-one-9" => 0,
            "volume-two-and-two-clients-9" => 3,
            "meta-three-boxes-9" | "meta-two-and-voter-9" | "volume-two-and-voter-9" => 2,
            _ => 1,
        };
        assert_eq!(peers, wanted, "{name}: {said}");
    }
}
