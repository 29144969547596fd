//! The model world: boxes, wires and DRBD kernels in one thread, moved by one queue of events.
//!
//! Nothing in here decides what holdfast does: each box's daemon is the real `core::node::Node`, and everything it puts
//! out is carried out on the model. The same seed and the same commands give the same world, to the last event.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    sync::Arc,
};

use crate::core::{
    drbd::DrbdVersion,
    facts::{Known, Report},
    intent::{Intent, Member},
    names::BoxName,
    node::{Facts, Input, Node, Source},
    refusal::Refusal,
    step::Job,
    wish::{Request, Wish},
};

use super::{
    check::Checker,
    drbd::{BoxId, Kernels, Version},
    machine::{Eye, Machine, MetaStore, Mind, Records},
    net::{Net, Pair},
    rng::Rng,
};

/// The model's clock starts here, in seconds since 1970: 2026-01-01.
const EPOCH_S: u64 = 1_767_225_600;

/// Something that will happen.
pub(super) enum Ev {
    /// The daemon wants to be woken.
    Tick(BoxId, u64),
    /// The daemon is told something.
    Tell(BoxId, u64, Box<Input>),
    /// A source is looked at.
    Look(BoxId, u64, Source),
    /// What was seen is told.
    Seen(BoxId, u64, Source, u64, Box<Facts>),
    /// DRBD's events are told.
    Drbd(BoxId, u64),
    /// DRBD's events begin anew.
    AllDrbd(BoxId, u64),
    /// A step ends: of a job of this life of the daemon and this boot of the box.
    Step { at: BoxId, life: u64, boot: u64, job: Arc<Job>, index: usize },
    /// The own store's oldest write is durable.
    Saved(BoxId, u64),
    /// The meta resource is mounted and its store opened.
    StoreOpen(BoxId, u64, bool),
    /// A batch of commits reaches the meta resource.
    StoreWrite(BoxId, u64),
    /// A link is made, if it still can be.
    Rise(Pair, u64),
    /// A link is found dead, if it still is.
    Fall(Pair, u64),
    /// The next message of a link arrives at this box.
    Deliver(BoxId, BoxId, u64),
    /// A box's daemon starts.
    Start(BoxId, u64),
}

struct Entry {
    at_ms: u64,
    number: u64,
    event: Ev,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// The earliest is the greatest: `BinaryHeap` gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

/// See the module.
pub struct World {
    /// Milliseconds since it began.
    pub now_ms: u64,
    /// By number.
    pub boxes: Vec<Machine>,
    /// All boxes' DRBD.
    pub kernels: Kernels,
    /// The wires.
    pub net: Net,
    /// What the meta resource holds, by the version of its content.
    pub contents: BTreeMap<Version, Records>,
    /// Answers to wishes, by ticket.
    pub answers: BTreeMap<u64, Result<(), Refusal>>,
    /// Every step that was taken: `box1: create LV ...`, with its failure.
    pub steps: Vec<String>,
    /// Counts steps, also where they are not written down.
    pub steps_taken: u64,
    /// Counts events.
    pub events: u64,
    /// Write the steps down.
    pub verbose: bool,
    /// Looks for broken invariants.
    pub check: Checker,
    pub(super) version: DrbdVersion,
    pub(super) rng: Rng,
    pub(super) wires_changed: bool,
    pub(super) next_ticket: u64,
    pub(super) joining: BTreeMap<u64, BoxId>,
    pub(super) drives_made: u64,
    boots: Vec<u64>,
    queue: BinaryHeap<Entry>,
    next: u64,
}

impl World {
    /// `n` boxes with power, without disks, nothing set up on them.
    pub fn new(n: usize, version: DrbdVersion, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let name = |at: usize| BoxName::new(format!("box{}", at + 1)).ok();
        // Every third box or so has disks that do not give zeroes cheaply.
        let boxes: Vec<_> = (0..n).filter_map(name).map(|name| Machine::new(name, rng.percent(70))).collect();
        Self {
            now_ms: 0,
            boots: vec![0; boxes.len()],
            boxes,
            kernels: Kernels::new(version),
            net: Net::default(),
            contents: BTreeMap::new(),
            answers: BTreeMap::new(),
            steps: Vec::new(),
            steps_taken: 0,
            events: 0,
            verbose: true,
            check: Checker::default(),
            version,
            rng,
            wires_changed: true,
            next_ticket: 1,
            joining: BTreeMap::new(),
            drives_made: 0,
            queue: BinaryHeap::new(),
            next: 0,
        }
    }

