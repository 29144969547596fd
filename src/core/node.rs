//! One box's mind: a state machine without clock, threads or I/O. What happens goes in as [`Input`], what is to be done
//! comes out as [`Output`]; the daemon only carries both.
//!
//! It keeps the five kinds of state apart (DESIGN, section 1): wishes and assignments are the [`Intent`], observations
//! the reports, plans are made anew whenever something changed, and the [`View`] is made from all of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    admit::admit,
    assign::assign,
    drbd::{Counters, Device, DiskState, Resource},
    facts::{ErrorLine, Known, Report},
    intent::{Assignment, Change, Intent, Member, Record, Stamp, Txn},
    lanes::Lanes,
    message::Message,
    names::BoxName,
    place::World,
    plan::{Here, lane, left, plan},
    refusal::{Errno, Refusal},
    status::WEDGED,
    step::{Job, Step, StepClass, StepError},
    view::View,
    wish::Request,
};

/// A write waits for its commit so long (DESIGN, the tree, rule 7).
const ANSWER_WITHIN_MS: u64 = 10_000;
/// A write waits so long for a leader to be there.
const LEADER_WITHIN_MS: u64 = 2_000;
/// Reports are sent no faster than this: a sync changes its counters many times a second.
const REPORT_EVERY_MS: u64 = 200;
/// Refusals that are kept for `errors`.
const ERRORS_KEPT: usize = 32;
/// Commits that may be on their way to the disk at once; the store's thread takes them together.
const COMMITS_IN_FLIGHT: usize = 128;
/// Counters are looked at so often while they change.
const COUNT_EVERY_MS: u64 = 1_000;
/// A store that did not open is tried again after so long.
const REOPEN_AFTER_MS: u64 = 3_000;

/// Whom an answer is for: a waiting writer on this box, or another box's request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asker {
    Here { ticket: u64 },
    There { name: BoxName, seed: String },
}

/// What the host can be asked to look at again. DRBD is not among them: its events come by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Disks and what is on them.
    Disks,
    /// Volume groups and LVs.
    Vgs,
    /// The .res files.
    Conf,
    /// Sizes and, on 8.4, progress: what DRBD sends no events for.
    Counters,
}

/// What was seen.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one at a time
pub enum Facts {
    /// [`Source::Disks`]
    Disks(Known<BTreeMap<super::names::DiskName, super::claim::Disk>>),
    /// [`Source::Vgs`]
    Vgs(Known<BTreeMap<super::names::PoolName, super::facts::Vg>>),
    /// [`Source::Conf`]
    Conf(Known<BTreeMap<String, u32>>),
    /// [`Source::Counters`], by minor; what cannot be looked at stays as it was.
    Counters(BTreeMap<u32, Counters>),
    /// All of DRBD, or that its events were lost.
    Drbd(Known<BTreeMap<String, Resource>>),
    /// One resource; None: it is gone.
    Resource(String, Option<Resource>),
}

/// What happens to a box.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one at a time
pub enum Input {
    /// Time went on.
    Tick,
    /// Somebody wrote here; answered once, with this ticket.
    Wish {
        /// Names the waiting writer.
        ticket: u64,
        /// The object in the tree that it is about.
        about: String,
        /// What is asked.
        request: Request,
    },
    /// A write was refused before it became a wish: kept for `errors`.
    Refused {
        /// The object in the tree.
        about: String,
        /// Why.
        refusal: Refusal,
    },
    /// Something was observed.
    Facts(Facts),
    /// A link to another member is up.
    LinkUp(BoxName),
    /// It is down.
    LinkDown(BoxName),
    /// A member said something.
    Message(BoxName, Message),
    /// The store on the meta resource was opened: all its records. Or it could not be.
    StoreOpened(Result<Vec<Record>, String>),
    /// A commit is durable, or the store failed.
    Committed {
        /// As given with [`Output::Commit`].
        seq: u64,
        /// The sentence of the failure.
        result: Result<(), String>,
    },
    /// A job ended: at which step it failed, if it did.
    JobDone {
        /// Its lane.
        lane: String,
        /// What it was.
        steps: Vec<Step>,
        /// The first step that failed.
        result: Result<(), (Step, StepError)>,
    },
}

