//! The other boxes: what they say, what they are told, and whose word on the intent counts.

use std::sync::Arc;

use super::{Node, Output, writes::Asker};
use crate::core::{
    intent::{Intent, Record, Stamp, Txn},
    message::Message,
    names::BoxName,
    refusal::{Errno, Refusal},
    wish::Request,
};

impl Node {
    pub(super) fn link_up(&mut self, name: BoxName) {
        self.out.push(Output::Send(
            name.clone(),
            Message::Hello { stamp: self.intent.stamp, leads: self.leads() },
        ));
        self.out.push(Output::Send(name.clone(), Message::Report(Arc::clone(&self.reports[&self.me]))));
        self.linked.insert(name);
    }

    pub(super) fn link_down(&mut self, name: &BoxName) {
        self.linked.remove(name);
        self.alive.remove(name);
        self.planned.others_changed();
        if self.leader.as_ref() == Some(name) {
            self.leader = None;
        }
        self.facts_changed = true;
    }

    pub(super) fn message(&mut self, from: BoxName, message: Message) {
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
            // Two lead: that is settled by DRBD, not by what one says to the other.
            Message::Current(_) | Message::Commit { .. } if self.leads() => {}
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
            Message::Answer { seed, result } => self.answered(&seed, result),
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

    /// Everything that is wanted.
    pub(super) fn state(&self) -> Message {
        Message::State(Arc::new(self.intent.records()))
    }

    pub(super) fn tell_others(&mut self, message: &Message) {
        self.out.extend(self.linked.iter().map(|name| Output::Send(name.clone(), message.clone())));
    }

    pub(super) fn send_report(&mut self) {
        self.report_dirty = false;
        self.report_sent_ms = self.now_ms.max(1);
        self.tell_others(&Message::Report(Arc::clone(&self.reports[&self.me])));
    }
}
