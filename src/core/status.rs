//! What a volume's facts come to in words: the closed list of states that `state`, `status` and `holdfast wait` use.
//!
//! Why here: the same words are needed by the tree, the command line and the log, and they have to mean the same. A state
//! is decided from the assignment and the reports of boxes that are alive; what is not known never says `ready`.
//! What must not go in: deciding what to do about a state (plan), or reading anything.

mod health;
mod leg;
mod table;

pub use health::{health, volume_health};
pub use leg::{Sight, disk_word, kind_word, links_words, primaries, sight, sync_done_hundredths};
pub use table::{status, sync_word, volume_status};

use std::fmt;

use super::{
    intent::{Assignment, Volume},
    plan::lane,
    view::View,
};
use leg::{LegState, frozen, leg_state, usable};

/// A text in `Report::trouble` that begins like this says that a command cannot be ended.
pub const WEDGED: &str = "wedged: ";

/// A volume's state: one word, then detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, but it has no size yet: nothing is built.
    Unsized,
    /// Being built: no copy has been UpToDate so far.
    Creating,
    /// Every copy is UpToDate and connected.
    Ready,
    /// Usable; a copy is being brought up to date: this much is done, in hundredths of a percent.
    Syncing(u16),
    /// Usable, but a copy is away or not UpToDate: which.
    Degraded(String),
    /// Usable; some copy is still smaller than asked.
    Growing,
    /// Not usable now: why.
    Stopped(String),
    /// A command for it cannot be ended: where, and which.
    Wedged(String),
    /// A box tried and failed: which, and the reason.
    Failed(String),
}

impl State {
    /// The state without detail in sentences, for columns.
    pub fn short(&self) -> String {
        match self {
            State::Unsized | State::Creating | State::Ready | State::Syncing(_) | State::Growing => {
                self.to_string()
            }
            State::Degraded(_) => "degraded".to_owned(),
            State::Stopped(_) => "stopped".to_owned(),
            State::Wedged(_) => "wedged".to_owned(),
            State::Failed(_) => "failed".to_owned(),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Unsized => f.write_str("unsized"),
            State::Creating => f.write_str("creating"),
            State::Ready => f.write_str("ready"),
            State::Syncing(done) => write!(f, "syncing {}%", done / 100),
            State::Degraded(why) => write!(f, "degraded ({})", one_line(why)),
            State::Growing => f.write_str("growing"),
            State::Stopped(why) => write!(f, "stopped ({})", one_line(why)),
            State::Wedged(what) => write!(f, "wedged ({})", one_line(what)),
            State::Failed(why) => write!(f, "failed: {}", one_line(why)),
        }
    }
}

/// The state of a volume, as far as this box knows.
pub fn volume_state(view: &View, volume: &Volume) -> State {
    match view.intent.assignments.get(&volume.id) {
        Some(assignment) => resource_state(view, assignment, &lane(volume.name.as_str())),
        None if volume.size.is_none() => State::Unsized,
        None => State::Creating,
    }
}

/// The same for any resource, the meta resource too; `about` is its key in the boxes' `trouble`.
pub fn resource_state(view: &View, assignment: &Assignment, about: &str) -> State {
    let troubles: Vec<_> = view.troubles(about).collect();
    if let Some((name, text)) = troubles.iter().find(|(_, text)| text.starts_with(WEDGED)) {
        return State::Wedged(format!("{name}: {}", &text[WEDGED.len()..]));
    }
    let failed = || troubles.first().map(|(name, text)| State::Failed(format!("{name}: {}", one_line(text))));
    if !assignment.born {
        return failed().unwrap_or(State::Creating);
    }
    if !assignment.legs.keys().any(|name| usable(view, assignment, name)) {
        return unusable(view, assignment);
    }
    let legs: Vec<LegState> = assignment.diskful().map(|name| leg_state(view, assignment, name)).collect();
    if legs.iter().any(|leg| matches!(leg, LegState::Bad(_))) {
        return State::Degraded(describe(&legs));
    }
    if legs.iter().any(|leg| matches!(leg, LegState::Small)) {
        return failed().unwrap_or(State::Growing);
    }
    let slowest = legs.iter().filter_map(|leg| match leg {
        LegState::Syncing(_, done) => Some(*done),
        LegState::Good | LegState::Small | LegState::Bad(_) | LegState::Unknown(_) => None,
    });
    if let Some(done) = slowest.min() {
        return State::Syncing(done);
    }
    if legs.iter().any(|leg| matches!(leg, LegState::Unknown(_))) {
        return State::Degraded(describe(&legs));
    }
    State::Ready
}

/// Nothing that is known can be used: because of what is known, or because too little is.
fn unusable(view: &View, assignment: &Assignment) -> State {
    let devices: Vec<_> = assignment
        .legs
        .keys()
        .filter_map(|name| match sight(view, assignment, name) {
            Sight::There(resource) => Some((name, resource)),
            Sight::Away | Sight::Unknown(_) | Sight::Absent => None,
        })
        .collect();
    if let Some((name, resource)) = devices.iter().find(|(_, resource)| frozen(resource)) {
        return State::Stopped(format!("I/O is frozen on {name}: {}", resource.suspended));
    }
    if devices.iter().any(|(_, r)| r.devices.get(&0).is_some_and(|d| d.quorum == Some(false))) {
        return State::Stopped("no quorum".to_owned());
    }
    let legs: Vec<LegState> = assignment.diskful().map(|name| leg_state(view, assignment, name)).collect();
    if legs.iter().any(|leg| matches!(leg, LegState::Unknown(_))) {
        return State::Degraded(describe(&legs));
    }
    State::Stopped(format!("no UpToDate copy in reach: {}", describe(&legs)))
}

fn describe(legs: &[LegState]) -> String {
    let words = legs.iter().filter_map(|leg| match leg {
        LegState::Bad(why) | LegState::Unknown(why) => Some(why.clone()),
        LegState::Syncing(name, done) => Some(format!("{name} syncing {}%", done / 100)),
        LegState::Good | LegState::Small => None,
    });
    words.collect::<Vec<_>>().join("; ")
}

/// What a box failed at, with what to do where the command's own words do not say it.
pub fn trouble_line(text: &str) -> String {
    let line = one_line(text);
    let open = line.contains("(-12)") || line.contains("held open");
    if open { format!("{line}; unmount it there, or end what else has it open") } else { line }
}

/// Commands' own words may have several lines; a value has one.
pub fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
