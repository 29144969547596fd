//! One box's mind, told anything by anybody in any order: it never panics, commits only what it may, answers each writer
//! once and in time, and what it shows can be read.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use holdfast::core::{
    facts::{ConfFile, Known, Report},
    intent::{Change, Intent, Record, Stamp},
    message::Message,
    names::BoxName,
    node::{Facts, Input, Node, Output, Source},
    step::{Job, Step, StepClass, StepError},
};

use crate::{
    make, paths,
    random::Random,
    runs::{Run, runs},
    tree_world as world,
};

/// A write is answered in 10 s; and a second for the clock's tick.
const ANSWERED_WITHIN_MS: u64 = 11_000;

struct Mind {
    node: Node,
    me: BoxName,
    now_ms: u64,
    commits: VecDeque<u64>,
    jobs: Vec<Job>,
    opening: bool,
    tickets: u64,
    open_tickets: BTreeSet<u64>,
}

impl Mind {
    fn new(me: &str) -> Self {
        let view = world::world();
        let report = Report::clone(&view.reports[&world::on(me)]);
        let node = Node::new(world::on(me), Intent::clone(&view.intent), false, report, 1);
        let (commits, jobs) = (VecDeque::new(), Vec::new());
        let open_tickets = BTreeSet::new();
        let me = world::on(me);
        Self { node, me, now_ms: 1, commits, jobs, opening: false, tickets: 0, open_tickets }
    }

    /// box1, with its store open and its first commit durable.
    fn leader() -> Self {
        let mut mind = Self::new("box1");
        mind.take(Input::Tick);
        assert!(mind.opening, "the meta resource is good");
        mind.open();
        let seq = mind.commits.pop_front().unwrap();
        mind.take(Input::Committed { seq, result: Ok(()) });
        assert!(mind.node.leads());
        mind
    }

    fn open(&mut self) {
        self.opening = false;
        let records = self.node.intent().records();
        self.take(Input::StoreOpened(Ok(records)));
    }

    fn take(&mut self, input: Input) {
        let led = self.node.leads();
        let before = Arc::clone(self.node.intent());
        let opened = matches!(input, Input::StoreOpened(Ok(_)));
        let said = matches!(input, Input::Message(..));
        for output in self.node.take(self.now_ms, 1_772_366_400, input) {
            match output {
                Output::Commit { seq, txn } => {
                    assert!(
                        led || opened || self.node.leads(),
                        "a commit of one that does not lead: {txn:?}"
                    );
                    assert!(matches!(txn.last(), Some(Change::Put(Record::Stamp(_)))), "{txn:?}");
                    self.commits.push_back(seq);
                }
                Output::OpenStore { .. } => self.opening = true,
                Output::CloseStore => {
                    self.opening = false;
                    self.commits.clear();
                }
                Output::Run(job) => {
                    job.steps.iter().for_each(check_step);
                    self.jobs.push(job);
                }
                Output::Answer { ticket, .. } => {
                    assert!(self.open_tickets.remove(&ticket), "{ticket} was answered or never asked");
                }
                _ => {}
            }
        }
        if said && led {
            assert!(self.node.leads(), "a message cannot take the lead away");
            assert_eq!(
                **self.node.intent(),
                *before,
                "nobody but the store tells the leader what is committed"
            );
            assert_eq!(self.node.view().leader.as_ref(), Some(&self.me), "the leader follows nobody");
        }
    }
}

/// What goes into the names of files is a name, and what goes into a file leaves no line or quotes of its own.
fn check_step(step: &Step) {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    match step {
        Step::WriteConf { resource, text } => {
            assert!(is_name(resource), "{step:?}");
            assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\n'), "{text}");
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
            assert!(text.lines().all(|line| line.matches('"').count().is_multiple_of(2)), "{text}");
            assert_eq!(text.matches("shared-secret").count(), 1, "{text}");
        }
        Step::Adjust { resource }
        | Step::Seed { resource, .. }
        | Step::Promote { resource }
        | Step::Demote { resource }
        | Step::Resize { resource }
        | Step::Down { resource, .. }
        | Step::RemoveConf { resource } => assert!(is_name(resource), "{step:?}"),
        Step::CreateLv { lv, volume, .. } => assert!(is_name(&lv.name) && is_name(volume), "{step:?}"),
        Step::ClaimDisk { .. } | Step::CreateMd { .. } | Step::GrowLv { .. } | Step::RemoveLv { .. } => {}
    }
}

/// Any other box.
fn sender(random: &mut Random, me: &BoxName) -> BoxName {
    let name = make::on(random);
    if &name == me || random.one_in(12) { BoxName::new("stranger").unwrap() } else { name }
}

/// A message as it comes over a link, perhaps damaged and a message all the same.
fn message(random: &mut Random) -> Message {
    let message = make::any_message(random);
    if random.one_in(2) {
        return message;
    }
    let damaged = random.damage(&serde_json::to_vec(&message).unwrap(), &[]);
    serde_json::from_slice(&damaged).unwrap_or(message)
}

/// A message that fits what the node knows, so that it gets further than the first look.
fn fitting_message(random: &mut Random, mind: &Mind) -> Message {
    let stamp = mind.node.intent().stamp;
    match (random.below(3), message(random)) {
        (0, Message::Hello { leads, .. }) => Message::Hello { stamp, leads },
        (0, Message::Current(_)) => Message::Current(stamp),
        (0, Message::Commit { txn, .. }) => Message::Commit { from: stamp, txn },
        (_, message) => message,
    }
}

