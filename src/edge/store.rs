//! A small durable key-value store: what survives a power cut once `commit` has returned.
//!
//! It is sled, used in the one way that was found to hold, and named nowhere else:
//! - sled's `flush` does not reach the disk on Linux (it ends in sync_file_range). Each commit therefore ends
//!   with our own fdatasync of its data file; tests/power_cut.rs fails without it.
//! - A kill while it opens can leave `snap.*.generating` behind, after which it never opens again: deleted
//!   before opening.
//! - It may panic on I/O errors, in Drop too: every call is made inside catch_unwind. It may hang on them: the
//!   caller owns it from a thread of its own ([`StoreThread`]) and watches the time.
//! - Its worker threads may hold its locked file for a moment after Drop: closing and opening wait for that.
//! - After any error nothing it says is believed: the store is dead until it is opened anew.
//! - It cannot open on a full disk: a reserve file is given up for that.
//! - Records are framed and sealed (see `record`), so damage is found at open and named.
//!
//! A damaged store is rebuilt from its newest good export. An absent one beside an export is damaged as well:
//! an empty store is made only where there never was one.
//!
//! What records mean, when to export, what to do about a dead store: not here.

mod dir;
mod export;
mod record;
mod thread;

pub use export::{export_paths, read_export, write_export};
pub use record::{MAX_KEY_BYTES, MAX_PAYLOAD_BYTES};
pub use thread::{COMMIT_QUEUE, STOP_AFTER_MS, StoreEvent, StoreThread};

use dir::{DB, rename_synced, sync_dir};
use record::{SEAL_KEY, Seal};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All records of a store, by key.
pub type Records = BTreeMap<String, Vec<u8>>;

/// One change of a commit. Keys are printable ASCII without spaces, up to [`MAX_KEY_BYTES`], like
/// `volume/db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// This key has this payload from now on; up to [`MAX_PAYLOAD_BYTES`].
    Put(String, Vec<u8>),
    /// This key has none; it need not have had one.
    Delete(String),
}

impl Op {
    fn key(&self) -> &str {
        match self {
            Op::Put(key, _) | Op::Delete(key) => key,
        }
    }

    /// Whether it may be committed at all.
    fn check(&self) -> Result<(), StoreError> {
        record::check_key(self.key())?;
        match self {
            Op::Put(key, payload) => record::check_payload(key, payload),
            Op::Delete(_) => Ok(()),
        }
    }
}

/// Why something could not be done with a store. Cloneable, because one failed commit may answer several
/// requests.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)] // The sentences say it.
pub enum StoreError {
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io { doing: &'static str, path: PathBuf, cause: Arc<io::Error> },
    #[error("the store in {} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("the record {key} in the store is damaged: {what}")]
    BadRecord { key: String, what: String },
    #[error("the export {} is not usable: {what}", path.display())]
    BadExport { path: PathBuf, what: String },
    #[error("{key:?} is no key for a record: 1 to {MAX_KEY_BYTES} printable ASCII characters without spaces")]
    BadKey { key: String },
    #[error("the record {key} has {size_bytes} bytes, {MAX_PAYLOAD_BYTES} are the limit")]
    TooLong { key: String, size_bytes: usize },
    #[error("the store is out of use since an error: {since}")]
    Dead { since: String },
    #[error("the store was stopped before this was committed")]
    Stopped,
    #[error("the store does not answer: its thread still hangs after {after_ms} ms")]
    Stuck { after_ms: u64 },
}

impl StoreError {
    /// Whether what lies on disk is wrong, as opposed to a disk that cannot be read now: only then is a
    /// rebuild right.
    fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged { .. } | StoreError::BadRecord { .. } => true,
            StoreError::Io { .. }
            | StoreError::BadExport { .. }
            | StoreError::BadKey { .. }
            | StoreError::TooLong { .. }
            | StoreError::Dead { .. }
            | StoreError::Stopped
            | StoreError::Stuck { .. } => false,
        }
    }

    /// Whether another process has it open.
    pub fn is_locked(&self) -> bool {
        matches!(self, StoreError::Io { doing: "lock", cause, .. } if cause.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull)
    }
}

/// What a rebuild did, for the log and for `health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Why it was needed: the sentence of the error that opening gave.
    pub why: String,
    /// The export that the records were taken from.
    pub from: PathBuf,
    /// Where the damaged store lies now; None if there was none left.
    pub broken: Option<PathBuf>,
    /// How many records there are now.
    pub records: usize,
}

/// The least that sled accepts without slowing down; the daemon keeps its own model of the records.
const CACHE_BYTES: u64 = 1 << 20;

/// An open store. Only one may be open in a directory at a time; sled locks its file.
pub struct Store {
    db: Handle,
    /// sled's data file, a descriptor of our own to sync it.
    data: File,
    data_path: PathBuf,
    seal: Seal,
    dead: Option<String>,
}

