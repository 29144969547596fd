//! Commands that outlive their daemon: a killed daemon leaves an lvcreate or a drbdadm to finish, and what the next one
//! sees counts only once they have.
//!
//! All commands get one locked file as their (empty) standard input. The lock belongs to what was opened, not to a process:
//! it is held for as long as any of them lives. What must not go in: which commands there are.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Waits until no command of a daemon before this one runs, at most `limit`; the file is for the commands of this one.
/// `None` if some still run then: nothing can be said of what they do, and nothing of this daemon's either.
pub fn wait_for_commands(path: &Path, limit: Duration) -> io::Result<Option<Arc<File>>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let deadline = Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Arc::new(file))),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
