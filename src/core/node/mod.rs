//! One box's mind: a state machine without clock, threads or I/O. What happens goes in as [`Input`], what is to be done
//! comes out as [`Output`]; the daemon only carries both.
//!
//! It keeps the five kinds of state apart: wishes and assignments are the [`Intent`], observations the reports, plans are made anew whenever something changed, and the [`View`] is made from all of it.
//!
//! | where | what |
//! |---|---|
//! | `input` | what goes in and comes out |
//! | `writes` | a write's way to the leader and its answer |
//! | `lead` | being the leader: the store, commits, decisions |
//! | `peers` | the other boxes |
//! | `facts` | observations of this box |
//! | `jobs` | what it does |

mod facts;
mod input;
mod jobs;
mod lead;
mod peers;
mod writes;

pub use input::{Facts, Input, Output, Source};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use lead::Lead;
use writes::{Asker, Waiting};

use super::{
    assign,
    drbd::Counters,
    facts::Report,
    intent::{Change, Intent, Member, Record, Txn},
    lanes::Lanes,
    names::BoxName,
    plan::lane,
    planned::Planned,
    view::View,
    wish::Request,
};

/// Reports are sent no faster than this: a sync changes its counters many times a second.
const REPORT_EVERY_MS: u64 = 200;

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
    /// The number of the newest request to look at something.
    newest_look: u64,
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
            newest_look: 0,
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
            Input::Looked(source, upto) => self.lanes.looked(source, upto),
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

    fn mine(&self) -> &Report {
        &self.reports[&self.me]
    }

    /// What is changed in it is shown here at once, and told to others soon.
    fn change_mine(&mut self) -> &mut Report {
        self.report_dirty = true;
        Arc::make_mut(self.reports.entry(self.me.clone()).or_default())
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

    /// For tests: what was planned and decided as things changed is what would be from nothing.
    pub fn is_right(&self) -> bool {
        let decided = match &self.lead {
            Lead::Yes { tip, .. } => assign::is_right(tip, &self.reports, &self.alive, &self.me),
            Lead::No | Lead::Opening | Lead::Failed { .. } => true,
        };
        decided && self.planned.is_right(self.here())
    }
}
