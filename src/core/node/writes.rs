//! Writes: from the one who waits for it to the leader, and the answer back. Every write is answered, once.

use super::{Lead, Node, Output};
use crate::core::{
    admit::admit,
    facts::{ErrorLine, Report},
    message::Message,
    names::BoxName,
    place::World,
    refusal::{Errno, Refusal},
    wish::Request,
};

/// A write waits for its commit so long.
const ANSWER_WITHIN_MS: u64 = 10_000;
/// A write waits so long for a leader to be there.
const LEADER_WITHIN_MS: u64 = 2_000;
/// Refusals that are kept for `errors`.
const ERRORS_KEPT: usize = 32;

/// Whom an answer is for: a waiting writer on this box, or another box's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Here { ticket: u64 },
    There { name: BoxName, seed: String },
}

#[derive(Debug)]
pub(super) struct Waiting {
    ticket: u64,
    about: String,
    request: Request,
    since_ms: u64,
    sent: bool,
}

impl Node {
    pub(super) fn wish(&mut self, ticket: u64, about: String, request: Request) {
        self.waiting.push(Waiting { ticket, about, request, since_ms: self.now_ms, sent: false });
        self.expire_ms = self.expire_ms.min(self.now_ms + LEADER_WITHIN_MS);
        self.forward();
    }

    /// Hands every waiting wish to the leader, be it this box or another.
    pub(super) fn forward(&mut self) {
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
    pub(super) fn grant(&mut self, asker: Asker, request: &Request) {
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

    pub(super) fn answer(&mut self, asker: Asker, result: Result<(), Refusal>) {
        match asker {
            Asker::Here { ticket } => {
                let Some(at) = self.waiting.iter().position(|w| w.ticket == ticket) else { return };
                let waiting = self.waiting.remove(at);
                match &result {
                    Ok(()) => self.settle_refusals(&waiting.about),
                    Err(refusal) => self.keep_refusal(waiting.about, refusal),
                }
                self.out.push(Output::Answer { ticket, result });
            }
            Asker::There { name, seed } => {
                self.out.push(Output::Send(name, Message::Answer { seed, result }))
            }
        }
    }

    /// The leader answered a request that was made here.
    pub(super) fn answered(&mut self, seed: &str, result: Result<(), Refusal>) {
        if let Some(ticket) = self.waiting.iter().find(|w| w.request.seed == seed).map(|w| w.ticket) {
            self.answer(Asker::Here { ticket }, result);
        }
    }

    pub(super) fn keep_refusal(&mut self, about: String, refusal: &Refusal) {
        let reports = self.reports.values();
        let numbers =
            |r: &Report| r.errors.iter().map(|line| line.number).chain(r.settled.values().copied()).max();
        let newest = reports.filter_map(|report| numbers(report)).max().unwrap_or(0);
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

    /// A write was granted: what was refused about the same thing before is said no more.
    fn settle_refusals(&mut self, about: &str) {
        let newest = |about: &str| {
            let lines = self.reports.values().flat_map(|report| &report.errors);
            lines.filter(|line| line.about == about).map(|line| line.number).max()
        };
        let Some(number) = newest(about).filter(|n| self.mine().settled.get(about) != Some(n)) else {
            return;
        };
        // Lines go with time, and what answers them with them.
        let mut settled = self.mine().settled.clone();
        settled.retain(|about, _| newest(about).is_some());
        settled.insert(about.to_owned(), number);
        self.change_mine().settled = settled;
    }

    /// Writes that waited too long for a leader or for an answer.
    pub(super) fn expire(&mut self) {
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
}
