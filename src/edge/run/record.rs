//! What the programs said, kept as files: `holdfast daemon --record DIR`.
//!
//! Why: parsers and the model of the tests are only as good as what they were shown, so what real kernels and tools say is
//! recorded by the daemon itself, not typed. Files are numbered in the order in which the calls ended.
//! A recording must never harm the daemon: callers put what they have into a bounded queue and go on, one thread writes,
//! what does not fit is dropped, and at the first error or at the size limit it ends with one line in the log.
//! What must not go in: secrets (lines are given to `without_secrets`), and what an output means.

use super::{Ended, without_secrets};
use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// All files of a recording together, those of earlier daemons in the same folder included.
pub const LIMIT_BYTES: u64 = 64 << 20;
/// Of one output only the beginning is kept.
const OUTPUT_LIMIT_BYTES: usize = 1 << 20;
/// How many calls and lines may wait to be written.
const QUEUE: usize = 64;
/// How long the end of the daemon waits for what is not written yet.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The raw lines of `drbdsetup events2`; those that begin with `#` are the recorder's.
pub const EVENTS_FILE: &str = "events2.txt";

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be recorded in {}: {cause}", dir.display())]
pub struct RecordError {
    dir: PathBuf,
    cause: io::Error,
}

/// One call of a program, as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The program's full path and its arguments.
    pub argv: Vec<String>,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// `exit code N`, `signal N`, or a sentence that begins otherwise.
    pub ended: String,
    /// Standard output, or its beginning.
    pub stdout: String,
    /// The beginning of standard error.
    pub stderr: String,
}

impl Call {
    pub(super) fn new(
        argv: Vec<String>,
        took: Duration,
        ended: &Ended,
        stdout: &[u8],
        stderr: &[u8],
    ) -> Self {
        Self {
            argv: argv.iter().map(|arg| without_secrets(arg)).collect(),
            at_ms: now_ms(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ended: ended.to_string(),
            stdout: kept(stdout),
            stderr: kept(stderr),
        }
    }

    /// The program's name.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path))
    }

    /// The exit code; None if it did not end by itself.
    pub fn exit_code(&self) -> Option<i32> {
        self.ended.strip_prefix("exit code ")?.parse().ok()
    }

    /// `lvm-fullreport`, `drbdadm-adjust`: for people who look for a file.
    fn title(&self) -> String {
        let plain = |arg: &&String| {
            let word = arg.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            let first = arg.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
            word && first && !["v08", "v09", "internal", "export"].contains(&arg.as_str())
        };
        let name = self.program().chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c));
        let name: String = name.take(40).collect();
        let word = self.argv.iter().skip(1).find(plain).map(|word| word.chars().take(40).collect::<String>());
        word.map_or(name.clone(), |word| format!("{name}-{word}"))
    }

    /// Reads what `Display` wrote. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let argv = field(&mut rest, "argv: ")?;
        let argv = serde_json::from_str(argv).map_err(|e| format!("argv cannot be read: {e}"))?;
        let at_ms = milliseconds(field(&mut rest, "at: ")?)?;
        let took_ms = milliseconds(field(&mut rest, "took: ")?)?;
        let ended = field(&mut rest, "ended: ")?.to_owned();
        let stdout = output(&mut rest, "stdout: ")?;
        let stderr = output(&mut rest, "stderr: ")?;
        if !rest.is_empty() {
            return Err(format!("more than a call: {:?}", rest.chars().take(80).collect::<String>()));
        }
        Ok(Self { argv, at_ms, took_ms, ended, stdout, stderr })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| format!("{}.{:03} s", ms / 1000, ms % 1000);
        // A list of strings cannot fail to be written.
        writeln!(f, "argv: {}", serde_json::to_string(&self.argv).unwrap_or_default())?;
        writeln!(f, "at: {} since 1970", seconds(self.at_ms))?;
        writeln!(f, "took: {}", seconds(self.took_ms))?;
        writeln!(f, "ended: {}", self.ended.replace('\n', " | "))?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            writeln!(f, "{name}: {} bytes", text.len())?;
            f.write_str(text)?;
            if !text.is_empty() && !text.ends_with('\n') {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

fn field<'t>(rest: &mut &'t str, name: &str) -> Result<&'t str, String> {
    let (line, after) = rest.split_once('\n').ok_or_else(|| format!("no line {name:?}"))?;
    *rest = after;
    line.strip_prefix(name).ok_or_else(|| format!("{line:?} is not {name:?}"))
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let number = text.split(' ').next().unwrap_or_default();
    let whole = number.split_once('.').filter(|(_, part)| part.len() == 3);
    whole
        .and_then(|(s, ms)| s.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(ms.parse().ok()?))
        .ok_or_else(|| format!("{text:?} is no time"))
}

