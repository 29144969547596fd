//! The leader's store on the model's meta resource: mounting, commits in batches, and what a power cut leaves of one.

use std::collections::VecDeque;

use crate::core::{
    intent::{META_NAME, Txn},
    node::Input,
};

use super::{
    drbd::{BoxId, IoError},
    machine::{MetaStore, Records, apply},
    world::{Ev, World},
};

/// A write that hangs is tried again so soon.
const HANGS_MS: u64 = 300;

impl World {
    fn set_store(&mut self, at: BoxId, store: MetaStore) {
        if let Some(mind) = self.boxes[at].mind.as_mut() {
            mind.store = store;
        }
    }

    /// Promote, mount, open, read: as keeper.rs has it done.
    pub(super) fn store_open(&mut self, at: BoxId, found: bool) {
        let opening = self.boxes[at].mind.as_ref().is_some_and(|m| matches!(m.store, MetaStore::Opening));
        if !opening {
            return;
        }
        match self.mount(at, found) {
            Ok(records) => {
                self.check.begins(at, &records);
                let all = records.values().cloned().collect();
                let (queue, batch) = (VecDeque::new(), VecDeque::new());
                self.set_store(at, MetaStore::Open { records, queue, batch, writing: false, dead: false });
                self.take(at, Input::StoreOpened(Ok(all)));
            }
            Err(why) => {
                self.set_store(at, MetaStore::Closed);
                self.unmount(at);
                self.take(at, Input::StoreOpened(Err(why)));
            }
        }
    }

    fn mount(&mut self, at: BoxId, found: bool) -> Result<Records, String> {
        let io = |error: IoError| match error {
            IoError::Gone => "it is not there".to_owned(),
            IoError::Io => "Input/output error".to_owned(),
            IoError::Frozen => "I/O hangs".to_owned(),
        };
        self.kernels.promote(at, META_NAME).map_err(|e| e.text)?;
        if !self.boxes[at].mounted {
            self.kernels.open(at, META_NAME).map_err(|e| format!("mounting: {e:?}"))?;
            self.boxes[at].mounted = true;
        }
        let content = self.kernels.read(at, META_NAME).map_err(io)?;
        self.check_meta_read(at, content);
        match self.contents.get(&content) {
            Some(records) => Ok(records.clone()),
            None if found => Ok(Records::new()),
            None => Err("the meta resource is empty, though this cluster was founded before".to_owned()),
        }
    }

    fn unmount(&mut self, at: BoxId) {
        if std::mem::take(&mut self.boxes[at].mounted) {
            self.kernels.close(at, META_NAME);
        }
        // One that is not there, or not Primary, is Secondary already.
        drop(self.kernels.demote(at, META_NAME));
    }

    pub(super) fn store_close(&mut self, at: BoxId) {
        self.set_store(at, MetaStore::Closed);
        self.unmount(at);
    }

    pub(super) fn store_commit(&mut self, at: BoxId, seq: u64, txn: Txn) {
        let life = self.life(at);
        let Some(mind) = self.boxes[at].mind.as_mut() else { return };
        let MetaStore::Open { queue, writing, dead: false, .. } = &mut mind.store else {
            let result = Err("the store takes no more commits".to_owned());
            return self.after(1, Ev::Tell(at, life, Box::new(Input::Committed { seq, result })));
        };
        queue.push_back((seq, txn));
        if !std::mem::replace(writing, true) {
            let delay = self.rng.within(3, 30);
            self.after(delay, Ev::StoreWrite(at, life));
        }
    }

    /// All that waits becomes one write to the device; each commit of it is answered.
    pub(super) fn store_write(&mut self, at: BoxId) {
        let life = self.life(at);
        let Some(mind) = self.boxes[at].mind.as_mut() else { return };
        let MetaStore::Open { records, queue, batch, writing, dead: false } = &mut mind.store else { return };
        if batch.is_empty() {
            std::mem::swap(batch, queue);
        }
        let mut after = records.clone();
        batch.iter().for_each(|(_, txn)| apply(&mut after, false, txn));
        let result = match self.kernels.write(at, META_NAME) {
            Ok(content) => {
                self.check.durable(at, life, records, &after);
                self.check.head = content;
                *records = after.clone();
                self.contents.insert(content, after);
                Ok(())
            }
            Err(IoError::Frozen) => {
                if let Some(begun) = self.kernels.used(at, META_NAME).and_then(|used| used.unanswered) {
                    self.contents.insert(begun, after);
                }
                return self.after(HANGS_MS, Ev::StoreWrite(at, life));
            }
            Err(IoError::Io | IoError::Gone) => Err("Input/output error".to_owned()),
        };
        let done = std::mem::take(batch);
        *writing = result.is_ok() && !queue.is_empty();
        let again = *writing;
        if let (Err(_), MetaStore::Open { dead, .. }) = (&result, &mut mind.store) {
            *dead = true;
        }
        if again {
            let delay = self.rng.within(3, 30);
            self.after(delay, Ev::StoreWrite(at, life));
        }
        let mut delay = 1;
        for (seq, _) in done {
            delay += self.rng.below(3);
            let input = Input::Committed { seq, result: result.clone() };
            self.after(delay, Ev::Tell(at, life, Box::new(input)));
        }
    }

    /// The power goes while a batch is on its way: some replicas have it, or none, and nobody was told.
    pub(super) fn tear_store(&mut self, at: BoxId) {
        let Some(mind) = self.boxes[at].mind.as_mut() else { return };
        let MetaStore::Open { records, queue, batch, writing: true, dead: false } = &mind.store else {
            return;
        };
        let mut after = records.clone();
        batch.iter().chain(queue).for_each(|(_, txn)| apply(&mut after, false, txn));
        let reached: Vec<bool> = (0..self.boxes.len()).map(|_| self.rng.percent(50)).collect();
        let torn = self.kernels.write_torn(at, META_NAME, &|to| reached.get(to).copied().unwrap_or(false));
        if let Some(content) = torn {
            self.contents.insert(content, after);
        }
    }
}
