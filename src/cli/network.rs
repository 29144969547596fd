//! This box's name and address.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
};

use crate::core::names::BoxName;

use super::{Failure, fail};

/// The host name, checked.
pub(super) fn box_name() -> Result<BoxName, Failure> {
    let name = nix::unistd::gethostname()?;
    let name = name.to_string_lossy().into_owned();
    BoxName::new(name).map_err(|refusal| Failure {
        text: format!("this box cannot be named after its host name: {refusal}"),
        code: 1,
    })
}

/// What was given, if it is this box's; else the address that the kernel would talk to the world from, or, without a way
/// there, the only one there is. Nothing is sent.
pub(super) fn address(given: Option<&str>) -> Result<IpAddr, Failure> {
    let own = own_addresses()?;
    if let Some(text) = given {
        let Ok(ip) = text.parse::<IpAddr>() else {
            return fail(format!("--address {text:?} is not an IP address"));
        };
        return match own.contains(&ip) {
            true => Ok(ip),
            false => fail(format!(
                "--address {text:?} is not an address of this box that other boxes could reach; {}",
                list(&own)
            )),
        };
    }
    // 192.0.2.1 is for documentation (RFC 5737): connecting a UDP socket only asks the routing table.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let found = socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| socket.local_addr());
    match (found.map(|local| local.ip()), &own[..]) {
        (Ok(ip), _) if own.contains(&ip) => Ok(ip),
        (_, [only]) => Ok(*only),
        (_, _) => fail(format!("this box's address cannot be told; give it as --address IP; {}", list(&own))),
    }
}

fn list(own: &[IpAddr]) -> String {
    let words: Vec<_> = own.iter().map(ToString::to_string).collect();
    if words.is_empty() { "it has none".to_owned() } else { format!("it has: {}", words.join(" ")) }
}

/// This box's addresses that others may know: not its loopback, nor those that count on one link only.
fn own_addresses() -> Result<Vec<IpAddr>, Failure> {
    let all = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    });
    let mut own: Vec<_> = all.filter(is_global).collect();
    own.sort();
    own.dedup();
    Ok(own)
}

fn is_global(ip: &IpAddr) -> bool {
    let on_one_link = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !on_one_link && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

/// Only root can do what holdfast does.
pub(super) fn check_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    fail("this needs root: it works on disks, DRBD and mounts")
}

/// A kernel part that has to be there, as a path that exists with it.
pub(super) fn check_kernel(path: &str, module: &str, package: &str) -> Result<(), Failure> {
    if Path::new(path).exists() {
        return Ok(());
    }
    fail(format!("the kernel module {module} is not loaded: modprobe {module} ({package})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_this_box_is_taken() {
        for text in ["1.2.3.4", "127.0.0.1", "::1", "0.0.0.0", "ff02::1", "box1", ""] {
            let failure = address(Some(text)).expect_err(text);
            assert!(failure.text.contains(&format!("--address {text:?} is not an ")), "{}", failure.text);
            assert_eq!((failure.code, failure.text.lines().count()), (1, 1));
        }
        for own in own_addresses().unwrap_or_default() {
            assert_eq!(address(Some(&own.to_string())).ok(), Some(own));
        }
    }
}