/// What a box has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // short-lived
pub enum Output {
    /// Answer a waiting writer.
    Answer {
        /// Who.
        ticket: u64,
        /// What.
        result: Result<(), Refusal>,
    },
    /// Say something to a member, if the link is up.
    Send(BoxName, Message),
    /// Make this durable on the meta resource, in order.
    Commit {
        /// Comes back with [`Input::Committed`].
        seq: u64,
        /// The changes.
        txn: Txn,
    },
    /// Make the meta resource Primary, mount it and open the store. `found`: make the file system if there is none.
    OpenStore {
        /// The cluster is being founded.
        found: bool,
    },
    /// Close it again.
    CloseStore,
    /// Keep this in the box's own store, as all there is or on top of what is there.
    Save {
        /// Forget everything else first.
        whole: bool,
        /// The changes.
        txn: Txn,
    },
    /// The cluster is founded: it never will be again.
    Founded,
    /// Take these steps.
    Run(Job),
    /// Look at this again.
    Observe(Source),
    /// The members, whole.
    Members(Vec<Member>),
    /// What newcomers have to show.
    JoinSecret(String),
}

#[derive(Debug)]
struct Pending {
    seq: u64,
    txn: Txn,
    askers: Vec<Asker>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one a box
enum Lead {
    /// Another box leads, or none.
    No,
    /// The store is being opened.
    Opening,
    /// It did not open: why, and when it is tried again.
    Failed { why: String, again_ms: u64 },
    /// This box leads, once the epoch's first commit is durable.
    Yes { tip: Intent, queue: VecDeque<Pending>, durable: bool },
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    about: String,
    request: Request,
    since_ms: u64,
    sent: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    me: BoxName,
    founding: bool,
    now_ms: u64,
    now_s: u64,
    intent: Arc<Intent>,
    mine: Report,
    reports: BTreeMap<BoxName, Arc<Report>>,
    /// The boxes that can be spoken to.
    linked: BTreeSet<BoxName>,
    /// Those of them that have told of themselves since, and this one: what is known of others is old.
    alive: BTreeSet<BoxName>,
    /// The box that said that it leads, while its word is current here.
    leader: Option<BoxName>,
    lead: Lead,
    next_seq: u64,
    /// Requests that wait for room among the commits in flight.
    backlog: VecDeque<(Asker, Request)>,
    waiting: Vec<Waiting>,
    lanes: Lanes,
    planned: Vec<String>,
    counters: BTreeMap<u32, Counters>,
    counted_ms: u64,
    refusals: BTreeMap<String, String>,
    notes: Vec<String>,
    report_dirty: bool,
    report_sent_ms: u64,
    facts_changed: bool,
    out: Vec<Output>,
}

impl Node {
    /// A box that starts with what its own store says.
    pub fn new(me: BoxName, intent: Intent, founding: bool, mine: Report, now_ms: u64) -> Self {
        let mut node = Self {
            alive: BTreeSet::from([me.clone()]),
            me,
            founding,
            now_ms,
            now_s: mine.since_s,
            intent: Arc::new(intent),
            mine,
            reports: BTreeMap::new(),
            linked: BTreeSet::new(),
            leader: None,
            lead: Lead::No,
            next_seq: 1,
            backlog: VecDeque::new(),
            waiting: Vec::new(),
            lanes: Lanes::default(),
            planned: Vec::new(),
            counters: BTreeMap::new(),
            counted_ms: 0,
            refusals: BTreeMap::new(),
            notes: Vec::new(),
            report_dirty: true,
            report_sent_ms: 0,
            facts_changed: true,
            out: Vec::new(),
        };
        node.mine_changed();
        node.publish_members();
        node
    }

    /// This box leads and takes writes.
    pub fn leads(&self) -> bool {
        matches!(self.lead, Lead::Yes { durable: true, .. })
    }

