//! Leadership: when this box opens the store on the meta resource, what it commits there, and when it gives up.

use std::{collections::VecDeque, sync::Arc};

use super::{Node, Output, writes::Asker};
use crate::core::{
    assign::{Tip, assign},
    drbd::{Device, DiskState},
    intent::{Change, Intent, Record, Stamp, Txn},
    message::Message,
    mutant,
    refusal::{Errno, Refusal},
};

/// Commits that may be on their way to the disk at once; the store's thread takes them together.
const COMMITS_IN_FLIGHT: usize = 128;
/// A store that did not open is tried again after so long.
const REOPEN_AFTER_MS: u64 = 3_000;

#[derive(Debug)]
pub(super) struct Pending {
    seq: u64,
    txn: Arc<Txn>,
    askers: Vec<Asker>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one a box
pub(super) enum Lead {
    /// Another box leads, or none.
    No,
    /// The store is being opened.
    Opening,
    /// It did not open: why, and when it is tried again.
    Failed { why: String, again_ms: u64 },
    /// This box leads, once the epoch's first commit is durable.
    Yes { tip: Tip, queue: VecDeque<Pending>, durable: bool },
}

impl Node {
    /// This box is the one to lead, and its meta replica is good: open the store.
    pub(super) fn try_lead(&mut self) {
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
    pub(super) fn mind_quorum(&mut self) {
        if !matches!(self.lead, Lead::Yes { .. }) || self.meta_quorum() != Some(false) {
            return;
        }
        self.resign("the meta resource lost its quorum".to_owned());
    }

    fn meta_quorum(&self) -> Option<bool> {
        let meta = self.intent.meta()?;
        self.mine().resource(&meta.resource)?.devices.get(&0)?.quorum
    }

    pub(super) fn store_opened(&mut self, result: Result<Vec<Record>, String>) {
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
        let newest = tip.stamp.epoch.max(known.epoch);
        let epoch = if mutant::is("keep the epoch") { newest } else { newest.saturating_add(1) };
        let stamp = Stamp { epoch, revision: tip.stamp.revision.saturating_add(1) };
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
        if self.leader.as_ref() == Some(&self.me) {
            self.leader = None;
        }
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

    pub(super) fn decide(&mut self) {
        let Lead::Yes { tip, durable: true, .. } = &mut self.lead else { return };
        let (txn, refusals) = assign(tip, &self.reports, &self.alive, &self.me);
        self.refusals = refusals;
        if !txn.is_empty() {
            self.commit(txn, Vec::new());
        }
    }

    /// Queues a commit; an empty one still waits for those before it, so that "it is so already" is durable too.
    pub(super) fn commit(&mut self, mut txn: Txn, askers: Vec<Asker>) {
        let Lead::Yes { tip, queue, .. } = &mut self.lead else { return };
        if txn.is_empty() {
            match queue.back_mut() {
                Some(last) => last.askers.extend(askers),
                None => askers.into_iter().for_each(|asker| self.answer(asker, Ok(()))),
            }
            return;
        }
        let Stamp { epoch, revision } = tip.intent.stamp;
        txn.push(Change::Put(Record::Stamp(Stamp { epoch, revision: revision.saturating_add(1) })));
        tip.apply(&txn);
        let seq = self.next_seq;
        self.next_seq += 1;
        let early = if mutant::is("answer before the commit") { askers.clone() } else { Vec::new() };
        queue.push_back(Pending { seq, txn: Arc::new(txn.clone()), askers });
        self.out.push(Output::Commit { seq, txn });
        early.into_iter().for_each(|asker| self.answer(asker, Ok(())));
    }

    pub(super) fn committed(&mut self, seq: u64, result: Result<(), String>) {
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

    pub(super) fn has_room(&self) -> bool {
        matches!(&self.lead, Lead::Yes { queue, .. } if queue.len() < COMMITS_IN_FLIGHT)
    }
}
