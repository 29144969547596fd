//! Which programs holdfast needs and where they are, looked up once at start.
//!
//! What must not go in: starting them (run.rs).

use super::{Cmd, Recorder};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where programs are looked for; never in the environment's PATH.
pub(super) const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The programs holdfast needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// All of LVM in one program: `lvm lvcreate ...`.
    Lvm,
    /// DRBD by configuration file.
    Drbdadm,
    /// DRBD's kernel interface.
    Drbdsetup,
    /// DRBD's metadata.
    Drbdmeta,
    /// Signatures on a device.
    Blkid,
    /// The file system of the meta resource.
    MkfsExt4,
}

impl Tool {
    pub(super) const ALL: [Tool; 6] =
        [Tool::Lvm, Tool::Drbdadm, Tool::Drbdsetup, Tool::Drbdmeta, Tool::Blkid, Tool::MkfsExt4];

    /// File name and the Debian package that brings it.
    fn file_and_package(self) -> (&'static str, &'static str) {
        match self {
            Tool::Lvm => ("lvm", "lvm2"),
            Tool::Drbdadm => ("drbdadm", "drbd-utils"),
            Tool::Drbdsetup => ("drbdsetup", "drbd-utils"),
            Tool::Drbdmeta => ("drbdmeta", "drbd-utils"),
            Tool::Blkid => ("blkid", "util-linux"),
            Tool::MkfsExt4 => ("mkfs.ext4", "e2fsprogs"),
        }
    }
}

/// A program that is not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is not in /usr/sbin, /usr/bin, /sbin or /bin: install the package {package}")]
pub struct MissingProgram {
    /// Its file name.
    pub file: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
}

/// Full paths of all programs, looked up once at start.
#[derive(Clone, Debug)]
pub struct Programs {
    paths: Vec<(Tool, PathBuf)>,
    recorder: Option<Arc<Recorder>>,
    held: Option<Arc<File>>,
}

impl Programs {
    /// Looks every program up; the first that is missing is the error.
    pub fn resolve() -> Result<Programs, MissingProgram> {
        let find = |tool: Tool| {
            let (file, package) = tool.file_and_package();
            let mut paths = FOLDERS.iter().map(|folder| Path::new(folder).join(file));
            paths.find(|path| path.is_file()).map(|path| (tool, path)).ok_or(MissingProgram { file, package })
        };
        let paths = Tool::ALL.into_iter().map(find).collect::<Result<_, _>>()?;
        Ok(Programs { paths, recorder: None, held: None })
    }

    /// The same programs; what they say is recorded from now on.
    pub fn recorded_by(self, recorder: Recorder) -> Programs {
        Programs { recorder: Some(Arc::new(recorder)), ..self }
    }

    /// The same programs; each holds this file open, so that a later daemon can wait for them.
    pub fn holding(self, held: Option<Arc<File>>) -> Programs {
        Programs { held, ..self }
    }

    /// Where what is not said by a call is recorded.
    pub fn recorder(&self) -> Option<&Arc<Recorder>> {
        self.recorder.as_ref()
    }

    /// Where `tool` is.
    pub fn path(&self, tool: Tool) -> &Path {
        let found = self.paths.iter().find(|(candidate, _)| *candidate == tool);
        found.map_or(Path::new(tool.file_and_package().0), |(_, path)| path)
    }

    /// A call of `tool`, to be given its arguments.
    pub fn cmd(&self, tool: Tool, deadline: Duration) -> Cmd {
        Cmd::new(self.path(tool), deadline).recorded_by(self.recorder.clone()).holding(self.held.clone())
    }
}
