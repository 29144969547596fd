//! What a daemon puts out, carried out on the model: looks, jobs, messages, its own store.

use std::{collections::VecDeque, sync::Arc};

use crate::core::{
    conf,
    facts::{ConfFile, Known},
    message::Message,
    names::BoxName,
    node::{Facts, Input, Output, Source},
    step::{Job, Step, StepClass, StepError},
};

use super::{
    drbd::BoxId,
    machine::{DrbdEvent, Eye, MetaStore, StepFault, Unsaved},
    net::{Pair, TIMEOUT_MS, TIMEOUT_SPREAD_MS, pair},
    storage::failed,
    world::{Ev, World},
};

impl World {
    pub(super) fn carry(&mut self, at: BoxId, output: Output) {
        let life = self.life(at);
        match output {
            Output::Answer { ticket, result } => {
                self.check.answered(ticket, &result);
                self.answers.insert(ticket, result);
                self.joined(ticket, at);
            }
            Output::Send(to, message) => self.send(at, &to, message),
            Output::Commit { seq, txn } => {
                self.check.commit(at, &txn);
                self.store_commit(at, seq, txn);
            }
            Output::OpenStore { found } => {
                if let Some(mind) = self.boxes[at].mind.as_mut() {
                    mind.store = MetaStore::Opening;
                }
                let delay = self.rng.within(150, 700);
                self.after(delay, Ev::StoreOpen(at, life, found));
            }
            Output::CloseStore => self.store_close(at),
            Output::Save { whole, txn } => self.save(at, Unsaved::Change { whole, txn }),
            Output::Founded => self.save(at, Unsaved::Founded),
            Output::Run(job) => self.start_job(at, job),
            Output::Observe(source, request) => self.ask_to_look(at, source, request),
            Output::Members(members) => {
                if let Some(mind) = self.boxes[at].mind.as_mut() {
                    mind.members = members.into_iter().map(|m| m.name).collect();
                }
                self.wires_changed = true;
            }
            Output::JoinSecret(_) => {}
        }
    }

    fn save(&mut self, at: BoxId, change: Unsaved) {
        self.boxes[at].unsaved.push_back(change);
        let (life, delay) = (self.life(at), self.rng.within(5, 40));
        self.after(delay, Ev::Saved(at, life));
    }

    // ---- looking

    pub(super) fn ask_to_look(&mut self, at: BoxId, source: Source, request: u64) {
        let Some(mind) = self.boxes[at].mind.as_mut() else { return };
        let newest = mind.asked.entry(source).or_default();
        *newest = request.max(*newest);
        if let Some(again) = mind.looking.get_mut(&source) {
            *again = true;
            return;
        }
        mind.looking.insert(source, false);
        self.look_soon(at, source);
    }

    fn look_soon(&mut self, at: BoxId, source: Source) {
        let delay = match source {
            Source::Vgs | Source::Disks => self.rng.within(20, 200),
            Source::Conf | Source::Counters => self.rng.within(1, 20),
        };
        self.after(delay, Ev::Look(at, self.life(at), source));
    }

    pub(super) fn look(&mut self, at: BoxId, life: u64, source: Source) {
        let machine = &self.boxes[at];
        if machine.life != life {
            return;
        }
        let why = || "the model's look at it failed".to_owned();
        let facts = match source {
            Source::Vgs if machine.blind.contains(&Eye::Vgs) => Facts::Vgs(Known::Unknown(why())),
            Source::Disks if machine.blind.contains(&Eye::Disks) => Facts::Disks(Known::Unknown(why())),
            Source::Conf if machine.blind.contains(&Eye::Conf) => Facts::Conf(Known::Unknown(why())),
            Source::Vgs | Source::Disks | Source::Conf | Source::Counters => self.see(at, source),
        };
        let delay = self.rng.within(5, 60) + self.boxes[at].stale_ms;
        let asked = self.boxes[at].mind.as_ref().and_then(|mind| mind.asked.get(&source));
        let upto = asked.copied().unwrap_or_default();
        self.after(delay, Ev::Seen(at, life, source, upto, Box::new(facts)));
    }