fn output(rest: &mut &str, name: &str) -> Result<String, String> {
    let says = field(rest, name)?;
    let length = says.strip_suffix(" bytes").and_then(|number| number.parse::<usize>().ok());
    let length = length.ok_or_else(|| format!("{name}{says:?} is no length"))?;
    let text = rest.get(..length).ok_or_else(|| format!("{name}shorter than {length} bytes"))?;
    *rest = &rest[length..];
    if !text.is_empty() && !text.ends_with('\n') {
        *rest = rest.strip_prefix('\n').ok_or_else(|| format!("{name}longer than {length} bytes"))?;
    }
    Ok(text.to_owned())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn kept(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_LIMIT_BYTES)]);
    text.split_inclusive('\n').map(without_secrets).collect()
}

enum Item {
    Call(Call),
    Event(String),
    ProcDrbd(String),
}

/// The way to the thread that writes.
#[derive(Debug)]
pub struct Recorder {
    /// None while it ends.
    queue: Option<SyncSender<Item>>,
    written: Mutex<Option<(Receiver<()>, JoinHandle<()>)>>,
    dropped: AtomicBool,
}

impl Recorder {
    pub(super) fn call(&self, call: Call) {
        self.put(Item::Call(call));
    }

    /// A line of `drbdsetup events2`, or with `#` in front one about it.
    pub fn event(&self, line: &str) {
        self.put(Item::Event(without_secrets(line)));
    }

    /// What `/proc/drbd` said; written only where it is new.
    pub fn proc_drbd(&self, text: &str) {
        self.put(Item::ProcDrbd(text.to_owned()));
    }

    /// Never waits. Without the thread the recording is over, which the log has told.
    fn put(&self, item: Item) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(_)) = queue.try_send(item)
            && !self.dropped.swap(true, Ordering::Relaxed)
        {
            log::warn!("the recording has gaps: its folder does not keep up");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((written, thread)) = thread
            && written.recv_timeout(STOP_WITHIN).is_ok()
        {
            drop(thread.join());
        }
    }
}

/// A folder that can be recorded in.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    events: fs::File,
    next_number: u32,
    left_bytes: u64,
    last_proc_drbd: String,
}

impl Recording {
    /// Makes `dir` where it is missing. What is in it stays. No thread yet, so that a process can detach after it.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        Self::with_limit(dir, LIMIT_BYTES).map_err(|cause| RecordError { dir: dir.to_owned(), cause })
    }

    fn with_limit(dir: &Path, limit_bytes: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A daemon that detaches changes its folder.
        let dir = dir.canonicalize()?;
        let (mut last_number, mut used_bytes) = (0_u32, 0);
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            used_bytes += entry.metadata()?.len();
            let number = entry.file_name().to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
            last_number = last_number.max(number.unwrap_or(0));
        }
        let mut how = fs::OpenOptions::new();
        let events = how.append(true).create(true).mode(0o600).open(dir.join(EVENTS_FILE))?;
        Ok(Self {
            dir,
            events,
            next_number: last_number.saturating_add(1),
            left_bytes: limit_bytes.saturating_sub(used_bytes),
            last_proc_drbd: String::new(),
        })
    }

    /// Records from now on.
    pub fn start(self) -> Result<Recorder, RecordError> {
        let dir = self.dir.clone();
        let (queue, items) = sync_channel(QUEUE);
        let (done, written) = sync_channel(1);
        let spawned = std::thread::Builder::new().name("record".to_owned()).spawn(move || {
            self.serve(&items);
            drop(items);
            let _ = done.send(());
        });
        let thread = spawned.map_err(|cause| RecordError { dir, cause })?;
        let written = Mutex::new(Some((written, thread)));
        Ok(Recorder { queue: Some(queue), written, dropped: AtomicBool::default() })
    }

    fn serve(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            if let Err(error) = self.write(item) {
                return log::warn!("the recording in {} ends: {error}", self.dir.display());
            }
        }
    }

    fn write(&mut self, item: Item) -> io::Result<()> {
        match item {
            Item::Event(line) => {
                let line = line + "\n";
                self.take(line.len())?;
                self.events.write_all(line.as_bytes())
            }
            Item::ProcDrbd(text) if text == self.last_proc_drbd => Ok(()),
            Item::ProcDrbd(text) => {
                self.file("proc-drbd", &text)?;
                self.last_proc_drbd = text;
                Ok(())
            }
            Item::Call(call) => self.file(&call.title(), &call.to_string()),
        }
    }

    fn file(&mut self, title: &str, text: &str) -> io::Result<()> {
        self.take(text.len())?;
        let path = self.dir.join(format!("{:05}-{title}.txt", self.next_number));
        self.next_number = self.next_number.saturating_add(1);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(&path)))
    }

    fn take(&mut self, bytes: usize) -> io::Result<()> {
        let left = self.left_bytes.checked_sub(bytes as u64);
        self.left_bytes = left.ok_or_else(|| io::Error::other("it has as many bytes as it may have"))?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
