//! The meta resource's file system on the leader: made once, mounted while this box leads.
//!
//! Why: the store lies on DRBD, so who may write it is decided by who is Primary; opening and closing it is promoting and
//! mounting, unmounting and demoting, in this order and nothing half. These calls block for seconds: they belong to the
//! store's own thread.
//! What must not go in: what lies in the file system (edge/store.rs), who leads (core).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount, umount},
    sys::stat::{major, minor},
};

use super::{
    blkid,
    drbd::Drbd,
    run::{Programs, RunError, Tool, run},
};
use crate::core::{
    claim::Opinion,
    intent::{META_MINOR, META_NAME},
    step::{StepClass, StepError},
};

/// Where it is mounted.
pub const MOUNT_POINT: &str = "/run/holdfast/meta";
/// 128 MiB, written through a link; an emulated machine under load takes 15 s.
const MKFS_DEADLINE: Duration = Duration::from_secs(120);
const FILE_SYSTEM: &str = "ext4";

/// Why the store's place is not there. Each is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// DRBD does not let this box be Primary, or not be it any more.
    #[error("the meta resource: {0}")]
    Drbd(#[from] StepError),
    /// It has content that is not the store's.
    #[error("the meta resource holds {0}, not the store's file system: left alone")]
    Foreign(String),
    /// It should have the store on it.
    #[error("the meta resource is empty, though this cluster was founded before: left alone")]
    Empty,
    /// What it has could not be found out.
    #[error("what the meta resource holds cannot be told: {0}")]
    Unsure(String),
    /// mkfs failed.
    #[error("making the store's file system: {0}")]
    Make(#[from] RunError),
    /// Something else is mounted in its place.
    #[error("{MOUNT_POINT} has something else mounted on it ({0}): unmount it")]
    Taken(String),
    /// A system call failed.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        cause: io::Error,
    },
}

/// The meta resource's place on this box.
pub struct Meta {
    programs: Arc<Programs>,
    drbd: Drbd,
    device: PathBuf,
    place: PathBuf,
}

impl Meta {
    /// With programs as found at start.
    pub fn new(programs: Arc<Programs>) -> Self {
        Self {
            drbd: Drbd::new(Arc::clone(&programs)),
            programs,
            device: PathBuf::from(format!("/dev/drbd{META_MINOR}")),
            place: PathBuf::from(MOUNT_POINT),
        }
    }

    /// Makes this box Primary and mounts the file system; makes one before only if the cluster is being founded (`found`)
    /// and the device holds nothing at all. What was done already is not done again.
    pub fn open(&self, found: bool) -> Result<PathBuf, MetaError> {
        self.drbd.promote(META_NAME)?;
        if self.is_mounted()? {
            return Ok(self.place.clone());
        }
        let device = self.device.display().to_string();
        match blkid::probe(&self.programs, &device) {
            Opinion::Found(what) if what == FILE_SYSTEM => {}
            Opinion::Found(what) => return Err(MetaError::Foreign(what)),
            Opinion::Unsure(why) => return Err(MetaError::Unsure(why)),
            Opinion::Clean if !found => return Err(MetaError::Empty),
            Opinion::Clean => self.make(&device)?,
        }
        let folder = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.place);
        folder.map_err(|cause| MetaError::System { what: "making the place to mount on", cause })?;
        let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        // After an error nothing more may be acknowledged: read-only makes the next write say so.
        let options = Some("errors=remount-ro");
        mount(Some(&self.device), &self.place, Some(FILE_SYSTEM), flags, options)
            .map_err(|errno| MetaError::System { what: "mounting the meta resource", cause: errno.into() })?;
        // The mounted root's own mode counts: keys and secrets lie in there.
        fs::set_permissions(&self.place, fs::Permissions::from_mode(0o700))
            .map_err(|cause| MetaError::System { what: "closing the meta resource to others", cause })?;
        Ok(self.place.clone())
    }

    /// Unmounts it and makes this box Secondary. An error leaves it mounted, or Primary: call again.
    pub fn close(&self) -> Result<(), MetaError> {
        if self.is_mounted()? {
            umount(&self.place).map_err(|errno: Errno| MetaError::System {
                what: "unmounting the meta resource",
                cause: errno.into(),
            })?;
        }
        match self.drbd.demote_patiently(META_NAME) {
            Err(error) if error.class == StepClass::Gone => Ok(()),
            result => Ok(result?),
        }
    }

    /// Not lazily: nothing of it is left to be written by background work when the leader moves. The store needs few
    /// inodes, and none for root.
    fn make(&self, device: &str) -> Result<(), MetaError> {
        let cmd = self.programs.cmd(Tool::MkfsExt4, MKFS_DEADLINE).args(["-q", "-L", META_NAME, "-m", "0"]);
        let cmd = cmd.args(["-N", "1024", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", device]);
        log::info!("making the store's file system on {device}");
        run(&cmd)?;
        Ok(())
    }

    fn is_mounted(&self) -> Result<bool, MetaError> {
        let failed = |cause| MetaError::System { what: "finding out what is mounted", cause };
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        let Some(number) = mounted_on(&mountinfo, &self.place) else { return Ok(false) };
        let device = fs::metadata(&self.device).map_err(failed)?;
        let rdev = std::os::unix::fs::MetadataExt::rdev(&device);
        if number == format!("{}:{}", major(rdev), minor(rdev)) {
            Ok(true)
        } else {
            Err(MetaError::Taken(number))
        }
    }
}

/// The number of the device that is mounted on `place`: the last one, which lies on top.
fn mounted_on(mountinfo: &str, place: &Path) -> Option<String> {
    let mounts = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut mounts = mounts.filter(|fields| fields.get(4).is_some_and(|on| Path::new(on) == place));
    mounts.next_back().and_then(|fields| fields.get(2).map(|number| (*number).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_in_a_place_is_the_last_that_was() {
        let mountinfo = "1 0 254:1 / / rw - ext4 /dev/vda1 rw\n\
                         2 1 147:999 / /run/holdfast/meta rw - ext4 /dev/drbd999 rw\n\
                         broken\n\
                         3 1 0:42 / /run/holdfast/meta rw - tmpfs tmpfs rw\n";
        assert_eq!(mounted_on(mountinfo, Path::new("/")), Some("254:1".into()));
        assert_eq!(mounted_on(mountinfo, Path::new(MOUNT_POINT)), Some("0:42".into()));
        assert_eq!(mounted_on(mountinfo, Path::new("/run")), None);
    }
}
