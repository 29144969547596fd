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

/// What was given, or the address that the kernel would talk to the world from. Nothing is sent.
pub(super) fn address(given: Option<&str>) -> Result<IpAddr, Failure> {
    if let Some(text) = given {
        return match text.parse::<IpAddr>() {
            Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
            Ok(_) | Err(_) => {
                fail(format!("--address {text:?} is not an IP address that other boxes could reach"))
            }
        };
    }
    // 192.0.2.1 is for documentation (RFC 5737): connecting a UDP socket only asks the routing table.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let found = socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| socket.local_addr());
    match found {
        Ok(local) if !local.ip().is_loopback() && !local.ip().is_unspecified() => Ok(local.ip()),
        Ok(_) | Err(_) => fail("this box's address cannot be told; give it as --address IP"),
    }
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