    /// Seconds since 1970 by the model's clock.
    pub fn now_s(&self) -> u64 {
        EPOCH_S + self.now_ms / 1_000
    }

    /// The box of that name.
    pub fn find(&self, name: &str) -> Option<BoxId> {
        self.boxes.iter().position(|m| m.name.as_str() == name)
    }

    pub(super) fn after(&mut self, delay_ms: u64, event: Ev) {
        self.next += 1;
        self.queue.push(Entry { at_ms: self.now_ms + delay_ms, number: self.next, event });
    }

    pub(super) fn life(&self, at: BoxId) -> u64 {
        self.boxes.get(at).map_or(0, |m| m.life)
    }

    pub(super) fn boot(&self, at: BoxId) -> u64 {
        self.boots.get(at).copied().unwrap_or(0)
    }

    // ---- time

    /// When the next event comes by itself.
    pub fn next_ms(&mut self) -> Option<u64> {
        self.settle_wires();
        let queued = self.queue.peek().map(|entry| entry.at_ms);
        queued.into_iter().chain(self.kernels.next_wake_ms()).min()
    }

    /// The next event, if it comes before `limit_ms`. False: time has gone on to the limit.
    pub fn step(&mut self, limit_ms: u64) -> bool {
        let Some(at_ms) = self.next_ms().filter(|at| *at <= limit_ms) else {
            self.now_ms = self.now_ms.max(limit_ms);
            return false;
        };
        let kernels = self.kernels.next_wake_ms();
        self.now_ms = self.now_ms.max(at_ms);
        self.events += 1;
        if kernels.is_some_and(|at| at <= self.now_ms) {
            self.kernels.tick(self.now_ms);
        } else if let Some(entry) = self.queue.pop() {
            self.happen(entry.event);
        }
        self.spread_drbd();
        self.check_world();
        true
    }

    /// So much time goes by, or less if an invariant breaks.
    pub fn run(&mut self, ms: u64) {
        let limit = self.now_ms + ms;
        while self.check.broken.is_none() && self.step(limit) {}
    }

    /// Time goes by until for three seconds nothing was done and nothing is planned. False: not within `ms`.
    pub fn run_until_quiet(&mut self, ms: u64) -> bool {
        let limit = self.now_ms + ms;
        let mut quiet_since = self.now_ms;
        let mut steps = self.steps_taken;
        while self.now_ms < limit && self.check.broken.is_none() {
            self.run(250);
            if steps != self.steps_taken || !self.is_quiet() {
                steps = self.steps_taken;
                quiet_since = self.now_ms;
            } else if self.now_ms >= quiet_since + 3_000 {
                return true;
            }
        }
        false
    }

    /// No job runs, none is planned, no sync goes on.
    pub fn is_quiet(&self) -> bool {
        let minds = self.boxes.iter().filter_map(|m| m.mind.as_ref());
        let idle = |mind: &Mind| mind.jobs.is_empty() && mind.node.has_no_plan();
        self.joining.is_empty() && minds.clone().all(idle) && !self.kernels.is_syncing()
    }

    /// What the daemons still plan, for a message.
    pub fn plans(&self) -> Vec<String> {
        let minds = self.boxes.iter().filter_map(|m| Some((&m.name, m.mind.as_ref()?)));
        minds
            .flat_map(|(name, mind)| {
                mind.node.view().plan.into_iter().map(move |step| format!("{name}: {step}"))
            })
            .collect()
    }

    fn happen(&mut self, event: Ev) {
        match event {
            Ev::Tick(at, life) => {
                if self.life(at) == life && self.wake_is_due(at) {
                    self.take(at, Input::Tick);
                }
            }
            Ev::Tell(at, life, input) => {
                if self.life(at) == life {
                    self.take(at, *input);
                }
            }
            Ev::Look(at, life, source) => self.look(at, life, source),
            Ev::Seen(at, life, source, upto, facts) => self.seen(at, life, source, upto, *facts),
            Ev::Drbd(at, life) => self.tell_drbd(at, life),
            Ev::AllDrbd(at, life) => {
                if self.life(at) == life {
                    self.all_drbd(at);
                }
            }
            Ev::Step { at, life, boot, job, index } => self.step_ends(at, life, boot, &job, index),
            Ev::Saved(at, life) => {
                if self.life(at) == life {
                    self.boxes[at].save_one();
                }
            }
            Ev::StoreOpen(at, life, found) => {
                if self.life(at) == life {
                    self.store_open(at, found);
                }
            }
            Ev::StoreWrite(at, life) => {
                if self.life(at) == life {
                    self.store_write(at);
                }
            }
            Ev::Rise(pair, number) => self.link_rises(pair, number),
            Ev::Fall(pair, number) => self.link_falls(pair, number),
            Ev::Deliver(from, to, number) => self.deliver(from, to, number),
            Ev::Start(at, boot) => {
                if self.boot(at) == boot {
                    self.start(at);
                }
            }
        }
    }

