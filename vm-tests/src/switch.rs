//! The private network of a lab: one port per box, frames passed between unix datagram sockets, nothing else attached.
//! Which pairs of boxes are cut from each other is decided here, frame by frame; the boxes' cards keep their carrier.
//!
//! Where a frame goes is a pure function (`route`); the threads only carry it there.

use crate::identity::{BOXES_MAX, mac, name};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

/// QEMU sends no larger frames.
const FRAME_MAX_BYTES: usize = 68 * 1024;
/// Frames on their way to one box: about what a network card holds. A full queue drops, as a switch does.
const QUEUE_FRAMES: usize = 512;

/// The pairs of boxes that do not hear each other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cuts(BTreeSet<(usize, usize)>);

impl Cuts {
    fn pair(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    /// Cuts two boxes from each other.
    pub fn cut(&mut self, a: usize, b: usize) {
        if a != b {
            self.0.insert(Cuts::pair(a, b));
        }
    }

    /// Cuts a box from all others, also from those that get power later.
    pub fn cut_all(&mut self, a: usize) {
        for b in 1..=BOXES_MAX {
            self.cut(a, b);
        }
    }

    /// Mends what is cut between two boxes.
    pub fn mend(&mut self, a: usize, b: usize) {
        self.0.remove(&Cuts::pair(a, b));
    }

    /// Mends all that is cut at a box.
    pub fn mend_box(&mut self, a: usize) {
        self.0.retain(|&(b, c)| a != b && a != c);
    }

    /// Mends everything.
    pub fn mend_all(&mut self) {
        self.0.clear();
    }

    /// Whether frames between the two are dropped.
    pub fn has(&self, a: usize, b: usize) -> bool {
        self.0.contains(&Cuts::pair(a, b))
    }

    /// The cut pairs among boxes 1 to `boxes`, for people.
    pub fn describe(&self, boxes: usize) -> String {
        let pairs: Vec<String> = self
            .0
            .iter()
            .filter(|&&(_, b)| b <= boxes)
            .map(|&(a, b)| format!("{}-{}", name(a), name(b)))
            .collect();
        if pairs.is_empty() { "nothing is cut".into() } else { format!("cut: {}", pairs.join(" ")) }
    }
}

/// The ports a frame from port `from` goes to. Cards have known addresses, so nothing needs to be learned.
pub fn route(from: usize, frame: &[u8], boxes: usize, cuts: &Cuts) -> Vec<usize> {
    let Some(target) = frame.get(..6) else { return Vec::new() };
    let is_group = target[0] & 1 == 1;
    (1..=boxes).filter(|&to| to != from && !cuts.has(from, to) && (is_group || target == mac(to))).collect()
}

/// The running switch. Its threads live as long as the process.
pub struct Switch {
    cuts: Arc<RwLock<Cuts>>,
}

/// The socket that box `number` sends to.
pub fn switch_socket(run: &Path, number: usize) -> PathBuf {
    run.join(format!("switch{number}"))
}

/// The socket that box `number` receives on.
pub fn box_socket(run: &Path, number: usize) -> PathBuf {
    run.join(format!("nic{number}"))
}

impl Switch {
    /// Opens a port for each of `boxes` boxes, with their sockets under `run`.
    pub fn start(run: &Path, boxes: usize) -> Result<Switch> {
        let cuts = Arc::new(RwLock::new(Cuts::default()));
        let mut sockets = Vec::new();
        let mut queues = Vec::new();
        for number in 1..=boxes {
            let path = switch_socket(run, number);
            let socket =
                UnixDatagram::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
            let (queue, frames) = sync_channel(QUEUE_FRAMES);
            let (sender, target) = (socket.try_clone()?, box_socket(run, number));
            thread::spawn(move || deliver(&sender, &target, &frames));
            sockets.push(socket);
            queues.push(queue);
        }
        for (index, socket) in sockets.into_iter().enumerate() {
            let (queues, cuts) = (queues.clone(), Arc::clone(&cuts));
            thread::spawn(move || forward(index + 1, &socket, &queues, &cuts));
        }
        Ok(Switch { cuts })
    }

    /// Changes what is cut.
    pub fn change(&self, change: impl FnOnce(&mut Cuts)) {
        change(&mut self.cuts.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is cut now.
    pub fn cuts(&self) -> Cuts {
        self.cuts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn forward(from: usize, socket: &UnixDatagram, queues: &[SyncSender<Vec<u8>>], cuts: &RwLock<Cuts>) {
    let mut buffer = vec![0u8; FRAME_MAX_BYTES];
    loop {
        // An error here is about one datagram; the port itself stays.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let frame = &buffer[..length];
        let targets = route(from, frame, queues.len(), &cuts.read().unwrap_or_else(PoisonError::into_inner));
        for to in targets {
            let _ = queues[to - 1].try_send(frame.to_vec());
        }
    }
}

/// Waits while the box is slow or frozen; what finds no box (it is off) is lost.
fn deliver(socket: &UnixDatagram, target: &Path, frames: &Receiver<Vec<u8>>) {
    while let Ok(frame) = frames.recv() {
        let _ = socket.send_to(&frame, target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_to(target: [u8; 6]) -> Vec<u8> {
        let mut frame = target.to_vec();
        frame.extend([0; 54]);
        frame
    }

    #[test]
    fn a_frame_reaches_the_box_it_is_for_and_no_other() {
        assert_eq!(route(1, &frame_to(mac(3)), 3, &Cuts::default()), [3]);
        assert!(route(1, &frame_to(mac(1)), 3, &Cuts::default()).is_empty());
        assert!(route(1, &frame_to(mac(4)), 3, &Cuts::default()).is_empty());
        assert!(route(1, &[1, 2, 3], 3, &Cuts::default()).is_empty());
    }

    #[test]
    fn a_broadcast_reaches_all_others() {
        assert_eq!(route(2, &frame_to([0xff; 6]), 3, &Cuts::default()), [1, 3]);
    }

    #[test]
    fn a_cut_pair_does_not_hear_each_other_and_all_else_goes_on() {
        let mut cuts = Cuts::default();
        cuts.cut(2, 1);
        for (a, b, heard) in
            [(1, 2, false), (2, 1, false), (1, 3, true), (3, 1, true), (2, 3, true), (3, 2, true)]
        {
            assert_eq!(route(a, &frame_to(mac(b)), 3, &cuts) == [b], heard, "{a} to {b}");
        }
        assert_eq!(route(1, &frame_to([0xff; 6]), 3, &cuts), [3]);
        cuts.mend(1, 2);
        assert_eq!(cuts, Cuts::default());
    }

    #[test]
    fn a_box_can_be_cut_from_all_and_mended() {
        let mut cuts = Cuts::default();
        cuts.cut_all(2);
        assert!(cuts.has(2, 1) && cuts.has(3, 2) && !cuts.has(1, 3) && !cuts.has(2, 2));
        assert_eq!(cuts.describe(3), "cut: box1-box2 box2-box3");
        cuts.mend(2, 3);
        assert!(cuts.has(2, 1) && !cuts.has(3, 2));
        cuts.cut(1, 3);
        cuts.mend_box(2);
        assert_eq!(cuts.describe(3), "cut: box1-box3");
        cuts.mend_all();
        assert_eq!(cuts.describe(3), "nothing is cut");
    }
}
