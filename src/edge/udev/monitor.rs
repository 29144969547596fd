//! A thread that hears udev's events and says "look again". Which device it was does not matter: every look is at all.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::record::is_no_disk;

/// Events come in bursts (a disk, its partitions, changes by the rules' own probes): one look after each burst.
const QUIET: Duration = Duration::from_millis(50);
/// A burst that does not end is looked at nevertheless.
const BURST_LIMIT: Duration = Duration::from_millis(500);

/// Whether a device of that name matters: a disk or partition, or one of device-mapper (an LV became active, for one).
fn matters(name: &str) -> bool {
    name.starts_with("dm-") || !is_no_disk(name)
}

/// The thread; it ends when this is dropped.
pub struct Monitor {
    thread: Option<JoinHandle<()>>,
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
}

impl Monitor {
    /// Starts to listen; `on` is called from the thread. Without udevd this succeeds, and nothing is ever heard.
    pub fn start(on: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        // udev's objects belong to one thread, so the socket is made in it.
        let listen = move || {
            let socket = udev::MonitorBuilder::new()
                .and_then(|builder| builder.match_subsystem("block"))
                .and_then(udev::MonitorBuilder::listen);
            if let Err(error) = socket.and_then(|socket| hear(&socket, &stopped, &on)) {
                log::warn!("udev's events are not heard: {error}");
            }
        };
        let thread = thread::Builder::new().name("udev".to_owned()).spawn(listen)?;
        Ok(Self { thread: Some(thread), stop: Some(stop) })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::warn!("the thread that heard udev's events had panicked");
        }
    }
}

fn hear(socket: &udev::MonitorSocket, stopped: &PipeReader, on: &impl Fn()) -> io::Result<()> {
    // What was there before the socket listened is found by a look after it.
    on();
    loop {
        let mut heard = false;
        let mut since: Option<Instant> = None;
        while since.is_none_or(|since| since.elapsed() < BURST_LIMIT) {
            match wait(socket, stopped, since.is_some())? {
                Woken::Stop => return Ok(()),
                Woken::Quiet => break,
                Woken::Events => since = since.or_else(|| Some(Instant::now())),
            }
            let mut count = 0;
            for event in socket.iter() {
                count += 1;
                heard |= matters(&event.sysname().to_string_lossy());
            }
            if count == 0 {
                // Readable and yet nothing: events were lost (the socket's buffer was full).
                heard = true;
            }
        }
        if heard {
            on();
        }
    }
}

enum Woken {
    Events,
    Quiet,
    Stop,
}

fn wait(socket: &udev::MonitorSocket, stopped: &PipeReader, in_burst: bool) -> io::Result<Woken> {
    let limit =
        if in_burst { PollTimeout::try_from(QUIET).unwrap_or(PollTimeout::ZERO) } else { PollTimeout::NONE };
    let mut fds =
        [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, limit) {
        Ok(0) => return Ok(Woken::Quiet),
        Err(Errno::EINTR) => return Ok(Woken::Quiet),
        Err(errno) => return Err(errno.into()),
        Ok(_) => {}
    }
    let [socket, stopped] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    if !stopped.is_empty() {
        return Ok(Woken::Stop);
    }
    if socket.contains(PollFlags::POLLNVAL) {
        return Err(io::Error::other("the socket is closed"));
    }
    Ok(Woken::Events)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn it_asks_for_a_first_look_and_ends_when_dropped() {
        let (to, from) = mpsc::channel();
        let monitor = Monitor::start(move || to.send(()).unwrap_or_default()).unwrap();
        assert_eq!(from.recv_timeout(Duration::from_secs(10)), Ok(()));
        drop(monitor);
        assert_eq!(from.recv_timeout(Duration::from_secs(10)), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn what_is_neither_disk_nor_mapped_is_not_heard() {
        assert!(["dm-3", "vdb", "vdb1"].into_iter().all(matters));
        assert!(!["drbd1000", "loop0", "sr0"].into_iter().any(matters));
    }
}