    fn wake_is_due(&mut self, at: BoxId) -> bool {
        let now = self.now_ms;
        let Some(mind) = self.boxes[at].mind.as_mut() else { return false };
        let due = mind.wake_ms <= now;
        if due {
            mind.wake_ms = u64::MAX;
        }
        due
    }

    /// The daemon takes an input, and what it wants is carried out.
    pub(super) fn take(&mut self, at: BoxId, input: Input) {
        let (now_ms, now_s) = (self.now_ms, self.now_s());
        let Some(mind) = self.boxes[at].mind.as_mut() else { return };
        let before = mind.node.intent().stamp;
        let outputs = mind.node.take(now_ms, now_s, input);
        let wake = mind.node.next_wake_ms();
        let after = mind.node.intent().stamp;
        let (life, earlier) = (self.boxes[at].life, wake < self.wake_of(at));
        if earlier {
            if let Some(mind) = self.boxes[at].mind.as_mut() {
                mind.wake_ms = wake;
            }
            self.after(wake.saturating_sub(now_ms), Ev::Tick(at, life));
        }
        self.check.stamp(&self.boxes[at].name, before, after);
        for output in outputs {
            self.carry(at, output);
        }
    }

    fn wake_of(&self, at: BoxId) -> u64 {
        self.boxes[at].mind.as_ref().map_or(0, |mind| mind.wake_ms)
    }

    // ---- boxes

    /// The box that operators ask, and everyone else, what is asked; the answer comes into `answers`.
    pub fn wish(&mut self, at: BoxId, about: &str, wish: Wish) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (a, b) = (self.rng.any(), self.rng.any());
        // 64 digits: the ticket makes it differ from all others, also where a shrunken run draws other numbers.
        let request = Request { seed: format!("{ticket:08x}{:08x}{a:016x}{b:016x}{a:016x}", a >> 32), wish };
        if self.boxes[at].mind.is_none() {
            return ticket;
        }
        self.check.asked(ticket, at, self.boxes[at].life, &request);
        self.take(at, Input::Wish { ticket, about: about.to_owned(), request });
        ticket
    }

    /// A write that the tree refused by itself: kept for `errors`.
    pub fn refused(&mut self, at: BoxId, about: String, refusal: Refusal) {
        self.take(at, Input::Refused { about, refusal });
    }

    /// A line for `health` of a box while its daemon lives.
    pub fn note(&mut self, at: BoxId, line: &str) {
        if let Some(mind) = self.boxes.get_mut(at).and_then(|m| m.mind.as_mut()) {
            mind.node.note(line.to_owned());
        }
    }

    /// A box's address and key.
    pub fn member(&self, at: BoxId) -> Option<Member> {
        let machine = self.boxes.get(at)?;
        Some(Member {
            name: machine.name.clone(),
            public_key: format!("{:064x}", at + 1),
            address: format!("10.77.0.{}", at + 1).parse().ok()?,
        })
    }

    /// The newcomer shows the token to `via`, which asks the leader; when it is granted its daemon starts.
    pub fn join(&mut self, at: BoxId, via: BoxId) -> u64 {
        let Some(member) = self.member(at) else { return 0 };
        let about = format!("nodes/{}", member.name);
        let ticket = self.wish(via, &about, Wish::Join(member));
        self.joining.insert(ticket, at);
        self.joined(ticket, via);
        ticket
    }

    /// Whether that answer was what a newcomer waits for.
    pub(super) fn joined(&mut self, ticket: u64, via: BoxId) {
        if !self.answers.contains_key(&ticket) && self.boxes[via].mind.is_some() {
            return;
        }
        let Some(at) = self.joining.remove(&ticket) else { return };
        let welcome = self.answers.get(&ticket).is_some_and(Result::is_ok);
        let records = self.boxes[via].node().map(|node| node.intent().records());
        if let (true, Some(records)) = (welcome, records) {
            self.boxes[at].saved = Some(records.into_iter().map(|r| (r.key(), r)).collect());
            let boot = self.boot(at);
            self.after(200, Ev::Start(at, boot));
        }
    }