    /// The newest committed intent here.
    pub fn intent(&self) -> &Arc<Intent> {
        &self.intent
    }

    /// A line for `health` that stays until the daemon ends.
    pub fn note(&mut self, line: String) {
        if !self.notes.contains(&line) {
            self.notes.push(line);
        }
    }

    /// Takes one thing that happened, at `now_ms` of a clock that never goes back and `now_s` seconds since 1970.
    pub fn take(&mut self, now_ms: u64, now_s: u64, input: Input) -> Vec<Output> {
        (self.now_ms, self.now_s) = (now_ms, now_s);
        match input {
            Input::Tick => {}
            Input::Wish { ticket, about, request } => self.wish(ticket, about, request),
            Input::Refused { about, refusal } => self.keep_refusal(about, &refusal),
            Input::Facts(facts) => self.facts(facts),
            Input::LinkUp(name) => self.link_up(name),
            Input::LinkDown(name) => self.link_down(&name),
            Input::Message(from, message) => self.message(from, message),
            Input::StoreOpened(result) => self.store_opened(result),
            Input::Committed { seq, result } => self.committed(seq, result),
            Input::JobDone { lane, steps, result } => self.job_done(&lane, &steps, result),
        }
        self.pump();
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is needed at the latest, on the clock of `now_ms`.
    pub fn next_wake_ms(&self) -> u64 {
        let mut wake = self.now_ms + 1_000;
        if self.report_dirty {
            wake = wake.min(self.report_sent_ms + REPORT_EVERY_MS);
        }
        if let Some(lane) = self.lanes.next_wake_ms(self.now_ms) {
            wake = wake.min(lane.max(self.now_ms + 10));
        }
        wake
    }

    // ---- writes

    fn wish(&mut self, ticket: u64, about: String, request: Request) {
        self.waiting.push(Waiting { ticket, about, request, since_ms: self.now_ms, sent: false });
        self.forward();
    }

    /// Hands every waiting wish to the leader, be it this box or another.
    fn forward(&mut self) {
        if self.leads() {
            let fresh: Vec<_> = self.waiting.iter_mut().filter(|w| !w.sent).collect();
            let requests: Vec<_> = fresh
                .into_iter()
                .map(|w| {
                    w.sent = true;
                    (Asker::Here { ticket: w.ticket }, w.request.clone())
                })
                .collect();
            requests.into_iter().for_each(|(asker, request)| self.grant(asker, &request));
        } else if let Some(leader) = self.leader.clone() {
            for w in self.waiting.iter_mut().filter(|w| !w.sent) {
                w.sent = true;
                self.out.push(Output::Send(leader.clone(), Message::Ask(w.request.clone())));
            }
        }
    }

    /// The leader's answer to one request: refused now, or committed first.
    fn grant(&mut self, asker: Asker, request: &Request) {
        let Lead::Yes { tip, .. } = &self.lead else { return };
        if !self.has_room() {
            self.backlog.push_back((asker, request.clone()));
            return;
        }
        let world = World { intent: tip, reports: &self.reports, alive: &self.alive };
        match admit(&world, &self.me, request) {
            Err(refusal) => self.answer(asker, Err(refusal)),
            Ok(txn) => self.commit(txn, vec![asker]),
        }
    }

    /// Queues a commit; an empty one still waits for those before it, so that "it is so already" is durable too.
    fn commit(&mut self, mut txn: Txn, askers: Vec<Asker>) {
        let Lead::Yes { tip, queue, .. } = &mut self.lead else { return };
        if txn.is_empty() {
            match queue.back_mut() {
                Some(last) => last.askers.extend(askers),
                None => askers.into_iter().for_each(|asker| self.answer(asker, Ok(()))),
            }
            return;
        }
        let stamp = Stamp { epoch: tip.stamp.epoch, revision: tip.stamp.revision + 1 };
        txn.push(Change::Put(Record::Stamp(stamp)));
        tip.apply(&txn);
        let seq = self.next_seq;
        self.next_seq += 1;
        queue.push_back(Pending { seq, txn: txn.clone(), askers });
        self.out.push(Output::Commit { seq, txn });
    }

    fn committed(&mut self, seq: u64, result: Result<(), String>) {
        let Lead::Yes { queue, durable, .. } = &mut self.lead else { return };
        // Of a store that was given up, all that waited is answered: that says nothing of the one that is open now.
        if !queue.iter().any(|p| p.seq == seq) {
            return;
        }
        if let Err(why) = result {
            return self.resign(why);
        }
        if queue.front().is_none_or(|p| p.seq != seq) {
            return;
        }
        let Some(done) = queue.pop_front() else { return };
        let newly = !std::mem::replace(durable, true);
        let from = self.intent.stamp;
        Arc::make_mut(&mut self.intent).apply(&done.txn);
        self.renew_lanes(&done.txn);
        self.out.push(Output::Save {
            whole: newly,
            txn: if newly { self.intent.whole() } else { done.txn.clone() },
        });
        if newly {
            self.became_leader();
        } else {
            for name in self.others() {
                self.out.push(Output::Send(name, Message::Commit { from, txn: done.txn.clone() }));
            }
        }
        done.askers.into_iter().for_each(|asker| self.answer(asker, Ok(())));
        self.facts_changed = true;
        self.publish_members();
        self.forward();
        // A refused one leaves no commit behind that would call for the next.
        while self.has_room()
            && let Some((asker, request)) = self.backlog.pop_front()
        {
            self.grant(asker, &request);
        }
    }

    fn has_room(&self) -> bool {
        matches!(&self.lead, Lead::Yes { queue, .. } if queue.len() < COMMITS_IN_FLIGHT)
    }

    fn answer(&mut self, asker: Asker, result: Result<(), Refusal>) {
        match asker {
            Asker::Here { ticket } => {
                let Some(at) = self.waiting.iter().position(|w| w.ticket == ticket) else { return };
                let waiting = self.waiting.remove(at);
                if let Err(refusal) = &result {
                    self.keep_refusal(waiting.about, refusal);
                }
                self.out.push(Output::Answer { ticket, result });
            }
            Asker::There { name, seed } => {
                self.out.push(Output::Send(name, Message::Answer { seed, result }))
            }
        }
    }

    fn keep_refusal(&mut self, about: String, refusal: &Refusal) {
        let others = self.reports.values().flat_map(|report| &report.errors);
        let newest = others.chain(&self.mine.errors).map(|line| line.number).max().unwrap_or(0);
        let line = ErrorLine {
            at_s: self.now_s,
            number: newest.saturating_add(1),
            about,
            text: refusal.text.clone(),
        };
        self.mine.errors.push(line);
        let surplus = self.mine.errors.len().saturating_sub(ERRORS_KEPT);
        self.mine.errors.drain(..surplus);
        self.mine_changed();
    }

    /// Writes that waited too long for a leader or for an answer.
    fn expire(&mut self) {
        let now = self.now_ms;
        let late = |w: &Waiting| {
            now.saturating_sub(w.since_ms) >= if w.sent { ANSWER_WITHIN_MS } else { LEADER_WITHIN_MS }
        };
        let expired: Vec<_> = self.waiting.iter().filter(|w| late(w)).map(|w| (w.ticket, w.sent)).collect();
        for (ticket, sent) in expired {
            let refusal = if sent {
                Refusal::new(
                    Errno::TimedOut,
                    "the leader did not answer in time: the write may or may not be made; read the file again before you repeat it",
                )
            } else {
                Refusal::new(
                    Errno::ReadOnly,
                    format!("there is no leader to take the write: {}", self.why_no_leader()),
                )
            };
            self.answer(Asker::Here { ticket }, Err(refusal));
        }
    }

    fn why_no_leader(&self) -> String {
        let leader = self.intent.cluster.as_ref().map(|c| &c.leader);
        match (&self.lead, leader) {
            (Lead::Failed { why, .. }, _) => why.clone(),
            (_, Some(name)) if name == &self.me => {
                "this box is to lead and its meta resource is not up yet".to_owned()
            }
            (_, Some(name)) => format!("{name} leads and cannot be reached from {}", self.me),
            (_, None) => "this box belongs to no cluster".to_owned(),
        }
    }

    // ---- leadership

    /// This box is the one to lead, and its meta replica is good: open the store.
    fn try_lead(&mut self) {
        let chosen = self.intent.cluster.as_ref().is_some_and(|c| c.leader == self.me);
        let may = match &self.lead {
            Lead::No => true,
            Lead::Failed { again_ms, .. } => self.now_ms >= *again_ms,
            Lead::Opening | Lead::Yes { .. } => false,
        };
        let Some(meta) = self.intent.meta().filter(|_| chosen && may) else { return };
        let resource = self.mine.resource(&meta.resource);
        let device = resource.and_then(|r| r.devices.get(&0));
        let good =
            |d: &Device| d.minor == meta.minor && d.disk == DiskState::UpToDate && d.quorum != Some(false);
        if device.is_some_and(good) {
            self.lead = Lead::Opening;
            self.out.push(Output::OpenStore { found: self.founding });
        }
    }

    /// DRBD says that this box is cut off from the majority: whatever is written to the meta resource now fails.
    fn mind_quorum(&mut self) {
        if !matches!(self.lead, Lead::Yes { .. }) || self.meta_quorum() != Some(false) {
            return;
        }
        self.resign("the meta resource lost its quorum".to_owned());
    }

    fn meta_quorum(&self) -> Option<bool> {
        let meta = self.intent.meta()?;
        self.mine.resource(&meta.resource)?.devices.get(&0)?.quorum
    }

    fn store_opened(&mut self, result: Result<Vec<Record>, String>) {
        let records = match result {
            Ok(records) => records,
            Err(why) => return self.resign(why),
        };
        let found = records.is_empty();
        if found && !self.founding {
            return self.resign("the store on the meta resource is empty".to_owned());
        }
        let known = self.intent.stamp;
        let mut tip = if found { (*self.intent).clone() } else { Intent::from_records(records) };
        if tip.stamp < known {
            self.notes.push(format!(
                "the store on the meta resource has revision {}, this box's own copy {}: acknowledged writes may be lost",
                tip.stamp.revision, known.revision
            ));
        }
        self.intent = Arc::new(tip.clone());
        let epoch = tip.stamp.epoch.max(known.epoch) + 1;
        let stamp = Stamp { epoch, revision: tip.stamp.revision + 1 };
        let first = Change::Put(Record::Stamp(stamp));
        let mut txn = if found { tip.whole() } else { Txn::new() };
        txn.push(first);
        tip.apply(&txn);
        let seq = self.next_seq;
        self.next_seq += 1;
        let queue = VecDeque::from([Pending { seq, txn: txn.clone(), askers: Vec::new() }]);
        self.lead = Lead::Yes { tip, queue, durable: false };
        self.out.push(Output::Commit { seq, txn });
    }

    fn became_leader(&mut self) {
        if std::mem::replace(&mut self.founding, false) {
            self.out.push(Output::Founded);
        }
        self.leader = Some(self.me.clone());
        for name in self.others() {
            self.out.push(Output::Send(name, Message::State(self.intent.records())));
        }
    }

    /// Gives up all rights first, then the store.
    fn resign(&mut self, why: String) {
        let old = std::mem::replace(
            &mut self.lead,
            Lead::Failed { why: why.clone(), again_ms: self.now_ms + REOPEN_AFTER_MS },
        );
        self.leader = None;
        self.out.push(Output::CloseStore);
        if let Lead::Yes { queue, .. } = old {
            let text = format!(
                "the leader lost its store ({why}): the write may or may not be made; read the file again before you repeat it"
            );
            for asker in queue.into_iter().flat_map(|p| p.askers) {
                self.answer(asker, Err(Refusal::new(Errno::TimedOut, text.clone())));
            }
            for (asker, _) in std::mem::take(&mut self.backlog) {
                self.answer(
                    asker,
                    Err(Refusal::new(
                        Errno::ReadOnly,
                        format!("{} gave up its leadership ({why}): nothing was changed", self.me),
                    )),
                );
            }
            for name in self.others() {
                self.out.push(Output::Send(name, Message::Resigned));
            }
        }
    }

    // ---- the other boxes

    fn others(&self) -> Vec<BoxName> {
        self.linked.iter().cloned().collect()
    }

    fn link_up(&mut self, name: BoxName) {
        self.out.push(Output::Send(
            name.clone(),
            Message::Hello { stamp: self.intent.stamp, leads: self.leads() },
        ));
        self.out.push(Output::Send(name.clone(), Message::Report(self.mine.clone())));
        self.linked.insert(name);
    }

    fn link_down(&mut self, name: &BoxName) {
        self.linked.remove(name);
        self.alive.remove(name);
        if self.leader.as_ref() == Some(name) {
            self.leader = None;
        }
        self.facts_changed = true;
    }

    fn message(&mut self, from: BoxName, message: Message) {
        match message {
            Message::Hello { stamp, leads } => {
                if self.leads() {
                    let same = stamp == self.intent.stamp;
                    let answer =
                        if same { Message::Current(stamp) } else { Message::State(self.intent.records()) };
                    self.out.push(Output::Send(from, answer));
                } else if leads && stamp == self.intent.stamp {
                    self.follow(from);
                }
            }
            Message::Current(stamp) if stamp == self.intent.stamp => self.follow(from),
            Message::Current(_) => self.out.push(Output::Send(from, Message::Behind)),
            Message::State(records) => self.take_state(from, records),
            Message::Commit { from: base, txn } => self.take_commit(from, base, &txn),
            Message::Behind if self.leads() => {
                self.out.push(Output::Send(from, Message::State(self.intent.records())));
            }
            Message::Behind => {}
            Message::Resigned => {
                if self.leader.as_ref() == Some(&from) {
                    self.leader = None;
                    self.facts_changed = true;
                }
            }
            Message::Report(report) => {
                if self.linked.contains(&from) {
                    self.alive.insert(from.clone());
                }
                self.reports.insert(from, Arc::new(report));
                self.facts_changed = true;
            }
            Message::Ask(request) => self.asked(from, &request),
            Message::Answer { seed, result } => {
                if let Some(w) = self.waiting.iter().find(|w| w.request.seed == seed) {
                    let ticket = w.ticket;
                    self.answer(Asker::Here { ticket }, result);
                }
            }
        }
    }

    fn asked(&mut self, from: BoxName, request: &Request) {
        if self.leads() {
            self.grant(Asker::There { name: from, seed: request.seed.clone() }, request);
        } else {
            let refusal =
                Refusal::new(Errno::ReadOnly, format!("{} does not lead any more; try again", self.me));
            self.out.push(Output::Send(
                from,
                Message::Answer { seed: request.seed.clone(), result: Err(refusal) },
            ));
        }
    }

    fn follow(&mut self, leader: BoxName) {
        self.leader = Some(leader);
        self.facts_changed = true;
        self.forward();
    }

    /// Takes everything over from a leader, unless what is known here is newer.
    fn take_state(&mut self, from: BoxName, records: Vec<Record>) {
        let new = Intent::from_records(records);
        let stale = new.stamp.epoch < self.intent.stamp.epoch;
        if stale || self.leads() {
            return;
        }
        self.out.push(Output::Save { whole: true, txn: new.whole() });
        self.intent = Arc::new(new);
        self.publish_members();
        self.follow(from);
    }

    fn take_commit(&mut self, from: BoxName, base: Stamp, txn: &Txn) {
        if base != self.intent.stamp {
            if base.epoch >= self.intent.stamp.epoch {
                self.out.push(Output::Send(from, Message::Behind));
            }
            return;
        }
        Arc::make_mut(&mut self.intent).apply(txn);
        self.renew_lanes(txn);
        self.out.push(Output::Save { whole: false, txn: txn.clone() });
        self.publish_members();
        self.follow(from);
    }

    /// What was tried for a resource counts no more once something else is wanted of it.
    fn renew_lanes(&mut self, txn: &Txn) {
        for change in txn {
            match change {
                Change::Put(Record::Volume(volume)) => self.lanes.renew(&lane(volume.name.as_str())),
                Change::Put(Record::Assignment(a)) => self.lanes.renew(&lane(&a.resource)),
                Change::Put(_) | Change::Delete(_) => {}
            }
        }
    }

    fn publish_members(&mut self) {
        self.out.push(Output::Members(self.intent.members.values().cloned().collect()));
        if let Some(cluster) = &self.intent.cluster {
            self.out.push(Output::JoinSecret(cluster.join_secret.clone()));
        }
    }

    // ---- observations and steps

    fn facts(&mut self, facts: Facts) {
        let before = self.mine.clone();
        match facts {
            Facts::Disks(disks) => {
                self.mine.disks = disks;
                self.lanes.observed(Source::Disks);
            }
            Facts::Vgs(vgs) => {
                self.mine.vgs = vgs;
                self.lanes.observed(Source::Vgs);
            }
            Facts::Conf(conf) => {
                self.mine.conf = conf;
                self.lanes.observed(Source::Conf);
            }
            Facts::Counters(counters) => {
                self.counters = counters;
                self.lanes.observed(Source::Counters);
            }
            Facts::Drbd(drbd) => {
                if let Known::Known(now) = &drbd {
                    let there = |minor: &u32| {
                        now.values().flat_map(|r| r.devices.values()).any(|d| d.minor == *minor)
                    };
                    self.counters.retain(|minor, _| there(minor));
                }
                self.mine.drbd = drbd;
                self.lanes.observed_drbd();
            }
            Facts::Resource(name, resource) => {
                self.lanes.observed_drbd();
                let Known::Known(all) = &mut self.mine.drbd else { return };
                let gone = match resource {
                    Some(resource) => all.insert(name, resource).filter(|_| false),
                    None => all.remove(&name),
                };
                for device in gone.iter().flat_map(|r| r.devices.values()) {
                    self.counters.remove(&device.minor);
                }
            }
        }
        self.count();
        if before != self.mine {
            self.mine_changed();
            self.facts_changed = true;
        }
    }

    /// Puts the counters into the facts that DRBD's events gave.
    fn count(&mut self) {
        let Known::Known(all) = &mut self.mine.drbd else { return };
        for resource in all.values_mut() {
            for (number, device) in &mut resource.devices {
                let Some(counters) = self.counters.get(&device.minor) else { continue };
                device.size_kib = device.size_kib.max(counters.size_kib);
                let peers = resource.peers.values_mut().filter_map(|p| p.devices.get_mut(number));
                for peer in peers.filter(|p| p.replication.has_progress()) {
                    peer.out_of_sync_kib = counters.out_of_sync_kib.unwrap_or(peer.out_of_sync_kib);
                }
            }
        }
    }

    /// Counters are looked at only while something grows, or syncs on 8.4.
    fn look_at_counters(&mut self) {
        if self.now_ms < self.counted_ms + COUNT_EVERY_MS {
            return;
        }
        let Some(resources) = self.mine.drbd.known() else { return };
        let events_tell = self.mine.drbd_version.is_some_and(|v| v.is_9());
        let changing = |a: &Assignment| {
            let Some(resource) = resources.get(&a.resource).filter(|_| a.legs.contains_key(&self.me)) else {
                return false;
            };
            let grows =
                resource.devices.values().any(|d| d.size_kib > 0 && d.size_kib * 1024 < a.size.bytes());
            let mut peers = resource.peers.values().flat_map(|p| p.devices.values());
            grows || !events_tell && peers.any(|d| d.replication.has_progress())
        };
        if self.intent.assignments.values().any(changing) {
            self.counted_ms = self.now_ms;
            self.out.push(Output::Observe(Source::Counters));
        }
    }

    fn job_done(&mut self, lane: &str, steps: &[Step], result: Result<(), (Step, StepError)>) {
        match &result {
            Ok(()) => drop(self.mine.trouble.remove(lane)),
            Err((step, error)) => {
                let wedged = if error.class == StepClass::Wedged { WEDGED } else { "" };
                drop(self.mine.trouble.insert(lane.to_owned(), format!("{wedged}{step}: {error}")));
            }
        }
        let sources = self.lanes.done(lane, steps, result.as_ref().err().map(|(_, e)| e.class), self.now_ms);
        self.out.extend(sources.into_iter().map(Output::Observe));
        self.mine_changed();
        self.facts_changed = true;
    }

    /// After everything that happened: decide, plan, spread.
    fn pump(&mut self) {
        self.expire();
        self.mind_quorum();
        self.try_lead();
        if self.report_dirty && self.now_ms >= self.report_sent_ms + REPORT_EVERY_MS
            || self.report_sent_ms == 0
        {
            self.send_report();
        }
        if std::mem::take(&mut self.facts_changed) {
            self.decide();
        }
        self.start_jobs();
        self.look_at_counters();
    }

    /// Shown here at once, told to others soon.
    fn mine_changed(&mut self) {
        self.reports.insert(self.me.clone(), Arc::new(self.mine.clone()));
        self.report_dirty = true;
    }

    fn send_report(&mut self) {
        self.report_dirty = false;
        self.report_sent_ms = self.now_ms.max(1);
        for name in self.others() {
            self.out.push(Output::Send(name, Message::Report(self.mine.clone())));
        }
    }

    fn decide(&mut self) {
        let Lead::Yes { tip, durable: true, .. } = &self.lead else { return };
        let world = World { intent: tip, reports: &self.reports, alive: &self.alive };
        let (txn, refusals) = assign(&world, &self.me);
        self.refusals = refusals;
        if !txn.is_empty() {
            self.commit(txn, Vec::new());
        }
    }

    fn here(&self) -> Here<'_> {
        Here {
            world: World { intent: &self.intent, reports: &self.reports, alive: &self.alive },
            me: &self.me,
            report: &self.mine,
            current: self.founding || self.leader.is_some(),
        }
    }

