//! One job a lane at a time, looked at again before the next, and not again and again when it changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    node::Source,
    step::{Job, Step, StepClass},
};

/// The first pause before the same steps are taken again; it doubles.
const PAUSE_FIRST_MS: u64 = 500;
/// How long DRBD's first event after a job is waited for.
const DRBD_WITHIN_MS: u64 = 300;
/// The longest pause.
const PAUSE_MAX_MS: u64 = 30_000;

#[derive(Debug, Default)]
struct Lane {
    running: bool,
    /// Facts that have to be looked at again before the next plan counts.
    awaits: BTreeSet<Source>,
    /// The steps taken last, and how often in a row.
    last: Vec<Step>,
    repeats: u32,
    not_before_ms: u64,
    /// DRBD's events of what was done come by themselves: until one came, or this, its facts are old.
    drbd_until_ms: u64,
    wedged: bool,
}

/// All lanes of a box.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<String, Lane>,
}

impl Lanes {
    /// Whether the job may run now; if so it counts as running.
    pub fn start(&mut self, job: &Job, now_ms: u64) -> bool {
        let lane = self.lanes.entry(job.lane.clone()).or_default();
        if lane.running || lane.wedged || !lane.awaits.is_empty() || now_ms < lane.drbd_until_ms {
            return false;
        }
        if lane.last == job.steps {
            if now_ms < lane.not_before_ms {
                return false;
            }
            lane.repeats = lane.repeats.saturating_add(1);
        } else {
            lane.repeats = 0;
            lane.last.clone_from(&job.steps);
        }
        lane.running = true;
        true
    }

    /// A job ended. What has to be looked at again now.
    pub fn done(
        &mut self,
        name: &str,
        steps: &[Step],
        failed: Option<StepClass>,
        now_ms: u64,
    ) -> BTreeSet<Source> {
        let Some(lane) = self.lanes.get_mut(name) else { return BTreeSet::new() };
        lane.running = false;
        lane.wedged = failed == Some(StepClass::Wedged);
        lane.awaits = steps.iter().flat_map(touched).copied().collect();
        let pause = PAUSE_FIRST_MS.saturating_mul(1 << lane.repeats.min(10)).min(PAUSE_MAX_MS);
        lane.not_before_ms = now_ms + pause;
        if steps.iter().any(|step| touched(step).is_empty()) {
            lane.drbd_until_ms = now_ms + DRBD_WITHIN_MS;
        }
        lane.awaits.clone()
    }

    /// Facts came in.
    pub fn observed(&mut self, source: Source) {
        for lane in self.lanes.values_mut() {
            lane.awaits.remove(&source);
        }
    }

    /// An event of DRBD came in.
    pub fn observed_drbd(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.drbd_until_ms = 0);
    }

    /// Forgets lanes that have nothing to do any more.
    pub fn retain(&mut self, jobs: &[Job], now_ms: u64) {
        let busy: BTreeSet<&str> = jobs.iter().map(|j| j.lane.as_str()).collect();
        self.lanes.retain(|name, lane| {
            busy.contains(name.as_str())
                || lane.running
                || lane.wedged
                || !lane.awaits.is_empty()
                || now_ms < lane.not_before_ms
        });
    }

    /// Nothing is planned, runs or is awaited in this lane.
    pub fn is_quiet(&self, name: &str) -> bool {
        !self.lanes.contains_key(name)
    }

    /// Nothing runs in this lane, and all that ran has been looked at.
    pub fn is_settled(&self, name: &str, now_ms: u64) -> bool {
        let settled = |l: &Lane| !l.running && !l.wedged && l.awaits.is_empty() && now_ms >= l.drbd_until_ms;
        self.lanes.get(name).is_none_or(settled)
    }

    /// The next time at which a paused lane may go on.
    pub fn next_wake_ms(&self) -> Option<u64> {
        let paused = self.lanes.values().filter(|l| !l.running && !l.wedged && l.awaits.is_empty());
        paused.map(|l| l.not_before_ms.max(l.drbd_until_ms)).min()
    }

    /// How many jobs run.
    pub fn running(&self) -> usize {
        self.lanes.values().filter(|l| l.running).count()
    }
}

/// What a step changes, as far as it has to be looked at: DRBD tells by itself.
fn touched(step: &Step) -> &'static [Source] {
    match step {
        Step::ClaimDisk { .. } => &[Source::Vgs, Source::Disks],
        Step::CreateLv { .. } | Step::CreateMd { .. } | Step::GrowLv { .. } | Step::RemoveLv { .. } => {
            &[Source::Vgs]
        }
        Step::WriteConf { .. } | Step::RemoveConf { .. } => &[Source::Conf],
        Step::Resize { .. } => &[Source::Counters],
        Step::Adjust { .. }
        | Step::Seed { .. }
        | Step::Promote { .. }
        | Step::Demote { .. }
        | Step::Down { .. } => &[],
    }
}
