//! mount(2) and umount(2) of the tree, without any helper program.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

/// Why the tree cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// No FUSE in the kernel, or no right to use it.
    #[error("/dev/fuse cannot be opened: {0}; run holdfast as root, and try `modprobe fuse`")]
    Device(#[source] io::Error),
    /// The place to mount at.
    #[error("{at} cannot be mounted on: {source}; it has to be a directory that can be made", at = .at.display())]
    Place {
        /// Where.
        at: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// mount(2), umount(2), or the first exchange with the kernel.
    #[error("the tree cannot be mounted at {at}: {source}", at = .at.display())]
    Mount {
        /// Where.
        at: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Mounts a new FUSE file system at `at`, which is made if it is not there; what a dead daemon left there goes first. The
/// place as the kernel knows it, and the device that requests come from.
pub fn attach(at: &Path) -> Result<(PathBuf, File), FuseError> {
    let place = |source| FuseError::Place { at: at.to_owned(), source };
    clear(at)?;
    fs::create_dir_all(at).map_err(place)?;
    let at = at.canonicalize().map_err(place)?;
    let device = File::options().read(true).write(true).open("/dev/fuse").map_err(FuseError::Device)?;
    let fd = device.as_raw_fd();
    // allow_other and default_permissions: everybody may look, the modes say who may write, and the kernel checks them.
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount(Some("holdfast"), &at, Some("fuse.holdfast"), flags, Some(options.as_str()))
        .map_err(|errno| FuseError::Mount { at: at.clone(), source: errno.into() })?;
    Ok((at, device))
}

/// Takes the mount out of the file system at once; who sits in it keeps a dead directory.
pub fn detach(at: &Path) -> Result<(), FuseError> {
    umount2(at, MntFlags::MNT_DETACH)
        .map_err(|errno| FuseError::Mount { at: at.to_owned(), source: errno.into() })
}

/// Unmounts what a daemon that was killed left behind: everything in it answers ENOTCONN.
fn clear(at: &Path) -> Result<(), FuseError> {
    let dead = || fs::metadata(at).is_err_and(|e| e.raw_os_error() == Some(Errno::ENOTCONN as i32));
    while dead() {
        log::info!("unmounting what an earlier daemon left at {}", at.display());
        detach(at)?;
    }
    Ok(())
}