    /// The truth about one source, as the host would report it now.
    pub fn see(&self, at: BoxId, source: Source) -> Facts {
        let machine = &self.boxes[at];
        match source {
            Source::Vgs => Facts::Vgs(Known::Known(machine.storage.look_vgs())),
            Source::Disks => Facts::Disks(Known::Known(machine.storage.look_disks())),
            Source::Conf => {
                let ours = machine.conf.iter().filter(|(_, text)| text.starts_with(conf::MARK));
                let file = |(name, text): (&String, &String)| {
                    let crc = conf::crc(text);
                    (name.clone(), ConfFile { crc, adjusted: machine.adjusted.get(name) == Some(&crc) })
                };
                Facts::Conf(Known::Known(ours.map(file).collect()))
            }
            Source::Counters => Facts::Counters(self.kernels.counters(at)),
        }
    }

    pub(super) fn seen(&mut self, at: BoxId, life: u64, source: Source, upto: u64, facts: Facts) {
        if self.life(at) != life {
            return;
        }
        if let Some(mind) = self.boxes[at].mind.as_mut()
            && mind.looking.remove(&source) == Some(true)
        {
            mind.looking.insert(source, false);
            self.look_soon(at, source);
        }
        self.take(at, Input::Facts(facts));
        self.take(at, Input::Looked(source, upto));
    }

    /// DRBD's events of what changed are on their way to the daemons, each with what was so then.
    pub(super) fn spread_drbd(&mut self) {
        for (at, resource) in self.kernels.take_changed() {
            let (life, soon) = (self.life(at), self.rng.within(2, 40));
            let state = self.kernels.look(at, &resource);
            let due_ms = self.now_ms + soon + self.boxes[at].stale_ms;
            let Some(mind) = self.boxes[at].mind.as_mut() else { continue };
            let due_ms = mind.drbd_events.back().map_or(due_ms, |last| due_ms.max(last.due_ms));
            mind.drbd_events.push_back(DrbdEvent { due_ms, resource, state });
            self.after(due_ms - self.now_ms, Ev::Drbd(at, life));
        }
    }

    pub(super) fn tell_drbd(&mut self, at: BoxId, life: u64) {
        while self.life(at) == life {
            let now_ms = self.now_ms;
            let Some(mind) = self.boxes[at].mind.as_mut() else { return };
            if mind.drbd_events.front().is_none_or(|event| event.due_ms > now_ms) {
                return;
            }
            let Some(event) = mind.drbd_events.pop_front() else { return };
            if !self.boxes[at].blind.contains(&Eye::Drbd) {
                self.take(at, Input::Facts(Facts::Resource(event.resource, event.state)));
            }
        }
    }

    // ---- jobs

    fn start_job(&mut self, at: BoxId, job: Job) {
        let (life, boot, job) = (self.life(at), self.boot(at), Arc::new(job));
        if let Some(mind) = self.boxes[at].mind.as_mut()
            && !mind.jobs.insert(job.lane.clone())
        {
            self.check.fail(5, format!("two jobs at once in lane {}", job.lane));
        }
        let delay = self.duration(&job, 0);
        self.begin_step(at, delay, Ev::Step { at, life, boot, job, index: 0 });
    }

    fn begin_step(&mut self, at: BoxId, delay_ms: u64, step: Ev) {
        let ends_ms = self.now_ms + delay_ms;
        self.boxes[at].busy_until_ms = self.boxes[at].busy_until_ms.max(ends_ms);
        self.after(delay_ms, step);
    }