    /// The daemon starts from what its box's own store says.
    pub fn start(&mut self, at: BoxId) {
        let machine = &self.boxes[at];
        let (true, None, Some(saved)) = (machine.on, &machine.mind, &machine.saved) else { return };
        if machine.busy_until_ms > self.now_ms {
            let delay = machine.busy_until_ms - self.now_ms + 1;
            return self.after(delay, Ev::Start(at, self.boot(at)));
        }
        let intent = Intent::from_records(saved.values().cloned());
        let report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: "model".to_owned(),
            drbd_version: Some(self.version),
            since_s: self.now_s(),
            ..Report::default()
        };
        let node = Node::new(machine.name.clone(), intent, machine.founding, report, self.now_ms);
        let machine = &mut self.boxes[at];
        machine.life += 1;
        machine.mind = Some(Mind {
            node,
            jobs: BTreeSet::new(),
            looking: BTreeMap::new(),
            asked: BTreeMap::new(),
            drbd_events: VecDeque::new(),
            wake_ms: u64::MAX,
            store: MetaStore::Closed,
            members: BTreeSet::new(),
        });
        self.wires_changed = true;
        self.take(at, Input::Tick);
        for source in [Source::Vgs, Source::Disks, Source::Conf] {
            self.ask_to_look(at, source, 0);
        }
        self.tell_all_drbd(at);
    }

    /// DRBD's events begin with everything there is, or are lost.
    pub(super) fn tell_all_drbd(&mut self, at: BoxId) {
        let (life, delay) = (self.life(at), self.rng.within(20, 100));
        self.after(delay, Ev::AllDrbd(at, life));
    }

    fn all_drbd(&mut self, at: BoxId) {
        let facts = if self.boxes[at].blind.contains(&Eye::Drbd) {
            Known::Unknown("the model's events are lost".to_owned())
        } else {
            Known::Known(self.kernels.look_all(at))
        };
        if let Some(mind) = self.boxes[at].mind.as_mut() {
            mind.drbd_events.clear();
        }
        self.take(at, Input::Facts(Facts::Drbd(facts)));
    }

    /// The daemon is killed. What it was about to save is lost from some point on; commands under way may still end.
    pub fn crash(&mut self, at: BoxId) {
        let machine = &mut self.boxes[at];
        if machine.mind.take().is_none() {
            return;
        }
        machine.life += 1;
        let kept = self.rng.below(machine.unsaved.len() as u64 + 1);
        (0..kept).for_each(|_| machine.save_one());
        machine.unsaved.clear();
        self.break_links(at);
        self.wires_changed = true;
        self.joining.retain(|_, newcomer| *newcomer != at);
    }

    /// The plug is pulled.
    pub fn power_off(&mut self, at: BoxId) {
        if !self.boxes[at].on {
            return;
        }
        self.tear_store(at);
        self.crash(at);
        self.boxes[at].on = false;
        self.boxes[at].mounted = false;
        self.boxes[at].readers.clear();
        self.boxes[at].adjusted.clear();
        self.boxes[at].busy_until_ms = 0;
        self.boots[at] += 1;
        self.kernels.power_off(at);
        self.wires_changed = true;
    }

    /// Power is back; the daemon starts a moment later, if the box belongs to a cluster.
    pub fn power_on(&mut self, at: BoxId) {
        if self.boxes[at].on {
            return;
        }
        self.boxes[at].on = true;
        self.wires_changed = true;
        let (boot, delay) = (self.boot(at), self.rng.within(300, 1_500));
        self.after(delay, Ev::Start(at, boot));
    }

    /// A source cannot be looked at, or can again.
    pub fn blind(&mut self, at: BoxId, eye: Eye, blind: bool) {
        let changed =
            if blind { self.boxes[at].blind.insert(eye) } else { self.boxes[at].blind.remove(&eye) };
        if !changed || self.boxes[at].mind.is_none() {
            return;
        }
        match eye {
            Eye::Vgs => self.ask_to_look(at, Source::Vgs, 0),
            Eye::Disks => self.ask_to_look(at, Source::Disks, 0),
            Eye::Conf => self.ask_to_look(at, Source::Conf, 0),
            Eye::Drbd => self.tell_all_drbd(at),
        }
    }

    /// The leader, as the boxes that run see it: the one that has committed its epoch.
    pub fn leader(&self) -> Option<BoxId> {
        self.boxes.iter().position(|m| m.node().is_some_and(Node::leads))
    }
}
