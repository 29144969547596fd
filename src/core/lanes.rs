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
/// How long after its pause it is remembered that something was tried.
const REMEMBER_MS: u64 = 60_000;
/// Step lists that are remembered for a lane at most.
const TRIED_KEPT: usize = 8;

#[derive(Debug)]
struct Tried {
    steps: Vec<Step>,
    repeats: u32,
    not_before_ms: u64,
}

#[derive(Debug, Default)]
struct Lane {
    planned: bool,
    running: bool,
    /// What has to be looked at again before the next plan counts, by the number of the request.
    awaits: BTreeMap<Source, u64>,
    /// What runs or ran last.
    last: Vec<Step>,
    /// Step lists that were taken, and when each may be again: two that undo each other are both slowed down.
    tried: Vec<Tried>,
    /// DRBD's events of what was done come by themselves: until one came, or this, its facts are old.
    drbd_until_ms: u64,
    wedged: bool,
}

impl Lane {
    /// What ran last was tried once more: its pause doubles.
    fn remember(&mut self, now_ms: u64) {
        let at = self.tried.iter().position(|t| t.steps == self.last);
        let repeats = at.map_or(0, |at| self.tried.remove(at).repeats.saturating_add(1));
        let pause_ms = PAUSE_FIRST_MS.saturating_mul(1 << repeats.min(10)).min(PAUSE_MAX_MS);
        self.tried.push(Tried { steps: self.last.clone(), repeats, not_before_ms: now_ms + pause_ms });
        let surplus = self.tried.len().saturating_sub(TRIED_KEPT);
        self.tried.drain(..surplus);
    }

    /// Nothing runs, is awaited or is paused.
    fn is_idle(&self, now_ms: u64) -> bool {
        let paused = self.tried.iter().any(|t| now_ms < t.not_before_ms);
        !self.running && !self.wedged && self.awaits.is_empty() && !paused
    }
}

/// All lanes of a box.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<String, Lane>,
    /// Something happened to a lane since they were all looked at.
    changed: bool,
    /// When a lane changes by time alone.
    due_ms: Option<u64>,
}

impl Lanes {
    /// Whether the job may run now; if so it counts as running.
    pub fn start(&mut self, job: &Job, now_ms: u64) -> bool {
        let lane = self.lanes.entry(job.lane.clone()).or_default();
        if lane.running || lane.wedged || !lane.awaits.is_empty() || now_ms < lane.drbd_until_ms {
            return false;
        }
        if lane.tried.iter().any(|t| t.steps == job.steps && now_ms < t.not_before_ms) {
            return false;
        }
        lane.last.clone_from(&job.steps);
        (lane.planned, lane.running) = (true, true);
        true
    }

    /// A job ended. What has to be looked at again now, in the request with this number.
    pub fn done(
        &mut self,
        name: &str,
        steps: &[Step],
        failed: Option<StepClass>,
        now_ms: u64,
        request: u64,
    ) -> BTreeSet<Source> {
        self.changed = true;
        let Some(lane) = self.lanes.get_mut(name) else { return BTreeSet::new() };
        lane.running = false;
        lane.wedged = failed == Some(StepClass::Wedged);
        lane.awaits =
            steps.iter().flat_map(|step| touched(step).0).map(|source| (*source, request)).collect();
        lane.remember(now_ms);
        if steps.iter().any(|step| touched(step).1) {
            lane.drbd_until_ms = now_ms + DRBD_WITHIN_MS;
        }
        lane.awaits.keys().copied().collect()
    }

    /// It was looked at, after all requests up to this number.
    pub fn looked(&mut self, source: Source, upto: u64) {
        for lane in self.lanes.values_mut() {
            if lane.awaits.get(&source).is_some_and(|request| *request <= upto) {
                lane.awaits.remove(&source);
                self.changed = true;
            }
        }
    }

    /// An event of DRBD came in.
    pub fn observed_drbd(&mut self) {
        for lane in self.lanes.values_mut() {
            self.changed |= std::mem::take(&mut lane.drbd_until_ms) > 0;
        }
    }