    /// As long as on a real machine, roughly.
    fn duration(&mut self, job: &Job, index: usize) -> u64 {
        match job.steps.get(index) {
            Some(Step::WriteConf { .. } | Step::RemoveConf { .. }) | None => self.rng.within(1, 10),
            Some(Step::Adjust { .. } | Step::Seed { .. } | Step::Down { .. }) => self.rng.within(50, 400),
            Some(Step::Promote { .. } | Step::Demote { .. } | Step::Resize { .. }) => {
                self.rng.within(20, 200)
            }
            Some(Step::ClaimDisk { .. } | Step::CreateLv { .. } | Step::CreateMd { .. }) => {
                self.rng.within(50, 500)
            }
            Some(Step::GrowLv { .. } | Step::RemoveLv { .. }) => self.rng.within(50, 400),
        }
    }

    pub(super) fn step_ends(&mut self, at: BoxId, life: u64, boot: u64, job: &Arc<Job>, index: usize) {
        if self.boot(at) != boot || !self.boxes[at].on {
            return; // no command outlives its kernel
        }
        let Some(step) = job.steps.get(index) else { return };
        if self.life(at) != life {
            // The daemon died; the command it had begun may have ended with it, or come to its own end.
            if self.rng.percent(50) {
                drop(self.act(at, &job.lane, step));
            }
            return;
        }
        let why = || failed(StepClass::Refused, "the model fails it");
        let result = match self.boxes[at].fault.take() {
            Some(StepFault::Before) => Err(why()),
            Some(StepFault::After) => self.act(at, &job.lane, step).and_then(|()| Err(why())),
            None => self.act(at, &job.lane, step),
        };
        let more = result.is_ok() && index + 1 < job.steps.len();
        if more {
            let delay = self.duration(job, index + 1);
            let next = Ev::Step { at, life, boot, job: Arc::clone(job), index: index + 1 };
            return self.begin_step(at, delay, next);
        }
        if let Some(mind) = self.boxes[at].mind.as_mut() {
            mind.jobs.remove(&job.lane);
        }
        let result = result.map_err(|error| (step.clone(), error));
        self.take(at, Input::JobDone { lane: job.lane.clone(), steps: job.steps.clone(), result });
    }

    /// Takes a step on a box and has it checked.
    pub fn act(&mut self, at: BoxId, lane: &str, step: &Step) -> Result<(), StepError> {
        let before = self.before_step(at, step);
        let result = self.apply(at, step);
        self.check_step(before, at, step, &result);
        self.steps_taken += 1;
        if self.verbose {
            let name = &self.boxes[at].name;
            let line = match &result {
                Ok(()) => format!("{name} {lane}: {step}"),
                Err(error) => format!("{name} {lane}: {step}: {error}"),
            };
            self.steps.push(line);
        }
        result
    }

    /// The model's side of the seam.
    fn apply(&mut self, at: BoxId, step: &Step) -> Result<(), StepError> {
        let (zeroes, nine) = (self.boxes[at].zeroes, self.version.is_9());
        let (machine, kernels) = (&mut self.boxes[at], &mut self.kernels);
        match step {
            Step::ClaimDisk { pool, device, ident } => machine.storage.claim(pool, device, ident),
            Step::CreateLv { lv, size, pv, .. } => machine.storage.create(lv, *size, pv.as_deref(), kernels),
            Step::CreateMd { lv, .. } => machine.storage.create_md(lv, zeroes, kernels),
            Step::GrowLv { lv, size } => machine.storage.grow(lv, *size, kernels),
            Step::WriteConf { resource, .. } if machine.has_foreign_conf(resource) => {
                Err(failed(StepClass::Refused, format!("{resource}.res is not ours: left alone")))
            }
            Step::WriteConf { resource, text } => {
                let old = machine.conf.insert(resource.clone(), text.clone());
                if old.as_ref() != Some(text) {
                    machine.adjusted.remove(resource);
                }
                Ok(())
            }
            Step::RemoveConf { resource } => {
                if !machine.has_foreign_conf(resource) {
                    machine.conf.remove(resource);
                    machine.adjusted.remove(resource);
                }
                Ok(())
            }
            Step::RemoveLv { lv } => machine.storage.remove(lv, kernels),
            Step::Down { resource, .. } if machine.readers.contains(resource) => {
                Err(failed(StepClass::Busy, format!("{resource} is open")))
            }
            Step::Demote { resource } if !nine && machine.readers.contains(resource) => {
                Err(failed(StepClass::Busy, format!("{resource} is open")))
            }
            Step::Down { resource, minor } => kernels.down(at, resource, *minor),
            Step::Adjust { resource } => self.adjust(at, resource),
            Step::Seed { resource, how } => self.with_file(at, resource)?.seed(at, resource, *how),
            Step::Promote { resource } => self.with_file(at, resource)?.promote(at, resource),
            Step::Demote { resource } => self.with_file(at, resource)?.demote(at, resource),
            Step::Resize { resource } => self.with_file(at, resource)?.resize(at, resource),
        }
    }

