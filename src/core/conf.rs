//! PURE: the .res file of a resource, and the names and sizes of what lies below it.
//!
//! The file is all that DRBD's own tools need, so that `drbdadm up all` works without holdfast and a person can read
//! what was built. drbdadm takes the style of the module that is loaded and nothing of the other, and one file that it
//! cannot parse fails all its commands: hence two dialects, and no word in a file that its module does not know.
//! What must not go in: reading, writing or comparing files; deciding where a replica lies.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr};

use super::{
    drbd::DrbdVersion,
    intent::{Assignment, Leg, META_NAME, Member},
    mutant,
    names::{BoxName, PoolName},
    size::Size,
};

/// How every file of ours begins. A file that does not is never replaced or removed.
pub const MARK: &str = "# Made by holdfast";

/// Peer slots in DRBD 9 metadata; fixed when it is made. LINSTOR's number too, so that metadata fits either.
pub const PEER_SLOTS_9: u64 = 7;

/// DRBD 8.4's tools want two hosts, so a resource with one gets this second one. Its address is the box's own loopback,
/// where nothing listens: attempts to connect are refused at once and nothing leaves the box.
pub const NOBODY: &str = "holdfast-nobody";
const NOBODY_V4: &str = "ipv4 127.77.77.77";
const NOBODY_V6: &str = "ipv6 [::1]";

/// The volume group of a pool.
pub fn vg_name(pool: &PoolName) -> String {
    format!("holdfast-{pool}")
}

/// The LV of a resource's device: `RESOURCE.N`; the meta resource's has the resource's name.
pub fn lv_name(resource: &str, device_nr: u16) -> String {
    if resource == META_NAME { META_NAME.to_owned() } else { format!("{resource}.{device_nr}") }
}

/// The device node of an LV, as udev links it.
pub fn lv_path(pool: &PoolName, lv_name: &str) -> String {
    format!("/dev/{}/{lv_name}", vg_name(pool))
}

/// How large an LV has to be for a device of `size`, internal metadata included; a multiple of 4 MiB (LVM's extent).
///
/// drbd_meta_data.h and drbdmeta: a superblock of 4 KiB, an activity log of 32 KiB, and a bitmap with one bit for each
/// 4 KiB, in words of 8 bytes, once for each peer slot (7 on DRBD 9, one on 8.4), rounded up to 4 KiB. The bitmap is
/// taken for the whole LV, metadata included: a little more than DRBD uses, never less.
pub fn lv_size_for(size: Size, drbd: DrbdVersion) -> Size {
    const EXTENT: u64 = 4 << 20;
    let slots = if drbd.is_9() { PEER_SLOTS_9 } else { 1 };
    let fixed: u64 = (4 << 10) + (32 << 10);
    let mut gross = size.bytes();
    // The bitmap covers itself: a second round adds what the first one's bitmap needs, the third nothing to speak of.
    for _ in 0..3 {
        let words = gross.div_ceil(4 << 10).div_ceil(64);
        let bitmap = words.saturating_mul(8 * slots).next_multiple_of(4 << 10);
        gross = size.bytes().saturating_add(bitmap).saturating_add(fixed);
    }
    Size(gross.checked_next_multiple_of(EXTENT).unwrap_or(u64::MAX / EXTENT * EXTENT))
}

/// The checksum by which a box compares the file it has with the one it should have.
pub fn crc(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// A leg together with where its box is reached.
struct Host<'a> {
    name: &'a BoxName,
    leg: &'a Leg,
    address: IpAddr,
}

/// The whole file for `a`, the same on every box. Legs on boxes that are no members are left out; so are diskless ones
/// on 8.4, which knows none.
pub fn render(a: &Assignment, members: &BTreeMap<BoxName, Member>, drbd: DrbdVersion) -> String {
    let member = |name| members.get(name).map(|member: &Member| member.address);
    let hosts = a.legs.iter().filter_map(|(name, leg)| Some(Host { name, leg, address: member(name)? }));
    let hosts: Vec<_> = hosts.filter(|host| drbd.is_9() || host.leg.pool.is_some()).collect();
    let mut text = head(a);
    if drbd.is_9() {
        options_9(&mut text, a, hosts.len());
    }
    net(&mut text, a, drbd);
    disk(&mut text);
    for host in &hosts {
        on(&mut text, a, host, drbd);
    }
    if drbd.is_9() {
        connections_9(&mut text, &hosts);
    } else if let [host] = &hosts[..] {
        nobody_84(&mut text, a, host);
    }
    text.push_str("}\n");
    text
}

/// Adds lines; writing into a String cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => { let _ = writeln!($text, $($format)*); };
}

fn head(a: &Assignment) -> String {
    let what =
        if a.is_meta() { "the cluster's own store".to_owned() } else { format!("volume {}", a.resource) };
    format!(
        "{MARK} for {what} (id {}). Do not edit: it is written again.\n\
         # Without holdfast: `drbdadm up {}` brings it up, `drbdadm down {}` takes it down.\n\
         resource \"{}\" {{\n",
        a.id, a.resource, a.resource, a.resource
    )
}

fn options_9(text: &mut String, a: &Assignment, hosts: usize) {
    line!(text, "    options {{");
    line!(text, "        auto-promote {};", if a.is_meta() { "no" } else { "yes" });
    if hosts == 2 {
        line!(
            text,
            "        # Two have no majority without each other: with it, the loss of either would stop both."
        );
        line!(text, "        quorum off;");
    } else {
        line!(text, "        quorum majority;");
    }
    line!(text, "        # An error is seen and ends; frozen I/O cannot even be killed.");
    let on_no_quorum = if mutant::is("freeze without quorum") { "suspend-io" } else { "io-error" };
    line!(text, "        on-no-quorum {on_no_quorum};");
    line!(text, "        on-no-data-accessible io-error;");
    if a.is_meta() {
        line!(text, "        on-suspended-primary-outdated force-secondary;");
    }
    line!(text, "    }}");
}

