//! The wires between model boxes and the daemons' links over them.
//!
//! A link is a connection: what is said on it arrives in order or not at all. A wire can be cut in one direction or
//! both. What is on its way while it is cut waits, as TCP does, and arrives if it is mended soon; else both ends find
//! the link down, each at its own time, and what was on its way is lost. A link that comes again is a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::message::Message;

use super::drbd::BoxId;

/// A link goes down so long after its wire was cut; the ends differ by up to [`TIMEOUT_SPREAD_MS`].
pub const TIMEOUT_MS: u64 = 3_000;
/// See [`TIMEOUT_MS`].
pub const TIMEOUT_SPREAD_MS: u64 = 1_500;

/// The two ends, the smaller first.
pub type Pair = (BoxId, BoxId);

/// One connection between two daemons, or the lack of it.
#[derive(Debug, Default)]
pub struct Link {
    /// Counts connections: what belongs to an older one is dropped.
    pub number: u64,
    /// Both ends have it.
    pub up: bool,
    /// It is being made.
    pub rising: bool,
    /// It is being found dead.
    pub falling: bool,
    /// A daemon at one end died: it goes down also if both could talk by now.
    pub broken: bool,
    /// Which lives of the two daemons have it.
    pub lives: [u64; 2],
    /// The next one is not made before: one end may not have found this one dead yet.
    pub not_before_ms: u64,
    /// What is on its way, to the smaller end and to the larger one.
    pub queues: [VecDeque<Message>; 2],
    /// When the last of them arrives.
    pub last_ms: [u64; 2],
}

/// All of them.
#[derive(Debug, Default)]
pub struct Net {
    /// Directions in which nothing gets through.
    pub cut: BTreeSet<(BoxId, BoxId)>,
    /// By pair of boxes.
    pub links: BTreeMap<Pair, Link>,
}

/// The pair that two boxes are.
pub fn pair(a: BoxId, b: BoxId) -> Pair {
    (a.min(b), a.max(b))
}

impl Net {
    /// Frames get from `a` to `b`.
    pub fn passes(&self, a: BoxId, b: BoxId) -> bool {
        !self.cut.contains(&(a, b))
    }

    /// Both directions work.
    pub fn whole(&self, a: BoxId, b: BoxId) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// The queue of what goes to `to`.
    pub fn queue(&mut self, from: BoxId, to: BoxId) -> Option<(&mut VecDeque<Message>, &mut u64, u64)> {
        let link = self.links.get_mut(&pair(from, to))?;
        let side = usize::from(to > from);
        if !link.up || link.broken {
            return None;
        }
        Some((&mut link.queues[side], &mut link.last_ms[side], link.number))
    }
}
