//! The mounted trees of the boxes, and who waits in them for an answer.
//!
//! A tree is mounted while the box's daemon lives. Where it is dead the directory is empty, as on a real box, where
//! systemd takes away what a dead daemon left mounted.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, mpsc::SyncSender},
};

use crate::{
    cli::Failure,
    core::{
        refusal::Refusal,
        view::{SANDBOX, View},
        wish::Wish,
    },
    edge::fuse::{self, Answer, Mounted},
    sim::{World, drbd::BoxId},
};

use super::Event;

/// One life of a box's daemon.
struct Seat {
    life: u64,
    /// None: it could not be mounted.
    tree: Option<Mounted>,
    shown: Arc<View>,
}

/// See the module.
pub(super) struct Seats {
    dir: PathBuf,
    events: SyncSender<Event>,
    seats: BTreeMap<BoxId, Seat>,
    /// By ticket: the box, and who waits there.
    waiting: BTreeMap<u64, (BoxId, Answer)>,
    /// Answers that go out once the view that shows them is published.
    due: Vec<(Answer, Result<(), Refusal>)>,
    /// Mounts that failed: not tried again in the same life of the daemon.
    pub failures: Vec<Failure>,
}

struct Sink {
    at: BoxId,
    life: u64,
    events: SyncSender<Event>,
}

impl Sink {
    /// Never waits: what finds the channel full is dropped, which answers EIO.
    fn post(&self, event: Event) {
        drop(self.events.try_send(event));
    }
}

impl fuse::Sink for Sink {
    fn wish(&self, about: String, wish: Wish, answer: Answer) {
        self.post(Event::Wish { at: self.at, life: self.life, about, wish, answer });
    }

    fn refused(&self, about: String, refusal: Refusal, answer: Answer) {
        self.post(Event::Refused { at: self.at, life: self.life, about, refusal, answer });
    }
}

impl Seats {
    pub fn new(dir: PathBuf, events: SyncSender<Event>) -> Self {
        let (seats, waiting, due, failures) = Default::default();
        Self { dir, events, seats, waiting, due, failures }
    }

    /// Somebody waits for the answer to that ticket.
    pub fn wait_for(&mut self, at: BoxId, ticket: u64, answer: Answer) {
        self.waiting.insert(ticket, (at, answer));
    }

    /// An answer that is known already.
    pub fn answer(&mut self, answer: Answer, result: Result<(), Refusal>) {
        self.due.push((answer, result));
    }

    /// The world is another: nobody of the old one is answered.
    pub fn clear(&mut self) {
        self.seats.clear();
        self.waiting.clear();
    }

    /// Mounts follow the daemons, views are published, and then answers go out.
    pub fn follow(&mut self, world: &mut World) {
        let answered: Vec<u64> =
            self.waiting.keys().copied().filter(|t| world.answers.contains_key(t)).collect();
        for ticket in answered {
            let waiting = self.waiting.remove(&ticket).zip(world.answers.remove(&ticket));
            self.due.extend(waiting.map(|((_, answer), result)| (answer, result)));
        }
        for at in 0..world.boxes.len() {
            self.follow_one(world, at);
        }
        self.due.drain(..).for_each(|(answer, result)| answer(result));
    }

    fn follow_one(&mut self, world: &mut World, at: BoxId) {
        let life = world.boxes[at].mind.is_some().then_some(world.boxes[at].life);
        if self.seats.get(&at).is_some_and(|seat| Some(seat.life) != life) {
            self.seats.remove(&at);
            self.waiting.retain(|_, (on, _)| *on != at);
        }
        let Some(life) = life else { return };
        if !self.seats.contains_key(&at) {
            world.note(at, SANDBOX);
        }
        let Some(view) = world.view(at) else { return };
        if let Some(seat) = self.seats.get_mut(&at) {
            if *seat.shown != view {
                seat.shown = Arc::new(view);
                seat.tree.iter().for_each(|tree| tree.publish(Arc::clone(&seat.shown)));
            }
            return;
        }
        let shown = Arc::new(view);
        let sink = Sink { at, life, events: self.events.clone() };
        let place = self.dir.join(world.boxes[at].name.as_str());
        let tree = match Mounted::mount(&place, Arc::clone(&shown), sink) {
            Ok(tree) => Some(tree),
            Err(error) => {
                self.failures.push(error.into());
                None
            }
        };
        self.seats.insert(at, Seat { life, tree, shown });
    }
}
