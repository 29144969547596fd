//! The pipes of one child: drained with poll(2) until it has ended.
//!
//! What must not go in: what happens to a child that did not end in time (run.rs).

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

/// A longer standard output is an error: half a report must not be mistaken for a whole one.
pub(super) const STDOUT_LIMIT_BYTES: usize = 4 << 20;
/// Of standard error only the beginning is kept.
pub(super) const STDERR_LIMIT_BYTES: usize = 64 << 10;
/// How long output is awaited after the program has ended, should a child of it hold the pipe.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// How serving a child came to its end.
pub(super) enum End {
    Exited(ExitStatus),
    Deadline,
    TooMuch,
}

/// Our ends of a child's pipes, and what came through them. A pipe that is done is None.
pub(super) struct Pipes {
    out: Option<ChildStdout>,
    pub(super) stdout: Vec<u8>,
    err: Option<ChildStderr>,
    pub(super) stderr: Vec<u8>,
}

impl Pipes {
    pub(super) fn of(child: &mut Child) -> std::io::Result<Pipes> {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        if let Some(pipe) = &out {
            set_nonblocking(pipe)?;
        }
        if let Some(pipe) = &err {
            set_nonblocking(pipe)?;
        }
        Ok(Pipes { out, stdout: Vec::new(), err, stderr: Vec::new() })
    }

    /// Drains until the child has ended and its output is complete, or the deadline.
    pub(super) fn serve(&mut self, child: &mut Child, deadline: Instant) -> std::io::Result<End> {
        let mut exited: Option<(ExitStatus, Instant)> = None;
        loop {
            if self.read() > STDOUT_LIMIT_BYTES {
                return Ok(End::TooMuch);
            }
            let closed = self.out.is_none() && self.err.is_none();
            match exited {
                Some((status, limit)) if closed || Instant::now() >= limit => return Ok(End::Exited(status)),
                Some(_) => {}
                None => {
                    exited = child.try_wait()?.map(|status| (status, Instant::now() + DRAIN_LIMIT));
                    if exited.is_some() {
                        // Once more around: what it wrote last may have come since the read above.
                        continue;
                    }
                }
            }
            let now = Instant::now();
            if exited.is_none() && now >= deadline {
                return Ok(End::Deadline);
            }
            if closed {
                // It closed its output and is about to end, as a rule within the millisecond.
                if let Some(status) = wait_until(child, deadline) {
                    return Ok(End::Exited(status));
                }
            } else {
                // The child's end without end of file (a grandchild holds the pipe) is noticed by asking, hence the short limit.
                self.wait(deadline.saturating_duration_since(now).min(Duration::from_millis(50)))?;
            }
        }
    }

    fn wait(&self, limit: Duration) -> std::io::Result<()> {
        let mut fds = Vec::with_capacity(2);
        fds.extend(self.out.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.err.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        let limit = PollTimeout::try_from(limit.as_millis() + 1).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads what there is; says how much standard output there is by now.
    fn read(&mut self) -> usize {
        drain(&mut self.out, &mut self.stdout, STDOUT_LIMIT_BYTES + 1);
        drain(&mut self.err, &mut self.stderr, STDERR_LIMIT_BYTES);
        self.stdout.len()
    }
}

/// Reads until the pipe is empty, at its end, or `keep` is full; what is over the limit of a full `keep` is dropped.
fn drain(pipe: &mut Option<impl Read>, keep: &mut Vec<u8>, limit_bytes: usize) {
    let mut buffer = [0; 16 << 10];
    // Bounded, so that an endless writer cannot keep the deadline from being looked at.
    for _ in 0..64 {
        let Some(open) = pipe else { return };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => keep.extend_from_slice(&buffer[..count.min(limit_bytes.saturating_sub(keep.len()))]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}

fn set_nonblocking(pipe: &impl AsFd) -> std::io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Waits for the child until `limit`; None if it is still there.
pub(super) fn wait_until(child: &mut Child, limit: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < limit => std::thread::sleep(pause),
            Ok(None) | Err(_) => return None,
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