fn net(text: &mut String, a: &Assignment, drbd: DrbdVersion) {
    line!(text, "    net {{");
    line!(text, "        protocol C;");
    line!(text, "        cram-hmac-alg sha256;");
    line!(text, "        shared-secret \"{}\";", a.secret);
    if drbd.is_9() {
        // 8.4's tools take the word too, but its kernel acts on no policy that it does not know and so becomes a target
        // of a sync while it is Primary: there the default (disconnect) has to stay.
        line!(text, "        rr-conflict retry-connect;");
    }
    if a.is_meta() {
        line!(text, "        # Its Primary is the leader: a dead one is found within two seconds.");
        line!(text, "        ping-int 1;");
        line!(text, "        ping-timeout 5;");
    }
    line!(text, "    }}");
}

/// drbd.conf(5): the default of c-max-rate, 100 MiB/s, is the speed of a 1 Gbit/s link; the controller measures what the
/// link gives, so the limit only has to be above it. The default of c-min-rate, 250 KiB/s, starves a resync under load.
fn disk(text: &mut String) {
    line!(text, "    disk {{");
    line!(text, "        on-io-error detach;");
    line!(text, "        c-max-rate 1G;");
    line!(text, "        c-min-rate 4M;");
    line!(text, "    }}");
}

fn address(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(v4) => format!("ipv4 {v4}:{port}"),
        IpAddr::V6(v6) => format!("ipv6 [{v6}]:{port}"),
    }
}

fn on(text: &mut String, a: &Assignment, host: &Host<'_>, drbd: DrbdVersion) {
    line!(text, "    on \"{}\" {{", host.name);
    if drbd.is_9() {
        line!(text, "        node-id {};", host.leg.node_id);
    }
    line!(text, "        address {};", address(host.address, a.port));
    volume(text, a, host.leg);
    line!(text, "    }}");
}

fn volume(text: &mut String, a: &Assignment, leg: &Leg) {
    line!(text, "        volume 0 {{");
    line!(text, "            device minor {};", a.minor);
    match &leg.pool {
        Some(pool) => {
            line!(text, "            disk \"{}\";", lv_path(pool, &lv_name(&a.resource, 0)));
            line!(text, "            meta-disk internal;");
        }
        None => {
            line!(text, "            disk none;");
        }
    }
    line!(text, "        }}");
}

/// Each pair is named, since a mesh would have links between boxes that have no data for each other.
fn connections_9(text: &mut String, hosts: &[Host<'_>]) {
    for (n, one) in hosts.iter().enumerate() {
        for other in &hosts[n + 1..] {
            if one.leg.pool.is_some() || other.leg.pool.is_some() {
                line!(text, "    connection {{ host \"{}\"; host \"{}\"; }}", one.name, other.name);
            }
        }
    }
}

fn nobody_84(text: &mut String, a: &Assignment, host: &Host<'_>) {
    let address = if host.address.is_ipv4() { NOBODY_V4 } else { NOBODY_V6 };
    line!(
        text,
        "    # There is no other replica; drbdadm wants two hosts, so this one is a word, and nobody is there."
    );
    line!(text, "    on \"{NOBODY}\" {{");
    line!(text, "        address {address}:{};", a.port);
    volume(text, a, host.leg);
    line!(text, "    }}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINE: DrbdVersion = DrbdVersion { major: 9, minor: 2, patch: 18 };
    const EIGHT: DrbdVersion = DrbdVersion { major: 8, minor: 4, patch: 11 };

    #[test]
    fn the_lv_holds_device_and_metadata() {
        // Known by LINSTOR's formula, which is DRBD's: 224.1 MiB for 1 TiB and 7 peers, 264 KiB for 1 GiB and 7 peers.
        let tib = lv_size_for(Size(1 << 40), NINE).bytes() - (1 << 40);
        assert!((224 << 20..=232 << 20).contains(&tib), "{tib}");
        assert_eq!(lv_size_for(Size(1 << 30), NINE), Size((1 << 30) + (4 << 20)));
        assert_eq!(lv_size_for(Size(1 << 40), EIGHT), Size((1 << 40) + (36 << 20)));
        assert_eq!(lv_size_for(Size(1), EIGHT), Size(4 << 20));
        assert_eq!(lv_size_for(Size(u64::MAX), NINE).bytes() % (4 << 20), 0);
    }

    #[test]
    fn the_lv_is_never_too_small_and_never_much_too_large() {
        for shift in 20..50 {
            for size in [(1 << shift) - 4096, 1 << shift, (1 << shift) + 4096] {
                let lv = lv_size_for(Size(size), NINE).bytes();
                let bitmap = (lv.div_ceil(4096).div_ceil(64) * 8 * 7).next_multiple_of(4096);
                assert!(lv - bitmap - 36 * 1024 >= size, "{size}");
                assert!(lv - bitmap - 36 * 1024 <= size + (5 << 20), "{size}");
            }
        }
    }

    #[test]
    fn names_tell_what_lies_where() {
        let Ok(pool) = PoolName::new("main") else { panic!("a pool name") };
        assert_eq!(lv_path(&pool, &lv_name("db", 0)), "/dev/holdfast-main/db.0");
        assert_eq!(lv_name(META_NAME, 0), META_NAME);
    }
}
