//! The tree as a mounted file system. The only file that names fuser.
//!
//! Reads are served from the newest published view; a write, mkdir or rmdir becomes a wish for the [`Sink`], which
//! answers it from any thread at any time. No request is waited for here: one thread serves all of them, and fuser
//! drops interrupts, so a parked one could not even be killed.
//!
//! What must not go in: what files there are or what they mean (tree), and deciding anything.

mod handles;
mod inodes;
mod mount;

pub use mount::FuseError;

use std::{
    ffi::OsStr,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno as Code, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session,
    SessionACL, TimeOrNow, WriteFlags,
};

use nix::unistd::{getegid, geteuid};

use crate::{
    core::{
        refusal::{Errno, Refusal},
        view::View,
        wish::Wish,
    },
    tree::{self, Kind},
};
use handles::{Handles, OpenFile};
use inodes::Inodes;

/// How a request is answered: once, from any thread. Dropping it answers EIO.
pub type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// Who takes what is asked through the tree. Neither call may wait.
pub trait Sink: Send + Sync + 'static {
    /// A wish; `about` is the object that a refusal of it is filed under. Answered when it is durable, and not before the
    /// view that shows it is published, so that the next read sees it.
    fn wish(&self, about: String, wish: Wish, answer: Answer);
    /// The tree refused by itself: file it, publish, then answer with it, so that the next read of `error` shows it.
    fn refused(&self, about: String, refusal: Refusal, answer: Answer);
}

/// Requests up to this size: a value has 4096 bytes, and longer writes must arrive whole to be refused.
const WRITE_MAX_BYTES: u32 = 64 * 1024;
/// Nothing is cached by the kernel: the next look is a fresh one.
const TTL: Duration = Duration::ZERO;

/// What the FUSE thread and the publisher share.
struct Shared {
    view: RwLock<Arc<View>>,
    files: Mutex<Handles<OpenFile<PollNotifier>>>,
    inodes: Mutex<Inodes>,
    mounted_at: SystemTime,
    /// Whom the files belong to: whoever mounted them.
    owner: (u32, u32),
}

/// A panic elsewhere must not take the tree down with it: what these hold is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn path(&self, ino: INodeNo) -> Option<String> {
        lock(&self.inodes).path(ino.0)
    }

    /// The path of a name in a directory. A name that is not UTF-8 is in no table: what is shown of it ends up in a
    /// refusal.
    fn child(&self, parent: INodeNo, name: &OsStr) -> Option<String> {
        let (parent, name) = (self.path(parent)?, name.to_string_lossy());
        Some(if parent.is_empty() { name.into_owned() } else { format!("{parent}/{name}") })
    }

    fn attr(&self, view: &View, path: &str, ino: u64) -> Option<FileAttr> {
        let node = tree::resolve(view, path)?;
        // tar and cp believe in sizes, so they are real ones.
        let size = match node.kind {
            Kind::Dir => 0,
            Kind::Link => tree::target(view, path)?.len(),
            Kind::Fact | Kind::Wish | Kind::Secret => tree::read(view, path)?.len(),
        };
        Some(self.attributes(ino, file_type(node.kind), node.mode, size as u64))
    }

    fn attributes(&self, ino: u64, kind: FileType, perm: u16, size: u64) -> FileAttr {
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: self.mounted_at,
            mtime: self.mounted_at,
            ctime: self.mounted_at,
            crtime: self.mounted_at,
            kind,
            perm,
            // 1 also for directories: find then does not count on 2 plus the number of subdirectories.
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::Fact | Kind::Wish | Kind::Secret => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

fn code(errno: Errno) -> Code {
    match errno {
        Errno::Invalid => Code::EINVAL,
        Errno::NoSpace => Code::ENOSPC,
        Errno::Busy => Code::EBUSY,
        Errno::Exists => Code::EEXIST,
        Errno::NotFound => Code::ENOENT,
        Errno::NotPermitted => Code::EPERM,
        Errno::ReadOnly => Code::EROFS,
        Errno::TimedOut => Code::ETIMEDOUT,
        Errno::NotSupported => Code::EOPNOTSUPP,
        Errno::Failed => Code::EIO,
    }
}

/// A handler that panics is a bug: its reply is dropped, which answers EIO, and the others go on.
fn guarded(what: &str, handler: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(handler)).is_err() {
        log::error!(
            "the tree's {what} panicked: this is a bug in holdfast; the request was answered with EIO"
        );
    }
}

