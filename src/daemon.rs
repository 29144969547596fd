//! The loop: carries what happens to the node, and what the node wants to the edges. It decides nothing.
//!
//! One thread runs it and owns all state. Everybody else (FUSE, links, udev, DRBD's events, workers, stores, signals)
//! posts [`Event`]s. Nothing in here sleeps or runs a command.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    core::{
        hex,
        intent::{Member, PEER_PORT, Record, Txn},
        message::{JoinAnswer, JoinAsk, Message},
        names::BoxName,
        node::{Input, Node, Output, Source},
        refusal::{Errno, Refusal},
        step::{Job, Step, StepClass, StepError},
        wish::{Request, Wish},
    },
    edge::{
        fuse::{Answer, Mounted},
        peer::{self, JoinRequest, Links},
        store::{StoreEvent, StoreThread},
    },
    event::Event,
    host::Host,
    keeper::MetaKeeper,
    local::{self, Keeper},
    observer::Observers,
    random,
};

/// Jobs that run at once; a wedged one does not count.
const WORKERS: usize = 16;
/// Everything is looked at again so often, in case an event was missed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The meta resource's text export is written so often at most.
const EXPORT_EVERY: Duration = Duration::from_secs(5);
/// What the own store did not take is offered again after so long.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// Events taken in one go before the view is made anew.
const BATCH: usize = 64;

/// Everything that the loop hands work to.
pub struct Edges {
    /// The machine.
    pub host: Arc<dyn Host>,
    /// Looks at it.
    pub observers: Observers,
    /// Other boxes.
    pub links: Links,
    /// The tree.
    pub tree: Mounted,
    /// The meta resource's store.
    pub meta: MetaKeeper,
    /// The own store.
    pub local: StoreThread,
    /// Posts events to the loop.
    pub events: SyncSender<Event>,
}

/// Who waits for what becomes of a wish.
enum Asker {
    Writer(Answer),
    Newcomer(JoinRequest),
}

/// See the module.
pub struct Daemon {
    node: Node,
    edges: Edges,
    keeper: Keeper,
    started: Instant,
    next_ticket: u64,
    next_local: u64,
    askers: BTreeMap<u64, Asker>,
    /// Answers that go out once the view that shows them is published.
    due: Vec<(Answer, Result<(), Refusal>)>,
    jobs: VecDeque<Job>,
    working: usize,
    members: Vec<peer::Member>,
    join_secret: String,
    looked: Instant,
    exported: Instant,
    export_due: bool,
    /// The own store did not take a change: it is given everything, before any other change, from then on.
    save_all: Option<Instant>,
}

impl Daemon {
    /// The loop over a node that starts with what the own store said.
    pub fn new(node: Node, edges: Edges) -> Self {
        let now = Instant::now();
        let keeper = Keeper::new(node.intent());
        Self {
            node,
            edges,
            keeper,
            started: now,
            next_ticket: 1,
            next_local: 1,
            askers: BTreeMap::new(),
            due: Vec::new(),
            jobs: VecDeque::new(),
            working: 0,
            members: Vec::new(),
            join_secret: String::new(),
            looked: now,
            exported: now,
            export_due: false,
            save_all: None,
        }
    }

    /// Runs until it is told to stop. `ready` is called once when the first view can be read; `alive` at least every
    /// second.
    pub fn run(mut self, events: &Receiver<Event>, ready: impl FnOnce(), alive: impl Fn()) {
        self.node_takes(Input::Tick);
        for source in [Source::Vgs, Source::Disks, Source::Conf] {
            self.edges.observers.look(source, 0);
        }
        self.publish();
        ready();
        loop {
            let wait = self.node.next_wake_ms().saturating_sub(self.now_ms()).clamp(1, 1_000);
            let first = match events.recv_timeout(Duration::from_millis(wait)) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => Event::Node(Input::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let rest: Vec<Event> = events.try_iter().take(BATCH).collect();
            let mut stop = false;
            for event in std::iter::once(first).chain(rest) {
                stop |= matches!(event, Event::Stop);
                self.take(event);
            }
            self.routine();
            self.publish();
            alive();
            if stop {
                break;
            }
        }
        self.stop();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn publish(&mut self) {
        self.edges.tree.publish(Arc::new(self.node.view()));
        self.due.drain(..).for_each(|(answer, result)| answer(result));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Node(input) => self.node_takes(input),
            Event::Wish { about, wish, answer } => self.wish(about, wish, Asker::Writer(answer)),
            Event::Refused { about, refusal, answer } => {
                self.node_takes(Input::Refused { about, refusal: refusal.clone() });
                self.due.push((answer, Err(refusal)));
            }
            Event::Join(request) => self.join(request),
            Event::Meta(event) => self.meta(event),
            Event::Local(event) => self.local(event),
            Event::PeerRefused(line) => log::warn!("{line}"),
            Event::DisksChanged => {
                self.edges.observers.look(Source::Disks, 0);
                self.edges.observers.look(Source::Vgs, 0);
            }
            Event::WorkerFree => {
                self.working = self.working.saturating_sub(1);
                self.start_jobs();
            }
            Event::Stop => log::info!("asked to stop"),
        }
    }

    fn node_takes(&mut self, input: Input) {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        for output in self.node.take(self.now_ms(), now_s, input) {
            self.carry(output);
        }
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Answer { ticket, result } => match self.askers.remove(&ticket) {
                Some(Asker::Writer(answer)) => self.due.push((answer, result)),
                Some(Asker::Newcomer(request)) => self.welcome(request, result),
                None => {}
            },
            Output::Send(name, message) => self.send(&name, &message),
            Output::Commit { seq, txn } => {
                self.export_due = true;
                if !self.edges.meta.commit(seq, local::ops(&txn)) {
                    self.post(Event::Node(Input::Committed {
                        seq,
                        result: Err("the store takes no more commits".to_owned()),
                    }));
                }
            }
            Output::OpenStore { found } => self.edges.meta.open(found),
            Output::CloseStore => self.edges.meta.close(),
            Output::Save { whole, txn } => self.save(whole, &txn),
            Output::Founded => {
                log::info!("the cluster is founded");
                if !self.save_ops(Keeper::founded()) {
                    log::error!("this box's own store does not take that the cluster is founded");
                }
            }
            Output::Run(job) => {
                self.jobs.push_back(job);
                self.start_jobs();
            }
            Output::Observe(source, request) => self.edges.observers.look(source, request),
            Output::Members(members) => self.set_members(&members),
            Output::JoinSecret(secret) => self.set_join_secret(secret),
        }
    }

