//! The running `drbdsetup events2`: started, read, started again when it ends.
//!
//! Why it may end: without the kernel module, when the module is unloaded, and when the kernel had to drop messages because
//! we were slow (it exits then; no event is lost silently). Each time the new dump is the truth, so a fresh `Model` begins.
//! What must not go in: decisions. The callback runs on the reading thread and must be quick: it posts an event.

use super::{Event, Model, parse_line};
use crate::core::drbd::{DrbdVersion, Resource};
use crate::edge::run::{Recorder, start_talker};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A line longer than this is dropped; the longest seen is 500 bytes.
const LINE_LIMIT_BYTES: usize = 16 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a drop waits for the thread; longer only if the kernel does not let the child be killed.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What the stream tells.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// All there is: after the start, and after each restart.
    Facts(BTreeMap<String, Resource>),
    /// One resource as it is now; None: it is gone.
    Changed(String, Option<Resource>),
    /// From here to the next `Facts`, nothing is known. Says why.
    Lost(String),
}

/// A thread that follows the kernel's events until this is dropped.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    stopped: bool,
    /// Not yet waited for, so that its id is surely its own when it is killed.
    child: Option<Child>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventStream {
    /// Follows `drbdsetup`, a full path, speaking as the utilities do for the module of `version`.
    pub fn start(
        drbdsetup: impl Into<PathBuf>,
        version: DrbdVersion,
        on: impl Fn(StreamEvent) + Send + 'static,
    ) -> std::io::Result<EventStream> {
        Self::recorded_by(None, drbdsetup, version, on)
    }

    /// The same; its lines are also recorded, where there is a recording.
    pub fn recorded_by(
        recorder: Option<Arc<Recorder>>,
        drbdsetup: impl Into<PathBuf>,
        version: DrbdVersion,
        on: impl Fn(StreamEvent) + Send + 'static,
    ) -> std::io::Result<EventStream> {
        // 8.4's drbdsetup knows no --full. On 9 it makes every line complete.
        let args: &[&str] = if version.is_9() {
            &["events2", "--full", "--timestamps", "--statistics"]
        } else {
            &["events2", "--timestamps", "--statistics"]
        };
        Self::follow(drbdsetup.into(), args, recorder, Box::new(on))
    }

    fn follow(
        program: PathBuf,
        args: &[&str],
        recorder: Option<Arc<Recorder>>,
        on: Box<dyn Fn(StreamEvent) + Send>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let args = args.iter().map(|arg| arg.to_string()).collect();
        let follower = Follower { shared: shared.clone(), program, args, recorder, on };
        thread::Builder::new().name("drbd-events".to_string()).spawn(move || follower.follow())?;
        Ok(EventStream { shared })
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        if let Some(Err(error)) = state.child.as_mut().map(Child::kill) {
            log::debug!("drbdsetup events2 cannot be killed: {error}");
        }
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, STOP_LIMIT, |state| !state.stopped);
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            log::warn!("drbdsetup events2 was killed but does not end: left behind");
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    program: PathBuf,
    args: Vec<String>,
    recorder: Option<Arc<Recorder>>,
    on: Box<dyn Fn(StreamEvent) + Send>,
}

