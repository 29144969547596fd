//! mount(2) and umount(2) of the tree. As root without any helper program; who is not root has `fusermount3` for it.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

/// Why the tree cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// No FUSE in the kernel, or no right to use it.
    #[error("/dev/fuse cannot be opened: {0}; try `modprobe fuse`; who is not root needs it with mode 0666")]
    Device(#[source] io::Error),
    /// Only root can mount without it.
    #[error("fusermount3 cannot be run ({0}): apt-get install fuse3, or run this as root")]
    Helper(#[source] io::Error),
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

/// Makes the place ready: made if it is not there, and what a dead daemon left there goes. The place as the kernel knows
/// it, and a device for requests that belongs to no mount yet.
pub fn prepare(at: &Path) -> Result<(PathBuf, File), FuseError> {
    let place = |source| FuseError::Place { at: at.to_owned(), source };
    clear(at)?;
    fs::create_dir_all(at).map_err(place)?;
    let at = at.canonicalize().map_err(place)?;
    let device = File::options().read(true).write(true).open("/dev/fuse").map_err(FuseError::Device)?;
    Ok((at, device))
}

/// Mounts a new FUSE file system at `at`, as root; its requests come from `device`.
pub fn attach(at: &Path, device: &File) -> Result<(), FuseError> {
    let fd = device.as_raw_fd();
    // allow_other and default_permissions: everybody may look, the modes say who may write, and the kernel checks them.
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount(Some("holdfast"), at, Some("fuse.holdfast"), flags, Some(options.as_str()))
        .map_err(|errno| FuseError::Mount { at: at.to_owned(), source: errno.into() })
}

/// Takes the mount out of the file system at once; who sits in it keeps a dead directory.
pub fn detach(at: &Path) -> Result<(), FuseError> {
    match umount2(at, MntFlags::MNT_DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => detach_by_helper(at),
        Err(errno) => Err(FuseError::Mount { at: at.to_owned(), source: errno.into() }),
    }
}

/// The same for who is not root.
fn detach_by_helper(at: &Path) -> Result<(), FuseError> {
    let mut helper = Command::new("fusermount3");
    helper.args(["-u", "-z", "--"]).arg(at).stdin(Stdio::null());
    let output = helper.output().map_err(FuseError::Helper)?;
    if output.status.success() {
        return Ok(());
    }
    let source = io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    Err(FuseError::Mount { at: at.to_owned(), source })
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