    /// For what the loop has to tell itself; it must not wait for itself, so a full channel is left by a thread.
    fn post(&self, event: Event) {
        if let Err(back) = self.edges.events.try_send(event) {
            let events = self.edges.events.clone();
            std::thread::spawn(move || {
                let (std::sync::mpsc::TrySendError::Full(event)
                | std::sync::mpsc::TrySendError::Disconnected(event)) = back;
                drop(events.send(event));
            });
        }
    }

    fn send(&self, name: &BoxName, message: &Message) {
        match serde_json::to_vec(message) {
            Ok(bytes) => drop(self.edges.links.send(name.as_str(), bytes)),
            Err(error) => log::error!("a message to {name} cannot be written: {error}"),
        }
    }

    /// A copy that lacks one change and has the stamp of a later one would be taken for whole.
    fn save(&mut self, whole: bool, txn: &Txn) {
        if self.save_all.is_some() && !whole {
            return;
        }
        let ops = self.keeper.ops(whole, txn);
        let removed = Keeper::removed(&ops);
        let taken = self.save_ops(ops);
        if !taken {
            self.keeper.not_taken(removed);
            log::error!("this box's own store takes no more changes for now: its copy of the intent is old");
        }
        self.save_all = (!taken).then(Instant::now);
    }

    fn save_ops(&mut self, ops: Vec<crate::edge::store::Op>) -> bool {
        self.next_local += 1;
        self.edges.local.commit(self.next_local, ops)
    }

    fn set_members(&mut self, members: &[Member]) {
        let known = |m: &Member| {
            let public_key = hex::key(&m.public_key)?;
            Some(peer::Member {
                name: m.name.to_string(),
                public_key,
                address: SocketAddr::new(m.address, PEER_PORT),
            })
        };
        let members: Vec<_> = members.iter().filter_map(known).collect();
        if members != self.members {
            self.members.clone_from(&members);
            self.edges.links.set_members(members);
        }
    }

    fn set_join_secret(&mut self, secret: String) {
        if secret != self.join_secret {
            self.edges.links.set_join_secret(hex::key(&secret));
            self.join_secret = secret;
        }
    }

    // ---- writes

