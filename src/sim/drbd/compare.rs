//! The handshake's question: whose data is newer, told from generation ids alone.
//!
//! From drbd_uuid_compare and disk_states_to_strategy (drbd_receiver.c of 9.2.18), and drbd_uuid_compare of 8.4 as of
//! Linux 6.1. What must not go in: what becomes of the link and the disks (link.rs).

use super::disk::{JUST_CREATED, Md};
use crate::core::drbd::{DiskState, Role};

/// One end of a link.
pub(super) struct Side<'a> {
    pub(super) md: &'a Md,
    /// Under which id it knows the other end.
    pub(super) other: u8,
    pub(super) disk: DiskState,
    pub(super) role: Role,
    /// This link was up before in the kernel's life.
    pub(super) reconnect: bool,
    pub(super) crashed: bool,
    pub(super) lost_quorum: bool,
    pub(super) quorum: bool,
}

/// Who is the source; `full` without a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are equal.
    Same,
    /// The first one's data is newer.
    First {
        /// Everything is sent.
        full: bool,
    },
    /// The second one's is.
    Second {
        /// Everything is sent.
        full: bool,
    },
    /// Both have what the other has not.
    SplitBrain,
    /// Nothing in common.
    Unrelated,
}

fn by(first: bool, full: bool) -> Verdict {
    if first { Verdict::First { full } } else { Verdict::Second { full } }
}

/// Compares; `first` is to have the lower id where only that decides.
pub(super) fn compare(first: &Side<'_>, second: &Side<'_>, nine: bool, quorum: bool) -> Verdict {
    let (one, two) = (first.md.current, second.md.current);
    match (one == JUST_CREATED, two == JUST_CREATED) {
        (true, true) => return by_disks(first, second, Verdict::Same, true, nine),
        (true, false) => return by(false, true),
        (false, true) => return by(true, true),
        (false, false) => {}
    }
    if one == two {
        let (verdict, arbitrary) = if nine { equal_9(first, second) } else { equal_84(first, second) };
        return by_disks(first, second, verdict, arbitrary || verdict == Verdict::Same, nine);
    }
    let verdict = different(first, second);
    if verdict == Verdict::SplitBrain && nine && quorum && first.quorum != second.quorum {
        return by(first.quorum, false);
    }
    if nine { verdict } else { by_disks(first, second, verdict, true, nine) }
}

/// Rules lost-quorum, reconnected and both-off. True: the direction matters little, and disk states or a Primary decide.
fn equal_9(first: &Side<'_>, second: &Side<'_>) -> (Verdict, bool) {
    if first.reconnect && second.reconnect {
        return (Verdict::Same, false);
    }
    let source_is_first = match (first.lost_quorum, second.lost_quorum) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (true, true) => Some(true),
        (false, false) if second.crashed && first.reconnect => Some(true),
        (false, false) if first.crashed && second.reconnect => Some(false),
        (false, false) if first.reconnect || second.reconnect => None,
        (false, false) => match (first.crashed, second.crashed) {
            (false, false) => None,
            (true, _) => Some(true),
            (false, true) => Some(false),
        },
    };
    let Some(source_is_first) = source_is_first else { return (Verdict::Same, false) };
    match (first.role == Role::Primary, second.role == Role::Primary) {
        (true, false) => (by(true, false), true),
        (false, true) => (by(false, false), true),
        (true, true) => (Verdict::Same, true),
        (false, false) => (by(source_is_first, false), true),
    }
}

/// Rules 40 and 41.
fn equal_84(first: &Side<'_>, second: &Side<'_>) -> (Verdict, bool) {
    if !first.crashed && !second.crashed {
        return (Verdict::Same, false);
    }
    match (first.role == Role::Primary, second.role == Role::Primary) {
        (true, true) => (Verdict::SplitBrain, false),
        (true, false) => (by(true, false), false),
        (false, true) => (by(false, false), false),
        (false, false) => (by(first.crashed, false), false),
    }
}

/// Rules bitmap and history.
fn different(first: &Side<'_>, second: &Side<'_>) -> Verdict {
    let (one, two) = (first.md, second.md);
    if two.bitmap(second.other) == one.current || two.slots.iter().any(|s| s.bitmap == one.current) {
        return by(false, false);
    }
    if one.bitmap(first.other) == two.current || one.slots.iter().any(|s| s.bitmap == two.current) {
        return by(true, false);
    }
    if one.filling != two.filling {
        return by(two.filling, true);
    }
    let (of_first, of_second) = (two.history.contains(&one.current), one.history.contains(&two.current));
    if of_first != of_second {
        return by(of_second, true);
    }
    let (mine, theirs) = (one.bitmap(first.other), two.bitmap(second.other));
    if mine == theirs && mine != 0 || one.history.iter().any(|id| two.history.contains(id)) {
        return Verdict::SplitBrain;
    }
    // A generation that one still has in a bitmap is history at the other once it was resynced from a third.
    let known =
        |md: &Md, id: u64| id != 0 && (md.history.contains(&id) || md.slots.iter().any(|s| s.bitmap == id));
    let common =
        one.slots.iter().any(|s| known(two, s.bitmap)) || two.slots.iter().any(|s| known(one, s.bitmap));
    if common { Verdict::SplitBrain } else { Verdict::Unrelated }
}

/// A disk that is Inconsistent is never the source; where the ids leave it open, the better disk is.
fn by_disks(first: &Side<'_>, second: &Side<'_>, verdict: Verdict, open: bool, nine: bool) -> Verdict {
    let (one, two) = (first.disk, second.disk);
    let either_inconsistent = (one == DiskState::Inconsistent) != (two == DiskState::Inconsistent);
    let better = nine && open && verdict != Verdict::Same && one != two;
    let decides = either_inconsistent && (open || !nine) || better;
    if !decides {
        return verdict;
    }
    let full = match verdict {
        Verdict::First { full } | Verdict::Second { full } => full,
        Verdict::SplitBrain => true,
        Verdict::Unrelated => return verdict,
        Verdict::Same => false,
    };
    by(one > two, full)
}
