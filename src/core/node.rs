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
    assign::{self, Tip},
    claim::Disk,
    drbd::{Counters, Device, DiskState, Resource},
    facts::{ErrorLine, Known, Report, Vg},
    intent::{Change, Intent, Member, Record, Stamp, Txn},
    lanes::Lanes,
    message::Message,
    names::{BoxName, DiskName, PoolName},
    place::World,
    plan::{Here, lane},
    planned::Planned,
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
    Disks(Known<BTreeMap<DiskName, Disk>>),
    /// [`Source::Vgs`]
    Vgs(Known<BTreeMap<PoolName, Vg>>),
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
    txn: Arc<Txn>,
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
    Yes { tip: Tip, queue: VecDeque<Pending>, durable: bool },
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
    /// The last report of each box; this box's own is in it.
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
    /// No write has waited too long before then.
    expire_ms: u64,
    lanes: Lanes,
    planned: Planned,
    counters: BTreeMap<u32, Counters>,
    counted_ms: u64,
    refusals: BTreeMap<String, String>,
    notes: Vec<String>,
    report_dirty: bool,
    report_sent_ms: u64,
    facts_changed: bool,
    /// What [`Output::Members`] and [`Output::JoinSecret`] said last.
    told: (Vec<Member>, String),
    out: Vec<Output>,
}

impl Node {
    /// A box that starts with what its own store says.
    pub fn new(me: BoxName, intent: Intent, founding: bool, mine: Report, now_ms: u64) -> Self {
        let now_s = mine.since_s;
        let reports = BTreeMap::from([(me.clone(), Arc::new(mine))]);
        let mut node = Self {
            alive: BTreeSet::from([me.clone()]),
            me,
            founding,
            now_ms,
            now_s,
            intent: Arc::new(intent),
            reports,
            linked: BTreeSet::new(),
            leader: None,
            lead: Lead::No,
            next_seq: 1,
            backlog: VecDeque::new(),
            waiting: Vec::new(),
            expire_ms: u64::MAX,
            lanes: Lanes::default(),
            planned: Planned::default(),
            counters: BTreeMap::new(),
            counted_ms: 0,
            refusals: BTreeMap::new(),
            notes: Vec::new(),
            report_dirty: true,
            report_sent_ms: 0,
            facts_changed: true,
            told: (Vec::new(), String::new()),
            out: Vec::new(),
        };
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
        self.expire_ms = self.expire_ms.min(self.now_ms + LEADER_WITHIN_MS);
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
        let world = World { intent: &tip.intent, reports: &self.reports, alive: &self.alive };
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
        let Stamp { epoch, revision } = tip.intent.stamp;
        txn.push(Change::Put(Record::Stamp(Stamp { epoch, revision: revision + 1 })));
        tip.apply(&txn);
        let seq = self.next_seq;
        self.next_seq += 1;
        queue.push_back(Pending { seq, txn: Arc::new(txn.clone()), askers });
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
        self.apply(&done.txn);
        let txn = if newly { self.intent.whole() } else { Txn::clone(&done.txn) };
        self.out.push(Output::Save { whole: newly, txn });
        if newly {
            self.became_leader();
        } else {
            self.tell_others(&Message::Commit { from, txn: done.txn });
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
        let lines = self.reports.values().flat_map(|report| &report.errors);
        let newest = lines.map(|line| line.number).max().unwrap_or(0);
        let line = ErrorLine {
            at_s: self.now_s,
            number: newest.saturating_add(1),
            about,
            text: refusal.text.clone(),
        };
        let errors = &mut self.change_mine().errors;
        errors.push(line);
        let surplus = errors.len().saturating_sub(ERRORS_KEPT);
        errors.drain(..surplus);
    }

    /// Writes that waited too long for a leader or for an answer.
    fn expire(&mut self) {
        if self.now_ms < self.expire_ms {
            return;
        }
        let ends_ms = |w: &Waiting| w.since_ms + if w.sent { ANSWER_WITHIN_MS } else { LEADER_WITHIN_MS };
        let late = |w: &&Waiting| self.now_ms >= ends_ms(w);
        let expired: Vec<_> = self.waiting.iter().filter(late).map(|w| (w.ticket, w.sent)).collect();
        self.expire_ms = self.waiting.iter().filter(|w| !late(w)).map(ends_ms).min().unwrap_or(u64::MAX);
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
        let may = match &self.lead {
            Lead::No => true,
            Lead::Failed { again_ms, .. } => self.now_ms >= *again_ms,
            Lead::Opening | Lead::Yes { .. } => false,
        };
        let chosen = may && self.intent.cluster.as_ref().is_some_and(|c| c.leader == self.me);
        let Some(meta) = chosen.then(|| self.intent.meta()).flatten() else { return };
        let resource = self.mine().resource(&meta.resource);
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
        self.mine().resource(&meta.resource)?.devices.get(&0)?.quorum
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
        self.replace_intent(tip.clone());
        let epoch = tip.stamp.epoch.max(known.epoch) + 1;
        let stamp = Stamp { epoch, revision: tip.stamp.revision + 1 };
        let first = Change::Put(Record::Stamp(stamp));
        let mut txn = if found { tip.whole() } else { Txn::new() };
        txn.push(first);
        tip.apply(&txn);
        let seq = self.next_seq;
        self.next_seq += 1;
        let queue = VecDeque::from([Pending { seq, txn: Arc::new(txn.clone()), askers: Vec::new() }]);
        self.lead = Lead::Yes { tip: Tip::new(tip), queue, durable: false };
        self.out.push(Output::Commit { seq, txn });
    }

    fn became_leader(&mut self) {
        if std::mem::replace(&mut self.founding, false) {
            self.out.push(Output::Founded);
        }
        self.leader = Some(self.me.clone());
        self.tell_others(&self.state());
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
            self.tell_others(&Message::Resigned);
        }
    }

