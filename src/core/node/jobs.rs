//! Jobs: what is planned is started where its lane is free, and looked at when it ended.

use super::{Node, Output, Source};
use crate::core::{
    place::World,
    plan::Here,
    status::WEDGED,
    step::{Step, StepClass, StepError},
};

/// Counters are looked at so often while they change.
const COUNT_EVERY_MS: u64 = 1_000;

impl Node {
    pub(super) fn start_jobs(&mut self) {
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

    pub(super) fn job_done(&mut self, lane: &str, steps: &[Step], result: Result<(), (Step, StepError)>) {
        let trouble = &mut self.change_mine().trouble;
        match &result {
            Ok(()) => drop(trouble.remove(lane)),
            Err((step, error)) => {
                let wedged = if error.class == StepClass::Wedged { WEDGED } else { "" };
                drop(trouble.insert(lane.to_owned(), format!("{wedged}{step}: {error}")));
            }
        }
        let class = result.as_ref().err().map(|(_, e)| e.class);
        let request = self.next_look();
        let sources = self.lanes.done(lane, steps, class, self.now_ms, request);
        self.out.extend(sources.into_iter().map(|source| Output::Observe(source, request)));
        self.facts_changed = true;
    }

    /// Counters are looked at only while something grows, or syncs on 8.4.
    pub(super) fn look_at_counters(&mut self) {
        if self.now_ms >= self.counted_ms + COUNT_EVERY_MS && self.planned.counts() {
            self.counted_ms = self.now_ms;
            let request = self.next_look();
            self.out.push(Output::Observe(Source::Counters, request));
        }
    }

    fn next_look(&mut self) -> u64 {
        self.newest_look += 1;
        self.newest_look
    }

    pub(super) fn here(&self) -> Here<'_> {
        Here {
            world: World { intent: &self.intent, reports: &self.reports, alive: &self.alive },
            me: &self.me,
            report: self.mine(),
            current: self.founding || self.leader.is_some(),
            lvs: None,
        }
    }
}