    fn jobs(&self) -> Vec<Job> {
        plan(&self.here())
    }

    fn start_jobs(&mut self) {
        let jobs = self.jobs();
        self.planned =
            jobs.iter().flat_map(|job| job.steps.iter().map(|s| format!("{}: {s}", job.lane))).collect();
        self.lanes.retain(&jobs, self.now_ms);
        let idle: Vec<_> =
            self.mine.trouble.keys().filter(|lane| self.lanes.is_quiet(lane, self.now_ms)).cloned().collect();
        for lane in idle {
            self.mine.trouble.remove(&lane);
            self.mine_changed();
        }
        for job in jobs {
            if self.lanes.start(&job, self.now_ms) {
                self.out.push(Output::Run(job));
            }
        }
        let left = left(&self.here(), |lane| self.lanes.is_settled(lane, self.now_ms));
        if left != self.mine.left {
            self.mine.left = left;
            self.mine_changed();
            self.facts_changed = true;
        }
    }

    /// There is nothing to do on this box, as far as it knows.
    pub fn has_no_plan(&self) -> bool {
        self.planned.is_empty()
    }

    /// What can be shown now.
    pub fn view(&self) -> View {
        let mut notes = self.notes.clone();
        notes.extend(self.refusals.values().cloned());
        if let Lead::Failed { why, .. } = &self.lead {
            notes.push(format!("{} cannot lead: {why}", self.me));
        }
        View {
            me: Some(self.me.clone()),
            intent: Arc::clone(&self.intent),
            reports: self.reports.clone(),
            alive: self.alive.clone(),
            leader: self.leader.clone(),
            notes,
            plan: self.planned.clone(),
            counters: vec![
                ("revision", self.intent.stamp.revision),
                ("epoch", self.intent.stamp.epoch),
                ("writes-waiting", self.waiting.len() as u64),
                ("jobs-running", self.lanes.running() as u64),
            ],
        }
    }
}