    fn wish(&mut self, about: String, wish: Wish, asker: Asker) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.askers.insert(ticket, asker);
        match random::key() {
            Ok(seed) => self.node_takes(Input::Wish { ticket, about, request: Request { seed, wish } }),
            Err(error) => {
                let refusal = Refusal::new(Errno::Failed, format!("no random numbers: {error}"));
                self.carry(Output::Answer { ticket, result: Err(refusal) });
            }
        }
    }

    fn join(&mut self, request: JoinRequest) {
        let ask: JoinAsk = match serde_json::from_slice(&request.message) {
            Ok(ask) => ask,
            Err(error) => return log::warn!("a newcomer at {} said nonsense: {error}", request.address),
        };
        let member =
            Member { name: ask.name, public_key: hex::text(&request.public_key), address: ask.address };
        log::info!("{} at {} shows the token and wants to join", member.name, member.address);
        self.wish(format!("nodes/{}", member.name), Wish::Join(member), Asker::Newcomer(request));
    }

    fn welcome(&self, request: JoinRequest, result: Result<(), Refusal>) {
        let answer = match result {
            Ok(()) => JoinAnswer::Welcome(self.node.intent().records()),
            Err(refusal) => JoinAnswer::Refused(refusal),
        };
        match serde_json::to_vec(&answer) {
            Ok(bytes) => drop(request.answer(bytes)),
            Err(error) => log::error!("the answer to a newcomer cannot be written: {error}"),
        }
    }

    // ---- stores

    fn meta(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Opened(Ok((records, rebuilt))) => {
                if let Some(rebuilt) = rebuilt {
                    let line = format!(
                        "the store on the meta resource was damaged ({}) and is rebuilt from {}; compare it with what you expect",
                        rebuilt.why,
                        rebuilt.from.display()
                    );
                    log::warn!("{line}");
                    self.node.note(line);
                }
                let records: Result<Vec<Record>, _> = local::read_records(&records);
                self.node_takes(Input::StoreOpened(records.map_err(|e| e.to_string())));
            }
            StoreEvent::Opened(Err(error)) => self.node_takes(Input::StoreOpened(Err(error.to_string()))),
            StoreEvent::Committed { seq, result } => {
                self.node_takes(Input::Committed { seq, result: result.map_err(|e| e.to_string()) });
            }
            StoreEvent::Exported(Ok(())) => {}
            StoreEvent::Exported(Err(error)) => {
                log::warn!("the export on the meta resource was not written: {error}")
            }
        }
    }

    fn local(&mut self, event: StoreEvent) {
        let error = match event {
            StoreEvent::Opened(Ok(_))
            | StoreEvent::Committed { result: Ok(()), .. }
            | StoreEvent::Exported(Ok(())) => {
                return;
            }
            StoreEvent::Opened(Err(error))
            | StoreEvent::Committed { result: Err(error), .. }
            | StoreEvent::Exported(Err(error)) => error,
        };
        let line = format!(
            "this box's own store failed: {error}; free space or mend {} and restart holdfast",
            local::STATE_DIR
        );
        log::error!("{line}");
        self.node.note(line);
    }

    fn routine(&mut self) {
        if self.looked.elapsed() >= LOOK_AGAIN {
            self.looked = Instant::now();
            [Source::Vgs, Source::Disks, Source::Conf]
                .into_iter()
                .for_each(|s| self.edges.observers.look(s, 0));
        }
        if self.save_all.is_some_and(|since| since.elapsed() >= SAVE_AGAIN) {
            let all = self.node.intent().whole();
            self.save(true, &all);
        }
        if self.export_due && self.exported.elapsed() >= EXPORT_EVERY && self.node.leads() {
            self.export_due = false;
            self.exported = Instant::now();
            self.edges.meta.export(local::as_records(self.node.intent()));
        }
    }

    // ---- work

    fn start_jobs(&mut self) {
        while self.working < WORKERS {
            let Some(job) = self.jobs.pop_front() else { return };
            self.working += 1;
            let (host, events) = (Arc::clone(&self.edges.host), self.edges.events.clone());
            let worker = std::thread::Builder::new().name("worker".to_owned());
            let Job { lane, steps } = job.clone();
            let spawned = worker.spawn(move || {
                let done = catch_unwind(AssertUnwindSafe(|| work(host.as_ref(), &job)));
                // Without an end of it the lane would be taken for busy for ever.
                let why = "a bug in holdfast ended it; the log says where";
                let result = done.unwrap_or_else(|_| failed_at_first(&job.steps, why.to_owned()));
                let result = result.map_or(Ok(()), Err);
                drop(events.send(Event::Node(Input::JobDone { lane: job.lane, steps: job.steps, result })));
                drop(events.send(Event::WorkerFree));
            });
            if let Err(error) = spawned {
                log::error!("{lane}: no thread for its steps: {error}");
                self.working -= 1;
                let text = format!("no thread could be started for it: {error}");
                let result = failed_at_first(&steps, text).map_or(Ok(()), Err);
                self.post(Event::Node(Input::JobDone { lane, steps, result }));
            }
        }
    }

    fn stop(self) {
        let Edges { links, tree, meta, local, .. } = self.edges;
        meta.stop();
        links.stop();
        if let Err(error) = tree.unmount() {
            log::warn!("{error}");
        }
        if let Err(error) = local.stop() {
            log::warn!("this box's own store: {error}");
        }
    }
}

/// The answer for a worker with a bug: its steps are looked at and tried again like others that failed.
/// A job of which no step is known to be done.
fn failed_at_first(steps: &[Step], text: String) -> Option<(Step, StepError)> {
    steps.first().map(|step| (step.clone(), StepError { class: StepClass::Refused, text }))
}

/// Takes a job's steps in order; the first that fails ends it and is returned.
fn work(host: &dyn Host, job: &Job) -> Option<(Step, StepError)> {
    for step in &job.steps {
        match host.apply(step) {
            Ok(()) => log::info!("{}: {step}: done", job.lane),
            Err(error) => {
                let wedged = if error.class == StepClass::Wedged { " (wedged)" } else { "" };
                log::warn!("{}: {step}: {error}{wedged}", job.lane);
                return Some((step.clone(), error));
            }
        }
    }
    None
}