impl Follower {
    fn record(&self, line: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.event(line);
        }
    }

    fn follow(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (was_ready, why) = self.one_run();
            if was_ready {
                pause = FIRST_PAUSE;
            }
            if self.shared.lock().stopping {
                break;
            }
            log::debug!("drbdsetup events2: {why}; again in {} ms", pause.as_millis());
            (self.on)(StreamEvent::Lost(why));
            let until = Instant::now() + pause;
            let is_waiting = |state: &mut State| !state.stopping && Instant::now() < until;
            drop(self.shared.changed.wait_timeout_while(self.shared.lock(), pause, is_waiting));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.recorder = None; // who waits for the end finds all lines written
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }

    /// One life of the child: whether its dump was complete, and why it ended.
    fn one_run(&self) -> (bool, String) {
        let reader = {
            let mut state = self.shared.lock();
            if state.stopping {
                return (false, "stopping".to_string());
            }
            match start_talker(&self.program, &self.args) {
                Ok((child, reader)) => {
                    state.child = Some(child);
                    reader
                }
                Err(error) => return (false, format!("cannot run it: {error}")),
            }
        };
        let mut reading = Reading { model: Model::default(), last_error: None, on: &self.on };
        if self.recorder.is_some() {
            self.record(&format!("# drbdsetup {}", self.args.join(" ")));
        }
        let cut = for_each_line(reader, |line| match line {
            Ok(line) => {
                self.record(line);
                reading.take(line);
            }
            Err(why) => {
                self.record(&format!("# {why}"));
                reading.complain(why);
            }
        });
        let child = self.shared.lock().child.take();
        let ended = child.map(|mut child| {
            // Whatever closed the pipe, the child is of no use any more.
            child.kill().and_then(|()| child.wait())
        });
        let mut why = match (cut, ended) {
            (Err(error), _) => format!("cannot read from it: {error}"),
            (Ok(()), Some(Ok(status))) => format!("it ended ({status})"),
            (Ok(()), Some(Err(error))) => format!("it ended: {error}"),
            (Ok(()), None) => "it ended".to_string(),
        };
        if self.recorder.is_some() {
            self.record(&format!("# {why}"));
        }
        if let Some(error) = reading.last_error {
            why = format!("{why}; last complaint: {error}");
        }
        (reading.model.ready(), why)
    }
}

/// Lines taken in during one life of the child.
struct Reading<'a> {
    model: Model,
    last_error: Option<String>,
    on: &'a dyn Fn(StreamEvent),
}

impl Reading<'_> {
    fn complain(&mut self, error: String) {
        log::debug!("{error}");
        self.last_error = Some(error);
    }

    fn take(&mut self, line: &str) {
        let event = match parse_line(line) {
            Ok(event) => event,
            Err(error) => return self.complain(error),
        };
        let was_ready = self.model.ready();
        let changed = self.model.apply(&event);
        if !self.model.ready() {
            return;
        }
        if !was_ready {
            return (self.on)(StreamEvent::Facts(self.model.resources().clone()));
        }
        if let Event::Rename { from, .. } = event {
            (self.on)(StreamEvent::Changed(from, None));
        }
        if let Some(name) = changed {
            let resource = self.model.resources().get(&name).cloned();
            (self.on)(StreamEvent::Changed(name, resource));
        }
    }
}