    // ---- the other boxes

    fn tell_others(&mut self, message: &Message) {
        self.out.extend(self.linked.iter().map(|name| Output::Send(name.clone(), message.clone())));
    }

    /// Everything that is wanted.
    fn state(&self) -> Message {
        Message::State(Arc::new(self.intent.records()))
    }

    fn link_up(&mut self, name: BoxName) {
        self.out.push(Output::Send(
            name.clone(),
            Message::Hello { stamp: self.intent.stamp, leads: self.leads() },
        ));
        self.out.push(Output::Send(name.clone(), Message::Report(Arc::clone(&self.reports[&self.me]))));
        self.linked.insert(name);
    }

    fn link_down(&mut self, name: &BoxName) {
        self.linked.remove(name);
        self.alive.remove(name);
        self.planned.others_changed();
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
                    let answer = if same { Message::Current(stamp) } else { self.state() };
                    self.out.push(Output::Send(from, answer));
                } else if leads && stamp == self.intent.stamp {
                    self.follow(from);
                }
            }
            Message::Current(stamp) if stamp == self.intent.stamp => self.follow(from),
            Message::Current(_) => self.out.push(Output::Send(from, Message::Behind)),
            Message::State(records) => self.take_state(from, Arc::unwrap_or_clone(records)),
            Message::Commit { from: base, txn } => self.take_commit(from, base, &txn),
            Message::Behind if self.leads() => {
                self.out.push(Output::Send(from, self.state()));
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
                self.reports.insert(from, report);
                self.planned.others_changed();
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
        self.replace_intent(new);
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
        self.apply(txn);
        self.out.push(Output::Save { whole: false, txn: txn.clone() });
        self.publish_members();
        self.follow(from);
    }

    fn replace_intent(&mut self, new: Intent) {
        self.intent = Arc::new(new);
        self.planned.intent_replaced();
    }

    /// What was tried for a resource counts no more once something else is wanted of it.
    fn apply(&mut self, txn: &Txn) {
        self.planned.intent_changes(&self.intent, txn);
        Arc::make_mut(&mut self.intent).apply(txn);
        for change in txn {
            match change {
                Change::Put(Record::Volume(volume)) => self.lanes.renew(&lane(volume.name.as_str())),
                Change::Put(Record::Assignment(a)) => self.lanes.renew(&lane(&a.resource)),
                Change::Put(_) | Change::Delete(_) => {}
            }
        }
    }

    fn publish_members(&mut self) {
        let (members, secret) = &mut self.told;
        if !self.intent.members.values().eq(members.iter()) {
            *members = self.intent.members.values().cloned().collect();
            self.out.push(Output::Members(members.clone()));
        }
        if let Some(cluster) = self.intent.cluster.as_ref().filter(|c| &c.join_secret != secret) {
            secret.clone_from(&cluster.join_secret);
            self.out.push(Output::JoinSecret(secret.clone()));
        }
    }

    // ---- observations and steps

    fn facts(&mut self, facts: Facts) {
        let changed = match facts {
            Facts::Disks(disks) => self.disks(disks),
            Facts::Vgs(vgs) => self.vgs(vgs),
            Facts::Conf(conf) => self.conf(conf),
            Facts::Counters(counters) => self.count(counters),
            Facts::Drbd(drbd) => self.drbd(drbd),
            Facts::Resource(name, resource) => self.resource(name, resource),
        };
        self.facts_changed |= changed;
    }

    fn disks(&mut self, disks: Known<BTreeMap<DiskName, Disk>>) -> bool {
        self.lanes.observed(Source::Disks);
        let changed = self.mine().disks != disks;
        if changed {
            self.planned.claims_changed();
            self.change_mine().disks = disks;
        }
        changed
    }

    fn vgs(&mut self, vgs: Known<BTreeMap<PoolName, Vg>>) -> bool {
        self.lanes.observed(Source::Vgs);
        let changed = self.mine().vgs != vgs;
        if changed {
            self.planned.all_changed();
            self.change_mine().vgs = vgs;
        }
        changed
    }

    fn conf(&mut self, conf: Known<BTreeMap<String, u32>>) -> bool {
        self.lanes.observed(Source::Conf);
        let changed = self.planned.facts_change(&self.reports[&self.me].conf, &conf);
        if changed {
            self.change_mine().conf = conf;
        }
        changed
    }

    fn drbd(&mut self, mut drbd: Known<BTreeMap<String, Resource>>) -> bool {
        self.lanes.observed_drbd();
        if let Known::Known(now) = &mut drbd {
            let devices = now.values().flat_map(|r| r.devices.values());
            let there: BTreeSet<u32> = devices.map(|d| d.minor).collect();
            self.counters.retain(|minor, _| there.contains(minor));
            for resource in now.values_mut() {
                put_counters(resource, &self.counters);
            }
        }
        let changed = self.planned.facts_change(&self.reports[&self.me].drbd, &drbd);
        if changed {
            self.change_mine().drbd = drbd;
        }
        changed
    }

    fn resource(&mut self, name: String, mut resource: Option<Resource>) -> bool {
        self.lanes.observed_drbd();
        let Known::Known(all) = &self.reports[&self.me].drbd else { return false };
        if let Some(now) = &mut resource {
            put_counters(now, &self.counters);
        }
        let old = all.get(&name);
        if old == resource.as_ref() {
            return false;
        }
        let gone = old.filter(|_| resource.is_none());
        for device in gone.iter().flat_map(|r| r.devices.values()) {
            self.counters.remove(&device.minor);
        }
        self.put_resource(name, resource);
        true
    }

    fn count(&mut self, counters: BTreeMap<u32, Counters>) -> bool {
        self.lanes.observed(Source::Counters);
        self.counters = counters;
        let Known::Known(all) = &self.reports[&self.me].drbd else { return false };
        let counted = all.iter().filter_map(|(name, resource)| {
            let mut resource = resource.clone();
            put_counters(&mut resource, &self.counters).then(|| (name.clone(), resource))
        });
        let counted: Vec<_> = counted.collect();
        let changed = !counted.is_empty();
        counted.into_iter().for_each(|(name, resource)| self.put_resource(name, Some(resource)));
        changed
    }

    fn put_resource(&mut self, name: String, resource: Option<Resource>) {
        self.planned.resource_changed(&name);
        let Known::Known(all) = &mut self.change_mine().drbd else { return };
        match resource {
            Some(resource) => drop(all.insert(name, resource)),
            None => drop(all.remove(&name)),
        }
    }

    /// Counters are looked at only while something grows, or syncs on 8.4.
    fn look_at_counters(&mut self) {
        if self.now_ms >= self.counted_ms + COUNT_EVERY_MS && self.planned.counts() {
            self.counted_ms = self.now_ms;
            self.out.push(Output::Observe(Source::Counters));
        }
    }

    fn job_done(&mut self, lane: &str, steps: &[Step], result: Result<(), (Step, StepError)>) {
        let trouble = &mut self.change_mine().trouble;
        match &result {
            Ok(()) => drop(trouble.remove(lane)),
            Err((step, error)) => {
                let wedged = if error.class == StepClass::Wedged { WEDGED } else { "" };
                drop(trouble.insert(lane.to_owned(), format!("{wedged}{step}: {error}")));
            }
        }
        let sources = self.lanes.done(lane, steps, result.as_ref().err().map(|(_, e)| e.class), self.now_ms);
        self.out.extend(sources.into_iter().map(Output::Observe));
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

    fn mine(&self) -> &Report {
        &self.reports[&self.me]
    }

    /// What is changed in it is shown here at once, and told to others soon.
    fn change_mine(&mut self) -> &mut Report {
        self.report_dirty = true;
        Arc::make_mut(self.reports.entry(self.me.clone()).or_default())
    }

    fn send_report(&mut self) {
        self.report_dirty = false;
        self.report_sent_ms = self.now_ms.max(1);
        self.tell_others(&Message::Report(Arc::clone(&self.reports[&self.me])));
    }

    fn decide(&mut self) {
        let Lead::Yes { tip, durable: true, .. } = &mut self.lead else { return };
        let (txn, refusals) = assign::assign(tip, &self.reports, &self.alive, &self.me);
        self.refusals = refusals;
        if !txn.is_empty() {
            self.commit(txn, Vec::new());
        }
    }

    fn here(&self) -> Here<'_> {
        Here {
            world: World { intent: &self.intent, reports: &self.reports, alive: &self.alive },
            me: &self.me,
            report: self.mine(),
            current: self.founding || self.leader.is_some(),
            lvs: None,
        }
    }

    /// For tests: what was planned and decided as things changed is what would be from nothing.
    pub fn is_right(&self) -> bool {
        let decided = match &self.lead {
            Lead::Yes { tip, .. } => assign::is_right(tip, &self.reports, &self.alive, &self.me),
            Lead::No | Lead::Opening | Lead::Failed { .. } => true,
        };
        decided && self.planned.is_right(self.here())
    }

    fn start_jobs(&mut self) {
        let mut planned = std::mem::take(&mut self.planned);
        let renewed = planned.renew(self.here());
        self.planned = planned;
        if !renewed && !self.lanes.is_due(self.now_ms) {
            return;
        }
        self.lanes.retain(self.planned.jobs(), self.now_ms);
        let is_quiet = |lane: &&String| self.lanes.is_quiet(lane, self.now_ms);
        let quiet: Vec<_> = self.mine().trouble.keys().filter(is_quiet).cloned().collect();
        for lane in quiet {
            self.change_mine().trouble.remove(&lane);
        }
        for job in self.planned.jobs() {
            if self.lanes.start(job, self.now_ms) {
                self.out.push(Output::Run(job.clone()));
            }
        }
        let left = self.planned.left(|lane| self.lanes.is_settled(lane, self.now_ms));
        if left != self.mine().left {
            self.change_mine().left = left;
            self.facts_changed = true;
        }
        self.lanes.looked_at(self.now_ms);
    }

    /// There is nothing to do on this box, as far as it knows.
    pub fn has_no_plan(&self) -> bool {
        self.planned.jobs().next().is_none()
    }

    /// What can be shown now.
    pub fn view(&self) -> View {
        let mut notes = self.notes.clone();
        notes.extend(self.refusals.values().cloned());
        if let Lead::Failed { why, .. } = &self.lead {
            notes.push(format!("{} cannot lead: {why}", self.me));
        }
        let steps = self.planned.jobs().flat_map(|j| j.steps.iter().map(|s| format!("{}: {s}", j.lane)));
        View {
            me: Some(self.me.clone()),
            intent: Arc::clone(&self.intent),
            reports: self.reports.clone(),
            alive: self.alive.clone(),
            leader: self.leader.clone(),
            notes,
            plan: steps.collect(),
            counters: vec![
                ("revision", self.intent.stamp.revision),
                ("epoch", self.intent.stamp.epoch),
                ("writes-waiting", self.waiting.len() as u64),
                ("jobs-running", self.lanes.running() as u64),
            ],
        }
    }
}

/// Puts the counters into the facts that DRBD's events gave; whether they say anything new.
fn put_counters(resource: &mut Resource, counters: &BTreeMap<u32, Counters>) -> bool {
    let mut new = false;
    for (number, device) in &mut resource.devices {
        let Some(counters) = counters.get(&device.minor) else { continue };
        new |= counters.size_kib > device.size_kib;
        device.size_kib = device.size_kib.max(counters.size_kib);
        let Some(out_of_sync_kib) = counters.out_of_sync_kib else { continue };
        let peers = resource.peers.values_mut().filter_map(|p| p.devices.get_mut(number));
        for peer in peers.filter(|p| p.replication.has_progress()) {
            new |= std::mem::replace(&mut peer.out_of_sync_kib, out_of_sync_kib) != out_of_sync_kib;
        }
    }
    new
}