impl Store {
    /// Opens the store in `dir`, creating both if absent, and returns it with all its records.
    ///
    /// # Errors
    /// `Io`, `Damaged`, or `BadRecord`, which names the key.
    pub fn open(dir: &Path) -> Result<(Store, Records), StoreError> {
        dir::prepare(dir)?;
        let db_dir = dir.join(DB);
        if !db_dir.exists() {
            if let Some(export) = export_paths(dir).iter().find(|path| path.exists()) {
                let what = format!("{DB} is missing, but there is {}", export.display());
                return Err(StoreError::Damaged { path: dir.to_owned(), what });
            }
            let new = build(dir, &Records::new())?;
            rename_synced(&new, &db_dir, dir)?;
        }
        let opened = match Store::open_db(&db_dir, false) {
            // Not made again at once: the commits need the room, too.
            Err(error) if error.is_disk_full() && dir::give_up_reserve(dir) => {
                Store::open_db(&db_dir, false)?
            }
            other => {
                let opened = other?;
                dir::keep_reserve(dir)?;
                opened
            }
        };
        sync_dir(dir)?;
        Ok(opened)
    }

    /// As [`Store::open`]; a damaged store is put aside and built anew from the newest good export, if there
    /// is one.
    ///
    /// # Errors
    /// Those of `open`; damage is one only if no export is good.
    pub fn open_or_rebuild(dir: &Path) -> Result<(Store, Records, Option<Rebuilt>), StoreError> {
        let error = match Store::open(dir) {
            Ok((store, records)) => return Ok((store, records, None)),
            Err(error) => error,
        };
        if !error.is_damage() {
            return Err(error);
        }
        // A disk that cannot be read is no damage that a rebuild would mend.
        let data_path = dir.join(DB).join(DB);
        if data_path.exists() {
            let mut data = File::open(&data_path).map_err(io_error("open", &data_path))?;
            io::copy(&mut data, &mut io::sink()).map_err(io_error("read", &data_path))?;
        }
        let good = export_paths(dir).into_iter().find_map(|path| Some((read_export(&path).ok()?, path)));
        let Some((exported, from)) = good else { return Err(error) };
        let new = build(dir, &exported)?;
        let broken = dir::put_aside(dir)?;
        rename_synced(&new, &dir.join(DB), dir)?;
        let (store, records) = Store::open(dir)?;
        let rebuilt = Rebuilt { why: error.to_string(), from, broken, records: records.len() };
        Ok((store, records, Some(rebuilt)))
    }

