//! The directory with the mounts: made, and removed again.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::cli::{Failure, fail};

/// The file that takes commands.
const CONTROL: &str = "control";

/// Dropping it removes what is in it, and itself if it was not there before. Only what is empty is ever removed.
pub(super) struct Place {
    pub dir: PathBuf,
    made: bool,
}

impl Place {
    /// The directory that was named, or a new one.
    pub fn new(given: Option<&str>) -> Result<Self, Failure> {
        let Some(given) = given else {
            let dir = nix::unistd::mkdtemp(&std::env::temp_dir().join("holdfast-XXXXXX"))?;
            return Ok(Self { dir, made: true });
        };
        let failed = |error: io::Error| Failure {
            text: format!("{given} cannot be used: {error}; it has to be a directory that can be made"),
            code: 1,
        };
        let made = !Path::new(given).exists();
        if made {
            fs::create_dir_all(given).map_err(failed)?;
        }
        let dir = Path::new(given).canonicalize().map_err(failed)?;
        check(&dir)?;
        Ok(Self { dir, made })
    }

    /// The file that takes commands.
    pub fn control(&self) -> PathBuf {
        self.dir.join(CONTROL)
    }
}

/// Whether a name is a box's directory.
fn is_box(name: &str) -> bool {
    name.strip_prefix("box").is_some_and(|n| n.parse::<u8>().is_ok())
}

/// Nothing is in it but what a sandbox that was killed may have left.
fn check(dir: &Path) -> Result<(), Failure> {
    let own = fs::metadata(dir)?.dev();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != CONTROL && !is_box(&name) {
            return fail(format!("{} is not empty: there is {name:?} in it", dir.display()));
        }
        match fs::metadata(entry.path()) {
            Ok(found) if found.dev() != own => {
                return fail(format!("another sandbox runs in {}", dir.display()));
            }
            Err(error) if error.raw_os_error() != Some(Errno::ENOTCONN as i32) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

impl Drop for Place {
    fn drop(&mut self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let boxes = entries.filter(|entry| is_box(&entry.file_name().to_string_lossy()));
        // What cannot be removed was put there by somebody else.
        boxes.for_each(|entry| drop(fs::remove_dir(entry.path())));
        drop(fs::remove_file(self.control()));
        if self.made {
            drop(fs::remove_dir(&self.dir));
        }
    }
}