/// Calls `take` with each whole line until the end of file, or with a complaint about one that is too long or cut off: its
/// beginning may well be a line that says something else.
fn for_each_line(from: impl Read, mut take: impl FnMut(Result<&str, String>)) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.by_ref().take(LINE_LIMIT_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        if line.last() != Some(&b'\n') {
            let start: String = text.chars().take(200).collect();
            take(Err(format!("drbdsetup events2: a line too long or cut off: {start:?}")));
            from.skip_until(b'\n')?;
        } else if !text.trim().is_empty() {
            take(Ok(text.trim_end()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::edge::run::{EVENTS_FILE, Recording};
    use std::sync::mpsc::{Receiver, channel};

    const LIMIT: Duration = Duration::from_secs(20);

    /// Follows a shell script in place of drbdsetup.
    fn stream_of(script: &str) -> (EventStream, Receiver<StreamEvent>) {
        let (to, from) = channel();
        let on = Box::new(move |event| drop(to.send(event)));
        let stream = EventStream::follow(PathBuf::from("/bin/sh"), &["-c", script], None, on).unwrap();
        (stream, from)
    }

    #[test]
    fn the_raw_lines_are_recorded_with_beginning_and_end() {
        let dir = std::env::temp_dir().join(format!("holdfast-stream-record-{}", std::process::id()));
        let recorder = Arc::new(Recording::open(&dir).unwrap().start().unwrap());
        let (to, from) = channel();
        let on = Box::new(move |event| drop(to.send(event)));
        let script = "echo 'exists -'; echo 'what is this'; exit 3";
        let stream = EventStream::follow(PathBuf::from("/bin/sh"), &["-c", script], Some(recorder), on);
        while !matches!(from.recv_timeout(LIMIT).unwrap(), StreamEvent::Lost(_)) {}
        drop(stream);
        let said = std::fs::read_to_string(dir.join(EVENTS_FILE)).unwrap();
        let once = format!("# drbdsetup -c {script}\nexists -\nwhat is this\n# it ended (exit status: 3)\n");
        assert!(said.starts_with(&once), "{said}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn is_changed(event: &StreamEvent, name: &str, is_there: bool) -> bool {
        matches!(event, StreamEvent::Changed(changed, now) if changed == name && now.is_some() == is_there)
    }

    #[test]
    fn whole_facts_then_changes_then_the_loss_then_whole_facts_again() {
        let script = "
            echo 'exists resource name:db role:Secondary suspended:no'
            echo 'exists -'
            echo 'what is this'
            echo 'change resource name:db role:Secondary'
            echo 'change resource name:db role:Primary'
            echo 'rename resource name:db new_name:main'
            echo 'destroy resource name:main'
            exit 20";
        let (_stream, events) = stream_of(script);
        for _ in 0..2 {
            let StreamEvent::Facts(facts) = events.recv_timeout(LIMIT).unwrap() else { panic!() };
            assert_eq!(facts.keys().collect::<Vec<_>>(), ["db"]);
            assert!(is_changed(&events.recv_timeout(LIMIT).unwrap(), "db", true));
            assert!(is_changed(&events.recv_timeout(LIMIT).unwrap(), "db", false));
            assert!(is_changed(&events.recv_timeout(LIMIT).unwrap(), "main", true));
            assert!(is_changed(&events.recv_timeout(LIMIT).unwrap(), "main", false));
            let StreamEvent::Lost(why) = events.recv_timeout(LIMIT).unwrap() else { panic!() };
            assert!(why.contains("exit status: 20") && why.contains("what is this"), "{why}");
        }
    }

    /// Found by tests/fuzz: of `destroy resource name:db2` there came `destroy resource name:db`.
    #[test]
    fn a_line_that_is_cut_off_says_nothing() {
        let script = "
            echo 'exists resource name:db role:Secondary'
            echo 'exists resource name:db2 role:Secondary'
            echo 'exists -'
            printf 'destroy resource name:db'";
        let (_stream, events) = stream_of(script);
        let StreamEvent::Facts(facts) = events.recv_timeout(LIMIT).unwrap() else { panic!() };
        assert_eq!(facts.len(), 2);
        let StreamEvent::Lost(why) = events.recv_timeout(LIMIT).unwrap() else { panic!() };
        assert!(why.contains("cut off") && why.contains("destroy resource name:db"), "{why}");
    }

    #[test]
    fn nothing_is_told_before_the_dump_is_complete() {
        let (_stream, events) = stream_of("echo 'exists resource name:db role:Primary'; exit 0");
        assert!(matches!(events.recv_timeout(LIMIT).unwrap(), StreamEvent::Lost(_)));
    }

    #[test]
    fn a_drop_kills_the_child_and_returns_at_once() {
        let script = "echo exists resource name:pid$$; echo 'exists -'; exec sleep 60";
        let (stream, events) = stream_of(script);
        let StreamEvent::Facts(facts) = events.recv_timeout(LIMIT).unwrap() else { panic!() };
        let child = PathBuf::from(facts.keys().next().unwrap().replace("pid", "/proc/"));
        assert!(child.exists());
        let started = Instant::now();
        drop(stream);
        assert!(started.elapsed() < STOP_LIMIT, "{:?}", started.elapsed());
        assert!(!child.exists(), "{}", child.display());
        assert!(events.recv_timeout(LIMIT).is_err(), "nothing more is told");
    }

    #[test]
    fn lines_are_bounded_and_the_next_one_is_whole() {
        let text = format!("{}\nshort\n\n{}\nlast", "x".repeat(50_000), "y".repeat(LINE_LIMIT_BYTES - 1));
        let mut lengths = Vec::new();
        for_each_line(text.as_bytes(), |line| lengths.push(line.ok().map(str::len))).unwrap();
        assert_eq!(lengths, [None, Some(5), Some(LINE_LIMIT_BYTES - 1), None]);
    }
}
