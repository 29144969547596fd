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

/// Waits until no command of a daemon before this one runs, at most `limit`: then a new file takes the old one's place,
/// and false says that some still run. The file is for the commands of this daemon. Only one daemon may do this at a time.
pub fn wait_for_commands(path: &Path, limit: Duration) -> io::Result<(Arc<File>, bool)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let file = open()?;
    let deadline = Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok((Arc::new(file), true)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
            Err(TryLockError::WouldBlock) => {
                fs::remove_file(path)?;
                let file = open()?;
                file.try_lock()?;
                return Ok((Arc::new(file), false));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