    /// drbdadm knows a resource by its file.
    fn with_file(&mut self, at: BoxId, resource: &str) -> Result<&mut super::drbd::Kernels, StepError> {
        let machine = &self.boxes[at];
        if machine.conf.contains_key(resource) && !machine.has_foreign_conf(resource) {
            return Ok(&mut self.kernels);
        }
        Err(failed(StepClass::Gone, format!("{resource}.res is not there or not ours")))
    }

    fn adjust(&mut self, at: BoxId, resource: &str) -> Result<(), StepError> {
        self.with_file(at, resource)?;
        let (boxes, kernels) = (&self.boxes, &mut self.kernels);
        let machine = &boxes[at];
        let Some(text) = machine.conf.get(resource) else { return Ok(()) };
        let named = |name: &str| boxes.iter().position(|m| m.name.as_str() == name);
        let backing = |path: &str| machine.storage.by_path(path);
        kernels.adjust(at, text, &named, machine.name.as_str(), &backing)?;
        let crc = conf::crc(text);
        self.boxes[at].adjusted.insert(resource.to_owned(), crc);
        Ok(())
    }

    // ---- links

    fn send(&mut self, from: BoxId, to: &BoxName, message: Message) {
        let Some(to) = self.find(to.as_str()) else { return };
        let (now, delay) = (self.now_ms, self.rng.within(1, 15));
        let Some((queue, last, number)) = self.net.queue(from, to) else { return };
        queue.push_back(message);
        let at_ms = (*last).max(now + delay);
        *last = at_ms;
        self.after(at_ms - now, Ev::Deliver(from, to, number));
    }

    pub(super) fn deliver(&mut self, from: BoxId, to: BoxId, number: u64) {
        if !self.net.passes(from, to) || !self.boxes[from].on {
            return; // it waits: mended in time, it is delivered then
        }
        // What a daemon sent before it died still arrives; nothing arrives at one that died.
        let Some(link) = self.net.links.get_mut(&pair(from, to)) else { return };
        let side = usize::from(to > from);
        if !link.up || link.number != number || link.lives[side] != self.boxes[to].life {
            return;
        }
        let Some(message) = link.queues[side].pop_front() else { return };
        let name = self.boxes[from].name.clone();
        self.take(to, Input::Message(name, message));
    }

    /// After power, daemons, wires or memberships changed: links and DRBD's wires follow.
    pub(super) fn settle_wires(&mut self) {
        if !std::mem::take(&mut self.wires_changed) {
            return;
        }
        for a in 0..self.boxes.len() {
            for b in a + 1..self.boxes.len() {
                let wire = self.boxes[a].on && self.boxes[b].on && self.net.whole(a, b);
                self.kernels.wire(a, b, wire, self.now_ms);
                self.settle_link((a, b), wire);
            }
        }
    }