fn facts(random: &mut Random, mind: &Mind) -> Facts {
    match random.below(6) {
        0 => Facts::Disks(make::disks(random)),
        1 => Facts::Vgs(make::vgs(random)),
        2 => {
            let file = ConfFile { crc: 7, adjusted: random.below(2) == 0 };
            Facts::Conf(Known::Known(make::resources(random).into_keys().map(|name| (name, file)).collect()))
        }
        3 => Facts::Drbd(Known::Unknown("lost".to_owned())),
        4 => {
            let view = mind.node.view();
            let mine = view.reports.get(&mind.me).and_then(|report| report.drbd.known().cloned());
            Facts::Drbd(Known::Known(mine.unwrap_or_else(|| make::resources(random))))
        }
        _ => {
            let name = random.pick(&["db", "web", "holdfast-meta", "placed"]);
            let resource = make::resource(random, name);
            Facts::Resource((*name).to_owned(), (!random.one_in(3)).then_some(resource))
        }
    }
}

fn error(random: &mut Random) -> StepError {
    let classes = [StepClass::Busy, StepClass::Refused, StepClass::Gone, StepClass::Wedged];
    StepError { class: *random.pick(&classes), text: make::text(random) }
}

/// One thing that happens. What is told by the box's own parts (store, jobs) fits what they were asked for.
fn happen(run: &mut Run, mind: &mut Mind) {
    let random = &mut run.random;
    mind.now_ms += [0, 1, 50, 700, 3_500][random.below(5)];
    let input = match random.below(16) {
        0 => Input::Tick,
        1 | 2 => {
            mind.tickets += 1;
            mind.open_tickets.insert(mind.tickets);
            Input::Wish {
                ticket: mind.tickets,
                about: "volumes/db".to_owned(),
                request: make::request(random),
            }
        }
        3 => Input::LinkUp(sender(random, &mind.me)),
        4 => Input::LinkDown(sender(random, &mind.me)),
        5 if random.one_in(2) => {
            let source = *random.pick(&[Source::Disks, Source::Vgs, Source::Conf, Source::Counters]);
            Input::Looked(source, u64::MAX)
        }
        5 => Input::Facts(facts(random, mind)),
        6 if !mind.jobs.is_empty() => {
            let Job { lane, steps } = mind.jobs.swap_remove(random.below(mind.jobs.len()));
            let failed = steps.first().filter(|_| random.one_in(2)).cloned();
            let result = match failed {
                Some(step) => Err((step, error(random))),
                None => Ok(()),
            };
            Input::JobDone { lane, steps, result }
        }
        7 | 8 if !mind.commits.is_empty() => {
            let result = if random.one_in(12) { Err("no space".to_owned()) } else { Ok(()) };
            Input::Committed { seq: mind.commits.pop_front().unwrap(), result }
        }
        9 => Input::Committed { seq: random.number(), result: Ok(()) },
        10 if mind.opening => {
            mind.opening = false;
            let records = if random.one_in(4) { Vec::new() } else { mind.node.intent().records() };
            Input::StoreOpened(if random.one_in(4) { Err("it is broken".to_owned()) } else { Ok(records) })
        }
        _ => {
            let (from, message) = (sender(random, &mind.me), fitting_message(random, mind));
            Input::Message(from, message)
        }
    };
    run.note(format!("{input:?}"));
    mind.take(input);
}

fn live(run: &mut Run, mut mind: Mind, happenings: usize) {
    for _ in 0..happenings {
        happen(run, &mut mind);
    }
    paths::check_all(&mind.node.view());
    for _ in 0..ANSWERED_WITHIN_MS / 500 {
        mind.now_ms += 500;
        mind.take(Input::Tick);
    }
    assert!(mind.open_tickets.is_empty(), "never answered: {:?}", mind.open_tickets);
}

#[test]
fn a_leader_stays_sound_whatever_others_say() {
    runs(240, |run| live(run, Mind::leader(), 50));
}

#[test]
fn a_box_that_does_not_lead_never_commits_whatever_others_say() {
    runs(240, |run| live(run, Mind::new("box2"), 50));
}

fn a_leader_is_told(message: fn(&Mind) -> Message) {
    let mut mind = Mind::leader();
    mind.take(Input::LinkUp(world::on("box2")));
    let message = message(&mind);
    mind.take(Input::Message(world::on("box2"), message));
}

#[test]
fn a_leader_takes_no_commit_of_another_box() {
    a_leader_is_told(|mind| Message::Commit { from: mind.node.intent().stamp, txn: Vec::new().into() });
}

#[test]
fn a_leader_does_not_follow_who_calls_it_current() {
    a_leader_is_told(|mind| Message::Current(mind.node.intent().stamp));
}

#[test]
fn a_device_of_any_size_is_looked_at() {
    let mut mind = Mind::leader();
    let mut resource = mind.node.view().reports[&mind.me].resource("db").unwrap().clone();
    resource.devices.get_mut(&0).unwrap().size_kib = u64::MAX;
    mind.now_ms += 5_000;
    mind.take(Input::Facts(Facts::Resource("db".to_owned(), Some(resource))));
}

#[test]
fn the_last_stamp_there_can_be_is_no_end() {
    let mut mind = Mind::new("box1");
    let last = Stamp { epoch: u64::MAX, revision: u64::MAX };
    let mut records = mind.node.intent().records();
    records.push(Record::Stamp(last));
    mind.take(Input::Message(world::on("box2"), Message::State(records.into())));
    mind.opening = true;
    mind.open();
}
