//! The names in a store's directory, and the order in which they change.
//!
//! `db/` is the open store. `db.tmp/` is one being built; complete, it becomes `db.new/`; then the damaged
//! `db/` becomes `db.broken-N/`, and `db.new/` becomes `db/`. A power cut between any two of these steps is
//! mended at the next opening, and no half-built store is ever taken for a whole one. `reserve` is room to be
//! given up on a full disk. The exports lie beside them.

use super::{StoreError, io_error};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The store's directory, and the data file in it.
pub(super) const DB: &str = "db";
const NEW: &str = "db.new";
const UNFINISHED: &str = "db.tmp";
const BROKEN_PREFIX: &str = "db.broken-";
/// Damaged stores that are kept for a look at them; the file system they lie on is small.
const BROKEN_KEPT: usize = 2;
const RESERVE: &str = "reserve";
/// Opening takes a snapshot, which is far smaller than this for thousands of records.
const RESERVE_BYTES: usize = 1 << 20;

/// What closing or opening waits for a lock; its holder's threads let go of it in milliseconds.
const UNLOCKED_AFTER: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Creates `dir` if need be and finishes what an interrupted rebuild left.
pub(super) fn prepare(dir: &Path) -> Result<(), StoreError> {
    if !dir.exists() {
        // Keys and links' secrets are in it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(io_error("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
    }
    remove_dir(&dir.join(UNFINISHED))?;
    let (db, new) = (dir.join(DB), dir.join(NEW));
    if db.exists() {
        // The old one had not been put aside yet; it says again what is wrong with it.
        return remove_dir(&new);
    }
    if new.exists() {
        return rename_synced(&new, &db, dir);
    }
    Ok(())
}

/// Makes an empty directory to build a store in.
pub(super) fn make_unfinished(dir: &Path) -> Result<PathBuf, StoreError> {
    let unfinished = dir.join(UNFINISHED);
    remove_dir(&unfinished)?;
    fs::create_dir(&unfinished).map_err(io_error("create", &unfinished))?;
    Ok(unfinished)
}

/// Declares the store built there complete; returns where it lies now.
pub(super) fn finish(dir: &Path) -> Result<PathBuf, StoreError> {
    let new = dir.join(NEW);
    remove_dir(&new)?;
    rename_synced(&dir.join(UNFINISHED), &new, dir)?;
    Ok(new)
}

/// Puts `db` aside; returns where to, or None if there is none.
pub(super) fn put_aside(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let db = dir.join(DB);
    if !db.exists() {
        return Ok(None);
    }
    let copies = broken_copies(dir)?;
    let next = copies.last().map_or(1, |(number, _)| number.saturating_add(1));
    for (_, path) in copies.iter().rev().skip(BROKEN_KEPT - 1) {
        remove_dir(path)?;
    }
    let broken = dir.join(format!("{BROKEN_PREFIX}{next}"));
    rename_synced(&db, &broken, dir)?;
    Ok(Some(broken))
}

/// Stores put aside before, oldest first.
pub(super) fn broken_copies(dir: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
        let path = entry.map_err(io_error("read", dir))?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_prefix(BROKEN_PREFIX)?.parse::<u64>().ok());
        copies.extend(number.map(|number| (number, path)));
    }
    copies.sort();
    Ok(copies)
}

/// Waits until nobody holds the lock of the data file any more, for a bounded time.
pub(super) fn wait_unlocked(data_path: &Path) -> Result<(), StoreError> {
    let deadline = Instant::now() + UNLOCKED_AFTER;
    let mut file = File::open(data_path).map_err(io_error("open", data_path))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // Ours ends here, as it is dropped.
            Ok(_) => return Ok(()),
            Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = unlocked,
            Err((_, errno)) => return Err(io_error("lock", data_path)(errno.into())),
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Deletes what a kill during open leaves in the store, and what it would stumble over.
pub(super) fn remove_half_snapshots(db_dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(db_dir).map_err(io_error("read", db_dir))? {
        let path = entry.map_err(io_error("read", db_dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Frees the reserve's room; false if there is none.
pub(super) fn give_up_reserve(dir: &Path) -> bool {
    fs::remove_file(dir.join(RESERVE)).is_ok()
}

/// Makes the reserve if it is not there. A disk too full for it is no reason not to open: the next opening
/// tries again.
pub(super) fn keep_reserve(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(RESERVE);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() == RESERVE_BYTES as u64) {
        return Ok(());
    }
    match fs::write(&path, vec![0; RESERVE_BYTES]).map_err(io_error("write", &path)) {
        Err(error) if error.is_disk_full() => fs::remove_file(&path).map_err(io_error("remove", &path)),
        other => other,
    }
}

fn remove_dir(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The new name is on disk when it returns Ok.
pub(super) fn rename_synced(from: &Path, to: &Path, dir: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(io_error("rename", from))?;
    sync_dir(dir)
}

/// Names created, renamed or removed in `dir` are on disk when it returns Ok.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("sync", dir))
}