/// The mounted tree. Dropping it unmounts.
pub struct Mounted {
    at: Option<PathBuf>,
    shared: Arc<Shared>,
    /// Of a mount that root did not make.
    _session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts the tree at `at`, which is made if it is not there; what a dead daemon left mounted there goes first. Root's
    /// is for everybody; anybody else needs `fusermount3` and is the only one who may look.
    pub fn mount(at: &Path, view: Arc<View>, sink: impl Sink) -> Result<Mounted, FuseError> {
        let (at, device) = mount::prepare(at)?;
        let failed = |source| FuseError::Mount { at: at.clone(), source };
        let (uid, gid) = (geteuid(), getegid());
        let shared = Arc::new(Shared {
            view: RwLock::new(view),
            files: Mutex::default(),
            inodes: Mutex::default(),
            mounted_at: SystemTime::now(),
            owner: (uid.as_raw(), gid.as_raw()),
        });
        let tree = Tree { shared: Arc::clone(&shared), sink, dirs: Mutex::default() };
        if !uid.is_root() {
            drop(device);
            let session = Session::new(tree, &at, &config_without_root()).and_then(Session::spawn);
            let session = session.map_err(|error| {
                let missing = error.kind() == io::ErrorKind::NotFound;
                if missing { FuseError::Helper(error) } else { failed(error) }
            })?;
            return Ok(Mounted { at: Some(at), shared, _session: Some(session) });
        }
        mount::attach(&at, &device)?;
        // From here on the mount goes with this value.
        let mounted = Mounted { at: Some(at.clone()), shared, _session: None };
        Session::from_fd(tree, device.into(), SessionACL::All, Config::default())
            .and_then(Session::spawn)
            .map_err(failed)?;
        Ok(mounted)
    }

    /// From now on reads are served from `view`. Wakes everybody who polls a file whose text it changes.
    pub fn publish(&self, view: Arc<View>) {
        *self.shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        let mut woken = Vec::new();
        for file in lock(&self.shared.files).iter_mut() {
            if file.waiter.is_some() && tree::read(&view, &file.path) != file.text {
                woken.extend(file.waiter.take());
            }
        }
        for waiter in woken {
            if let Err(why) = waiter.notify() {
                log::debug!("a poll could not be woken, its file is closed by now: {why}");
            }
        }
    }

    /// Takes the tree out of the file system; who sits in it keeps a dead directory.
    pub fn unmount(mut self) -> Result<(), FuseError> {
        self.detach()
    }