    fn settle_link(&mut self, pair: Pair, wire: bool) {
        let can = wire && self.both_talk(pair);
        let now = self.now_ms;
        let link = self.net.links.entry(pair).or_default();
        let number = link.number;
        if can && !link.up && !link.rising {
            link.rising = true;
            let wait = link.not_before_ms.saturating_sub(now);
            let delay = wait + self.rng.within(50, 400);
            self.after(delay, Ev::Rise(pair, number));
        } else if link.up && (!can || link.broken) && !link.falling {
            link.falling = true;
            // A daemon that dies closes its sockets; a cut wire says nothing.
            let delay = if wire { self.rng.within(1, 20) } else { TIMEOUT_MS };
            self.after(delay, Ev::Fall(pair, number));
        }
        // What waited on a wire that is whole again goes on.
        let Some(link) = self.net.links.get(&pair).filter(|link| link.up && wire) else { return };
        let waiting = [link.queues[0].len(), link.queues[1].len()];
        (0..waiting[0]).for_each(|_| self.after(1, Ev::Deliver(pair.1, pair.0, number)));
        (0..waiting[1]).for_each(|_| self.after(1, Ev::Deliver(pair.0, pair.1, number)));
    }

    fn both_talk(&self, (a, b): Pair) -> bool {
        let knows = |x: BoxId, y: BoxId| {
            self.boxes[x].mind.as_ref().is_some_and(|mind| mind.members.contains(&self.boxes[y].name))
        };
        knows(a, b) && knows(b, a)
    }

    fn can_talk(&self, (a, b): Pair) -> bool {
        self.both_talk((a, b)) && self.net.whole(a, b) && self.boxes[a].on && self.boxes[b].on
    }

    pub(super) fn link_rises(&mut self, pair: Pair, number: u64) {
        let (a, b) = pair;
        let can = self.can_talk(pair);
        let (lives, now) = ([self.life(a), self.life(b)], self.now_ms);
        let Some(link) = self.net.links.get_mut(&pair) else { return };
        if link.number != number || link.up {
            return;
        }
        link.rising = false;
        if !can {
            return;
        }
        (link.up, link.broken, link.lives, link.last_ms) = (true, false, lives, [now; 2]);
        link.number += 1;
        let names = (self.boxes[a].name.clone(), self.boxes[b].name.clone());
        self.take(a, Input::LinkUp(names.1));
        self.take(b, Input::LinkUp(names.0));
    }

    pub(super) fn link_falls(&mut self, pair: Pair, number: u64) {
        let (a, b) = pair;
        let can = self.can_talk(pair);
        let wire = self.net.whole(a, b) && self.boxes[a].on && self.boxes[b].on;
        let Some(link) = self.net.links.get_mut(&pair) else { return };
        if link.number != number || !link.up {
            return;
        }
        link.falling = false;
        if can && !link.broken {
            return; // mended in time
        }
        (link.up, link.broken) = (false, false);
        link.queues.iter_mut().for_each(VecDeque::clear);
        let spread_ms = if wire { 20 } else { TIMEOUT_SPREAD_MS };
        link.not_before_ms = self.now_ms + spread_ms;
        let lives = link.lives;
        for (me, other, life) in [(a, b, lives[0]), (b, a, lives[1])] {
            let name = self.boxes[other].name.clone();
            let delay = self.rng.below(spread_ms);
            self.after(delay, Ev::Tell(me, life, Box::new(Input::LinkDown(name))));
        }
        self.wires_changed = true;
    }

    /// The daemon of a box ended: its sockets are closed, and what it had not read is gone.
    pub(super) fn break_links(&mut self, at: BoxId) {
        for other in (0..self.boxes.len()).filter(|other| *other != at) {
            if let Some(link) = self.net.links.get_mut(&pair(at, other)) {
                link.broken = link.up;
                link.queues[usize::from(at > other)].clear();
            }
        }
    }
}