    /// Whether anything about them may be otherwise than when they were looked at.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.changed || self.due_ms.is_some_and(|at| now_ms >= at)
    }

    /// They were all looked at: until something happens to one, or a time comes, nothing is to be done.
    pub fn looked_at(&mut self, now_ms: u64) {
        self.changed = false;
        let of_tried = |t: &Tried| [t.not_before_ms, t.not_before_ms + REMEMBER_MS];
        let of_lane =
            |l: &Lane| l.tried.iter().flat_map(of_tried).chain([l.drbd_until_ms]).collect::<Vec<_>>();
        self.due_ms = self.lanes.values().flat_map(of_lane).filter(|at| *at > now_ms).min();
    }

    /// Forgets lanes that have nothing to do any more.
    pub fn retain<'a>(&mut self, jobs: impl Iterator<Item = &'a Job>, now_ms: u64) {
        let busy: BTreeSet<&str> = jobs.map(|j| j.lane.as_str()).collect();
        for (name, lane) in &mut self.lanes {
            lane.tried.retain(|t| now_ms < t.not_before_ms + REMEMBER_MS);
            lane.planned = busy.contains(name.as_str());
        }
        self.lanes.retain(|_, lane| lane.planned || !lane.is_idle(now_ms) || !lane.tried.is_empty());
    }

    /// The operator changed what is wanted in this lane: what was tried before says nothing any more.
    pub fn renew(&mut self, name: &str) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.tried.clear();
            self.changed = true;
        }
    }

    /// Nothing is planned, runs or is awaited in this lane.
    pub fn is_quiet(&self, name: &str, now_ms: u64) -> bool {
        self.lanes.get(name).is_none_or(|lane| !lane.planned && lane.is_idle(now_ms))
    }

    /// Nothing runs in this lane, and all that ran has been looked at.
    pub fn is_settled(&self, name: &str, now_ms: u64) -> bool {
        let settled = |l: &Lane| !l.running && !l.wedged && l.awaits.is_empty() && now_ms >= l.drbd_until_ms;
        self.lanes.get(name).is_none_or(settled)
    }

    /// The next time at which a paused lane may go on.
    pub fn next_wake_ms(&self, now_ms: u64) -> Option<u64> {
        let waiting =
            self.lanes.values().filter(|l| l.planned && !l.running && !l.wedged && l.awaits.is_empty());
        let times = waiting.flat_map(|l| l.tried.iter().map(|t| t.not_before_ms).chain([l.drbd_until_ms]));
        times.filter(|at| *at > now_ms).min()
    }

    /// How many jobs run.
    pub fn running(&self) -> usize {
        self.lanes.values().filter(|l| l.running).count()
    }
}

/// What a step changes: what has to be looked at, and whether an event of DRBD follows.
fn touched(step: &Step) -> (&'static [Source], bool) {
    match step {
        Step::ClaimDisk { .. } => (&[Source::Vgs, Source::Disks], false),
        Step::CreateLv { .. } | Step::CreateMd { .. } | Step::GrowLv { .. } | Step::RemoveLv { .. } => {
            (&[Source::Vgs], false)
        }
        Step::WriteConf { .. } | Step::RemoveConf { .. } => (&[Source::Conf], false),
        Step::Adjust { .. } => (&[Source::Conf], true),
        Step::Resize { .. } => (&[Source::Counters], false),
        Step::Seed { .. } | Step::Promote { .. } | Step::Demote { .. } | Step::Down { .. } => (&[], true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(step: &str) -> Job {
        let resource = "db".to_owned();
        let step = if step == "demote" { Step::Demote { resource } } else { Step::Promote { resource } };
        Job { lane: "volumes/db".to_owned(), steps: vec![step] }
    }

    #[test]
    fn two_jobs_that_undo_each_other_are_slowed_down_until_the_operator_says_something_new() {
        let mut lanes = Lanes::default();
        let runs = |lanes: &mut Lanes, from_ms: u64| {
            let mut runs = 0;
            for now_ms in (from_ms..from_ms + 60_000).step_by(100) {
                for job in [job("promote"), job("demote")] {
                    if lanes.start(&job, now_ms) {
                        runs += 1;
                        assert!(lanes.done(&job.lane, &job.steps, None, now_ms, 1).is_empty());
                    }
                    lanes.retain([job].iter(), now_ms);
                }
            }
            runs
        };
        let first = runs(&mut lanes, 0);
        assert!((8..=20).contains(&first), "{first} in the first minute");
        assert!(runs(&mut lanes, 60_000) <= 8, "then every half minute");
        lanes.renew("volumes/db");
        assert!(lanes.start(&job("promote"), 120_000));
    }

    #[test]
    fn what_is_tried_again_long_after_is_not_paused() {
        let mut lanes = Lanes::default();
        let job = job("promote");
        assert!(lanes.start(&job, 0));
        lanes.done(&job.lane, &job.steps, None, 0, 1);
        assert!(!lanes.start(&job, 400));
        lanes.retain([].iter(), 70_000);
        assert!(lanes.is_quiet(&job.lane, 70_000));
        assert!(lanes.lanes.is_empty(), "forgotten");
    }
}