    /// Makes all of `ops`, in order, or none. They are on disk when it returns Ok.
    ///
    /// # Errors
    /// `BadKey` and `TooLong` change nothing. After any other error it is unknown whether they were made, and
    /// the store is dead: every later commit answers `Dead`.
    pub fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        ops.iter().try_for_each(Op::check)?;
        if ops.is_empty() && self.dead.is_none() {
            return Ok(());
        }
        self.commit_checked(ops)
    }

    /// Also of no changes at all a seal is written: it tells an empty store from one that lost everything.
    fn commit_checked(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let db = match (&self.db.0, &self.dead) {
            (Some(db), None) => db,
            (_, since) => return Err(StoreError::Dead { since: since.clone().unwrap_or_default() }),
        };
        let (data, path, seal) = (&self.data, &self.data_path, self.seal);
        let done = guarded(path, || {
            let seal = write(db, ops, seal).map_err(|error| sled_error("write", path, error))?;
            db.flush().map_err(|error| sled_error("flush", path, error))?;
            data.sync_data().map_err(io_error("sync", path))?;
            Ok(seal)
        });
        match done {
            Ok(seal) => {
                self.seal = seal;
                Ok(())
            }
            Err(error) => {
                self.dead = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Closes the store, after which it can be opened again, or its file system unmounted.
    ///
    /// # Errors
    /// `Damaged` if sled panicked over it, `Io` if it does not let go of its file; what was committed is on disk
    /// all the same.
    pub fn close(mut self) -> Result<(), StoreError> {
        let db = self.db.0.take();
        guarded(&self.data_path, || {
            drop(db);
            Ok(())
        })?;
        dir::wait_unlocked(&self.data_path)
    }

    /// Opens sled in `db_dir`; `fresh` if it is being made there.
    fn open_db(db_dir: &Path, fresh: bool) -> Result<(Store, Records), StoreError> {
        let data_path = db_dir.join(DB);
        if !fresh && !data_path.exists() {
            let what = format!("its file {DB} is missing");
            return Err(StoreError::Damaged { path: db_dir.to_owned(), what });
        }
        if !fresh {
            dir::wait_unlocked(&data_path)?;
        }
        dir::remove_half_snapshots(db_dir)?;
        let config = sled::Config::new().path(db_dir).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        let open = || config.open().map_err(|error| sled_error("open", db_dir, error));
        let db = Handle(Some(guarded(db_dir, open)?));
        let (records, seal) = guarded(db_dir, || load(db.0.iter().flat_map(|db| db.iter()), db_dir, fresh))?;
        let data = File::open(&data_path).map_err(io_error("open", &data_path))?;
        data.sync_all().map_err(io_error("sync", &data_path))?;
        let conf = db_dir.join("conf");
        File::open(&conf).and_then(|file| file.sync_all()).map_err(io_error("sync", &conf))?;
        sync_dir(db_dir)?;
        Ok((Store { db, data, data_path, seal, dead: None }, records))
    }
}

/// Lets go of sled without a panic: it panics in Drop when it cannot sync, and twice at once would end the
/// process.
struct Handle(Option<sled::Db>);

impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.0.take();
        // Nobody is left to be told; `close` tells.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// Reads and checks all entries.
fn load(
    entries: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    db_dir: &Path,
    fresh: bool,
) -> Result<(Records, Seal), StoreError> {
    let (mut records, mut seal, mut sealed) = (Records::new(), Seal::default(), None);
    let mut open_record: Option<(u16, u16)> = None; // of the last key: parts seen, parts promised
    for entry in entries {
        let (entry_key, frame) = entry.map_err(|error| sled_error("read", db_dir, error))?;
        if entry_key == SEAL_KEY {
            sealed = Some(frame);
            continue;
        }
        let chunk = record::parse(&entry_key, &frame)?;
        seal.add(&frame);
        let missing =
            |key: &str| StoreError::BadRecord { key: key.to_owned(), what: "a part of it is missing".into() };
        let expected = match open_record {
            Some((seen, count)) if seen < count => (seen, count),
            Some(_) | None => (0, chunk.count),
        };
        if expected != (chunk.index, chunk.count) {
            return Err(missing(chunk.key));
        }
        open_record = Some((chunk.index + 1, chunk.count));
        records.entry(chunk.key.to_owned()).or_default().extend(chunk.payload);
    }
    let whole = open_record.is_none_or(|(seen, count)| seen == count);
    let as_sealed = match &sealed {
        Some(sealed) => **sealed == *seal.to_bytes(),
        None => fresh && records.is_empty(),
    };
    if !whole || !as_sealed {
        let what = format!("its {} records are not those that were last committed", records.len());
        return Err(StoreError::Damaged { path: db_dir.to_owned(), what });
    }
    Ok((records, seal))
}

/// Writes `ops` and the new seal in one transaction, and returns that seal. Not yet durable.
fn write(db: &sled::Db, ops: &[Op], mut seal: Seal) -> Result<Seal, sled::Error> {
    // The last change of a key is the one that counts.
    let mut last: BTreeMap<&str, Option<&[u8]>> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Put(key, payload) => last.insert(key, Some(payload)),
            Op::Delete(key) => last.insert(key, None),
        };
    }
    let mut batch = sled::Batch::default();
    for (key, payload) in last {
        for old in db.scan_prefix(record::entry_prefix(key)) {
            let (entry_key, frame) = old?;
            seal.remove(&frame);
            batch.remove(entry_key);
        }
        for (entry_key, frame) in payload.map_or_else(Vec::new, |payload| record::entries(key, payload)) {
            seal.add(&frame);
            batch.insert(entry_key, frame);
        }
    }
    batch.insert(SEAL_KEY, seal.to_bytes());
    let result: sled::transaction::TransactionResult<(), sled::Error> =
        db.transaction(|tree| Ok(tree.apply_batch(&batch)?));
    match result {
        Ok(()) => Ok(seal),
        Err(
            sled::transaction::TransactionError::Abort(error)
            | sled::transaction::TransactionError::Storage(error),
        ) => Err(error),
    }
}

/// Makes a complete store with `records`, closed and on disk, and returns where: in `db.new`.
fn build(dir: &Path, records: &Records) -> Result<PathBuf, StoreError> {
    let unfinished = dir::make_unfinished(dir)?;
    let (mut store, _) = Store::open_db(&unfinished, true)?;
    let ops: Vec<Op> = records.iter().map(|(key, payload)| Op::Put(key.clone(), payload.clone())).collect();
    store.commit_checked(&ops)?;
    store.close()?;
    dir::finish(dir)
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |cause| StoreError::Io { doing, path, cause: Arc::new(cause) }
}

/// A file that ends too early is damage; any other I/O error is the disk's (or the lock's) and may pass.
fn sled_error(doing: &'static str, path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(cause)
            if !matches!(cause.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            io_error(doing, path)(cause)
        }
        damage @ (sled::Error::Io(_)
        | sled::Error::Corruption { .. }
        | sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)) => {
            StoreError::Damaged { path: path.to_owned(), what: damage.to_string() }
        }
    }
}

/// Runs `call`; a panic in it becomes an error.
fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(StoreError::Damaged { path: path.to_owned(), what: format!("it panicked: {text}") })
    })
}

/// Changes the first entry of a record behind the store's back (None: there is none), for tests of what is
/// found then.
#[cfg(test)]
fn tamper(
    dir: &Path,
    key: &str,
    change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>,
) -> sled::Result<()> {
    let db = sled::open(dir.join(DB))?;
    let entry_key = record::entries(key, b"").remove(0).0;
    match change(db.get(&entry_key)?.map(|frame| frame.to_vec())) {
        Some(frame) => db.insert(entry_key, frame)?,
        None => db.remove(entry_key)?,
    };
    db.flush().map(drop)
}

#[cfg(test)]
mod tests;