    fn detach(&mut self) -> Result<(), FuseError> {
        self.at.take().map_or(Ok(()), |at| mount::detach(&at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = self.detach() {
            log::warn!("{why}");
        }
    }
}

/// What `fusermount3` is asked for. Without default_permissions: the tree itself says what can be written, as root finds it.
fn config_without_root() -> Config {
    let name = || "holdfast".to_owned();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(name()),
        MountOption::Subtype(name()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    config
}

/// A name in a listing: number, kind, name.
type Listed = (u64, FileType, String);

struct Tree<S> {
    shared: Arc<Shared>,
    sink: S,
    dirs: Mutex<Handles<Vec<Listed>>>,
}

impl<S: Sink> Tree<S> {
    /// Hands a wish or a refusal on, with the way to answer it.
    fn ask(&self, path: &str, asked: Result<Wish, Refusal>, answer: Answer) {
        let about = tree::about(path);
        match asked {
            Ok(wish) => self.sink.wish(about, wish, answer),
            Err(refusal) => self.sink.refused(about, refusal, answer),
        }
    }

    /// Something that is no verb here.
    fn never(&self, parent: INodeNo, name: &OsStr, done: &str, reply: impl FnOnce(Code) + Send + 'static) {
        let Some(path) = self.shared.child(parent, name) else { return reply(Code::ENOENT) };
        let answer: Answer = Box::new(move |_| reply(Code::EPERM));
        self.ask(&path, Err(tree::fixed(&path, done)), answer);
    }

    fn listing(&self, path: &str) -> Option<Vec<Listed>> {
        let entries = tree::list(&self.shared.view(), path)?;
        let inodes = lock(&self.shared.inodes);
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        let mut listed = vec![
            (inodes.number(path), FileType::Directory, ".".to_owned()),
            (inodes.number(above), FileType::Directory, "..".to_owned()),
        ];
        listed.extend(entries.into_iter().map(|entry| {
            let child = if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
            (inodes.number(&child), file_type(entry.kind), entry.name)
        }));
        Some(listed)
    }

    fn look(&self, path: &str, reply: ReplyEntry) {
        let view = self.shared.view();
        let ino = lock(&self.shared.inodes).number(path);
        match self.shared.attr(&view, path, ino) {
            Some(attr) => {
                lock(&self.shared.inodes).give(path);
                reply.entry(&TTL, &attr, Generation(0));
            }
            None => reply.error(Code::ENOENT),
        }
    }

    fn read_at(&self, handle: u64, offset: u64, size: u32, reply: ReplyData) {
        let view = self.shared.view();
        let mut files = lock(&self.shared.files);
        let Some(file) = files.get(handle) else { return reply.error(Code::EBADF) };
        // From the beginning: a fresh text, as with sysfs. Later parts belong to that one.
        if offset == 0 || file.text.is_none() {
            file.text = tree::read(&view, &file.path);
        }
        let Some(text) = &file.text else { return reply.error(Code::ENOENT) };
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = begin.saturating_add(size as usize).min(text.len());
        reply.data(&text[begin..end]);
    }
}

impl<S: Sink> Filesystem for Tree<S> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Old kernels may lack them, and nothing but speed depends on them: a truncate of its own is accepted too.
        for flag in [InitFlags::FUSE_ATOMIC_O_TRUNC, InitFlags::FUSE_PARALLEL_DIROPS] {
            if config.add_capabilities(flag).is_err() {
                log::debug!("this kernel's FUSE lacks {flag:?}");
            }
        }
        if let Err(nearest) = config.set_max_write(WRITE_MAX_BYTES) {
            log::debug!("this kernel's FUSE writes {nearest} bytes at once");
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guarded("lookup", || match self.shared.child(parent, name) {
            Some(path) => self.look(&path, reply),
            None => reply.error(Code::ENOENT),
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        lock(&self.shared.inodes).forget(ino.0, count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        guarded("getattr", || {
            let path = self.shared.path(ino);
            match path.and_then(|path| self.shared.attr(&self.shared.view(), &path, ino.0)) {
                Some(attr) => reply.attr(&TTL, &attr),
                None => reply.error(Code::ENOENT),
            }
        });
    }

    /// Truncating and touching do nothing: shells truncate before they write.
    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if mode.is_some() || uid.is_some() || gid.is_some() {
            return reply.error(Code::EPERM);
        }
        self.getattr(request, ino, handle, reply);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        guarded("readlink", || {
            let path = self.shared.path(ino);
            match path.and_then(|path| tree::target(&self.shared.view(), &path)) {
                Some(target) => reply.data(target.as_bytes()),
                None => reply.error(Code::ENOENT),
            }
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        guarded("open", || {
            let path = self.shared.path(ino);
            match path.filter(|path| tree::resolve(&self.shared.view(), path).is_some()) {
                Some(path) => {
                    let file = OpenFile { path, text: None, waiter: None };
                    let handle = lock(&self.shared.files).add(file);
                    reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO);
                }
                None => reply.error(Code::ENOENT),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        guarded("read", || self.read_at(handle.0, offset, size, reply));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        guarded("write", || {
            let Some(path) = self.shared.path(ino) else { return reply.error(Code::ENOENT) };
            let asked = tree::write(&self.shared.view(), &path, data, offset);
            // Not more than was accepted by `init`.
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let answer: Answer = Box::new(move |answer| match answer {
                Ok(()) => reply.written(length),
                Err(refusal) => reply.error(code(refusal.errno)),
            });
            self.ask(&path, asked, answer);
        });
    }

    /// Nothing to do on close; the kernel asks once and then no more.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Code::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Code::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Code::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.shared.files).remove(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        guarded("opendir", || {
            let path = self.shared.path(ino);
            match path.filter(|path| tree::resolve(&self.shared.view(), path).is_some()) {
                Some(_) => {
                    let handle = lock(&self.dirs).add(Vec::new());
                    reply.opened(FileHandle(handle), FopenFlags::empty());
                }
                None => reply.error(Code::ENOENT),
            }
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        guarded("readdir", || {
            let mut dirs = lock(&self.dirs);
            let Some(listed) = dirs.get(handle.0) else { return reply.error(Code::EBADF) };
            if offset == 0 {
                let Some(fresh) = self.shared.path(ino).and_then(|path| self.listing(&path)) else {
                    return reply.error(Code::ENOENT);
                };
                *listed = fresh;
            }
            let begin = usize::try_from(offset).unwrap_or(usize::MAX);
            for (at, (ino, kind, name)) in listed.iter().enumerate().skip(begin) {
                if reply.add(INodeNo(*ino), at as u64 + 1, *kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        lock(&self.dirs).remove(handle.0);
        reply.ok();
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        guarded("mkdir", || {
            let Some(path) = self.shared.child(parent, name) else { return reply.error(Code::ENOENT) };
            let asked = tree::mkdir(&self.shared.view(), &path);
            let (shared, made) = (Arc::clone(&self.shared), path.clone());
            let answer: Answer = Box::new(move |answer| match answer {
                Ok(()) => {
                    let ino = lock(&shared.inodes).give(&made);
                    let attr = shared.attributes(ino, FileType::Directory, tree::DIR_MODE, 0);
                    reply.entry(&TTL, &attr, Generation(0));
                }
                Err(refusal) => reply.error(code(refusal.errno)),
            });
            self.ask(&path, asked, answer);
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        guarded("rmdir", || {
            let Some(path) = self.shared.child(parent, name) else { return reply.error(Code::ENOENT) };
            let asked = tree::rmdir(&self.shared.view(), &path);
            self.ask(&path, asked, empty(reply));
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        guarded("rename", || {
            let (from, to) = (self.shared.child(parent, name), self.shared.child(new_parent, new_name));
            let (Some(from), Some(to)) = (from, to) else { return reply.error(Code::ENOENT) };
            let refusal = tree::rename(&self.shared.view(), &from, &to);
            self.ask(&from, Err(refusal), empty(reply));
        });
    }

    /// Not filed: `rm -rf` of a volume would fill `errors` with one line per file.
    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Code::EPERM);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        guarded("create", || self.never(parent, name, "made", |code| reply.error(code)));
    }

    fn mknod(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        guarded("mknod", || self.never(parent, name, "made", |code| reply.error(code)));
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, _: &Path, reply: ReplyEntry) {
        guarded("symlink", || self.never(parent, name, "made", |code| reply.error(code)));
    }

    fn link(&self, _: &Request, _: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guarded("link", || self.never(parent, name, "made", |code| reply.error(code)));
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Code::EPERM);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Code::EPERM);
    }

    /// There are none; the kernel asks once and then no more.
    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Code::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Code::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Code::ENOTTY);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    /// Readable when the text is another than what was last read through this handle, or when nothing was read yet.
    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        notifier: PollNotifier,
        _: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        guarded("poll", || {
            let mut files = lock(&self.shared.files);
            let Some(file) = files.get(handle.0) else { return reply.error(Code::EBADF) };
            if flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY) {
                file.waiter = Some(notifier);
            }
            // After the waiter is kept: what is published from here on wakes it.
            let now = tree::read(&self.shared.view(), &file.path);
            let mut events = PollEvents::POLLOUT | PollEvents::POLLWRNORM;
            if now.is_none() {
                events |= PollEvents::POLLERR | PollEvents::POLLHUP;
            }
            if now.is_none() || now != file.text {
                events |= PollEvents::POLLIN | PollEvents::POLLRDNORM | PollEvents::POLLPRI;
            }
            reply.poll(events);
        });
    }
}

fn empty(reply: ReplyEmpty) -> Answer {
    Box::new(move |answer| match answer {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(code(refusal.errno)),
    })
}
