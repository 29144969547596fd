//! The thread that owns a store.
//!
//! All calls of a store run here, because any of them may hang: on a DRBD device whose I/O is suspended, or
//! on a failing disk. Nobody waits for this thread, except [`StoreThread::stop`], which is bounded; who asked
//! for a commit is told by an event, and watches the time itself.
//!
//! Commits that queue up while one is being synced are taken together: one transaction, one sync, each
//! answered.

use super::{Op, Rebuilt, Records, Store, StoreError, write_export};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests that may wait; one more is refused. A sync takes well below a millisecond on a good disk and 100
/// ms on a bad one, so this is seconds of work.
pub const COMMIT_QUEUE: usize = 256;
/// How long [`StoreThread::stop`] waits for the thread: a commit in progress on a slow disk ends in that
/// time.
pub const STOP_AFTER_MS: u64 = 5_000;
/// Changes taken into one transaction at most, so that one commit's time stays bounded.
const BATCH_OPS: usize = 1_000;

/// What became of a request to the store's thread.
#[derive(Debug)]
pub enum StoreEvent {
    /// The first event: all records, and what was rebuilt if the store was damaged. After an error all
    /// commits fail.
    Opened(Result<(Records, Option<Rebuilt>), StoreError>),
    /// The commit with this number is on disk, or failed. Events come in the order of the requests.
    Committed {
        /// As given to [`StoreThread::commit`].
        seq: u64,
        /// Ok once it is on disk.
        result: Result<(), StoreError>,
    },
    /// An export was written and is on disk, or failed. That leaves the store as it is.
    Exported(Result<(), StoreError>),
}

enum Request {
    Commit(u64, Vec<Op>),
    Export(Records),
}

/// A running store thread. Dropping it lets the thread end on its own, without waiting.
pub struct StoreThread {
    requests: Option<SyncSender<Request>>,
    ended: Receiver<()>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

impl StoreThread {
    /// Starts a thread that opens the store in `dir`, rebuilding it if it is damaged. `on_event` is called on
    /// that thread and must not wait for it.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn start(
        dir: PathBuf,
        on_event: impl Fn(StoreEvent) + Send + 'static,
    ) -> Result<StoreThread, StoreError> {
        let (requests, queue) = mpsc::sync_channel(COMMIT_QUEUE);
        let (ending, ended) = mpsc::sync_channel::<()>(0);
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopping);
        let path = dir.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // Dropped last, also by a panic in `on_event`: `stop` waits for it.
                let _ending = ending;
                run(&dir, &queue, &seen, &on_event)
            })
            .map_err(super::io_error("start a thread for", &path))?;
        Ok(StoreThread { requests: Some(requests), ended, stopping, thread: Some(thread) })
    }

    /// Asks for a commit; `seq` comes back with its event. False if too many wait already, or the thread has
    /// ended: then there will be no event.
    pub fn commit(&self, seq: u64, ops: Vec<Op>) -> bool {
        self.ask(Request::Commit(seq, ops))
    }

    /// Asks for an export of `records`. False as with [`StoreThread::commit`].
    pub fn export(&self, records: Records) -> bool {
        self.ask(Request::Export(records))
    }

    fn ask(&self, request: Request) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.try_send(request).is_ok())
    }

    /// Closes the store and waits until it is closed, so that its file system can be unmounted. Commits that
    /// still wait are answered `Stopped` and not made. No event comes after it returned Ok.
    ///
    /// # Errors
    /// `Stuck` if that takes longer than [`STOP_AFTER_MS`]; the thread is then left to itself. Else those of
    /// [`Store::close`].
    pub fn stop(mut self) -> Result<(), StoreError> {
        self.let_end();
        match self.ended.recv_timeout(Duration::from_millis(STOP_AFTER_MS)) {
            Err(RecvTimeoutError::Timeout) => Err(StoreError::Stuck { after_ms: STOP_AFTER_MS }),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(_)) => Err(StoreError::Dead { since: "its thread panicked".into() }),
                Some(Ok(closed)) => closed,
                None => Ok(()),
            },
        }
    }

    fn let_end(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.requests = None;
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.let_end();
    }
}

fn run(
    dir: &Path,
    queue: &Receiver<Request>,
    stopping: &AtomicBool,
    on_event: &impl Fn(StoreEvent),
) -> Result<(), StoreError> {
    let mut store = match Store::open_or_rebuild(dir) {
        Ok((store, records, rebuilt)) => {
            on_event(StoreEvent::Opened(Ok((records, rebuilt))));
            Ok(store)
        }
        Err(error) => {
            on_event(StoreEvent::Opened(Err(error.clone())));
            Err(StoreError::Dead { since: error.to_string() })
        }
    };
    let mut commit = |ops: &[Op]| match &mut store {
        _ if stopping.load(Ordering::SeqCst) => Err(StoreError::Stopped),
        Ok(store) => store.commit(ops),
        Err(dead) => Err(dead.clone()),
    };
    let mut next = queue.recv().ok();
    while let Some(request) = next.take() {
        match request {
            Request::Export(_) if stopping.load(Ordering::SeqCst) => {
                on_event(StoreEvent::Exported(Err(StoreError::Stopped)));
            }
            Request::Export(records) => on_event(StoreEvent::Exported(write_export(dir, &records))),
            Request::Commit(seq, ops) => {
                let mut group = vec![(seq, ops)];
                next = gather(queue, &mut group);
                answer(group, &mut commit, on_event);
            }
        }
        next = next.or_else(|| queue.recv().ok());
    }
    store.map_or(Ok(()), Store::close)
}

/// Takes more commits that wait already; returns the request after them, if one was taken that is none.
fn gather(queue: &Receiver<Request>, group: &mut Vec<(u64, Vec<Op>)>) -> Option<Request> {
    let mut ops_count = group.iter().map(|(_, ops)| ops.len()).sum::<usize>();
    while ops_count < BATCH_OPS {
        match queue.try_recv().ok()? {
            Request::Commit(seq, ops) => {
                ops_count += ops.len();
                group.push((seq, ops));
            }
            other @ Request::Export(_) => return Some(other),
        }
    }
    None
}

/// Commits a group at once and answers each of it in order. One that may not be committed spoils no other.
fn answer(
    group: Vec<(u64, Vec<Op>)>,
    commit: &mut impl FnMut(&[Op]) -> Result<(), StoreError>,
    on_event: &impl Fn(StoreEvent),
) {
    let mut together = Vec::new();
    let checked: Vec<(u64, Result<(), StoreError>)> = group
        .into_iter()
        .map(|(seq, ops)| {
            let checked = ops.iter().try_for_each(Op::check);
            if checked.is_ok() {
                together.extend(ops);
            }
            (seq, checked)
        })
        .collect();
    let committed = commit(&together);
    for (seq, checked) in checked {
        on_event(StoreEvent::Committed { seq, result: checked.and_then(|()| committed.clone()) });
    }
}
