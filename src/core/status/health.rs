//! `health`: one problem per line, each with what to do. Nothing to say is health too.

use std::collections::BTreeSet;

use super::{State, leg::are_split, one_line, resource_state, trouble_line, volume_state};
use crate::core::{
    assign::{META_REPLICAS, replicas_max},
    claim::Standing,
    facts::{Known, Report},
    intent::{Assignment, DiskWish, PEER_PORT, Volume},
    names::BoxName,
    plan::lane,
    view::{SANDBOX, View},
};

/// All problems that this box knows of; none of them is "still syncing". Empty: `ok`.
pub fn health(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    if view.intent.cluster.is_none() {
        lines.push(
            "this box belongs to no cluster: start one with `holdfast init`, or join one with `holdfast join TOKEN`"
                .to_owned(),
        );
    } else {
        lines.extend(leader(view));
    }
    lines.extend(away(view));
    for (name, report) in view.all_current() {
        box_problems(name, report, &mut lines);
    }
    lines.extend(handed_over(view));
    lines.extend(generations(view));
    lines.extend(meta(view));
    lines.extend(view.intent.volumes.values().flat_map(|volume| replication(view, volume)));
    for (name, report) in view.all_current() {
        let failed = report.trouble.iter();
        lines.extend(failed.map(|(about, text)| format!("{name}: {about}: {}", trouble_line(text))));
    }
    lines.extend(view.notes.iter().filter(|note| *note != SANDBOX).map(|note| one_line(note)));
    lines
}

/// The problems of one volume.
pub fn volume_health(view: &View, volume: &Volume) -> Vec<String> {
    let about = lane(volume.name.as_str());
    let mut lines = replication(view, volume);
    let failed = view.troubles(&about);
    lines.extend(failed.map(|(name, text)| format!("{name}: {about}: {}", trouble_line(text))));
    lines
}

fn leader(view: &View) -> Option<String> {
    let founder = &view.intent.cluster.as_ref()?.leader;
    if view.leader.is_some() {
        return None;
    }
    Some(if view.me.as_ref() == Some(founder) {
        format!(
            "no leader: {founder}, this box, has not opened the cluster's state yet; writes are refused until it has; if \
             this stays, see `journalctl -u holdfast`"
        )
    } else {
        format!(
            "no leader: {founder} keeps the wishes and cannot be reached; writes are refused until it is back"
        )
    })
}

fn away(view: &View) -> impl Iterator<Item = String> {
    view.intent.members.values().filter(|member| !view.alive.contains(&member.name)).map(|member| {
        format!(
            "{}: away; see that it has power, that holdfast runs there and that {} answers on port {PEER_PORT}",
            member.name, member.address
        )
    })
}

fn box_problems(name: &BoxName, report: &Report, lines: &mut Vec<String>) {
    if report.drbd_version.is_none() {
        lines.push(format!("{name}: the DRBD module is not loaded: try `modprobe drbd` there"));
    } else if let Known::Unknown(why) = &report.drbd {
        lines.push(format!("{name}: its DRBD resources cannot be read: {}", one_line(why)));
    }
    if let Known::Unknown(why) = &report.disks {
        lines.push(format!("{name}: its disks cannot be read: {}", one_line(why)));
    }
    match &report.vgs {
        Known::Unknown(why) => {
            lines.push(format!("{name}: its volume groups cannot be read: {}", one_line(why)));
        }
        Known::Known(vgs) => lines.extend(vgs.iter().filter(|(_, vg)| vg.missing_pvs > 0).map(|(pool, vg)| {
            format!(
                "{name}: pool {pool} misses {} of its disks: put what was pulled out back in; copies on it are lost \
                 otherwise",
                vg.missing_pvs
            )
        })),
    }
}

/// 8.4 and 9 understand each other for two replicas at best, and promise different things.
fn generations(view: &View) -> Option<String> {
    let has = |nine: bool| {
        view.all_current()
            .filter(|(_, report)| report.drbd_version.is_some_and(|v| v.is_9() == nine))
            .map(|(name, _)| name.to_string())
            .collect::<Vec<_>>()
    };
    let (old, new) = (has(false), has(true));
    (!old.is_empty() && !new.is_empty()).then(|| {
        format!(
            "two generations of DRBD: 8.4 on {}, 9 on {}; install the same module on all boxes",
            old.join(" "),
            new.join(" ")
        )
    })
}

/// Disks that the operator gave to a pool and that are not in it. A disk that is away with its box is not named again.
fn handed_over(view: &View) -> Vec<String> {
    let line = |wish: &DiskWish| {
        let disks = view.current(&wish.on)?.disks.known()?;
        let place = format!("nodes/{}/disks/{}", wish.on, wish.name);
        match disks.values().find(|disk| disk.ident == wish.ident).map(|disk| &disk.standing) {
            Some(Standing::Claimed(pool)) if pool == &wish.pool => None,
            Some(standing) => {
                Some(format!("{place} was handed to pool {} and is not in it yet: {standing}", wish.pool))
            }
            None => {
                Some(format!("{place} ({}) of pool {} is missing: plug it in again", wish.ident, wish.pool))
            }
        }
    };
    view.intent.disks.values().filter_map(line).collect()
}

/// The resource that the wishes lie on: its copies are the cluster's memory.
fn meta(view: &View) -> Vec<String> {
    let Some(meta) = view.intent.meta() else { return Vec::new() };
    let mut lines = Vec::new();
    let diskful: BTreeSet<_> = meta.diskful().collect();
    let pools: BTreeSet<_> = meta.legs.values().filter_map(|leg| leg.pool.as_ref()).collect();
    let others = view.all_current().filter(|(name, report)| {
        let vgs = report.vgs.known();
        !diskful.contains(name) && vgs.is_some_and(|vgs| pools.iter().any(|pool| vgs.contains_key(*pool)))
    });
    let others: Vec<_> = others.map(|(name, _)| name.to_string()).collect();
    let drbd = view.all_current().find_map(|(_, report)| report.drbd_version);
    let wanted = drbd.map_or(1, |drbd| META_REPLICAS.min(replicas_max(drbd)));
    if diskful.len() < wanted && !others.is_empty() {
        lines.push(format!(
            "the cluster's own state has {} of {wanted} copies, and {} can hold another: it is made by itself, one after \
             the other; if this stays, see `errors`",
            diskful.len(),
            others.join(" ")
        ));
    }
    lines.extend(match resource_state(view, meta, &lane(&meta.resource)) {
        // Whether it can be used is said by the line about the leader.
        State::Degraded(why) => Some(format!(
            "the cluster's own state: degraded: {why}; it has fewer copies than asked: bring what is missing back"
        )),
        state @ (State::Unsized
        | State::Creating
        | State::Ready
        | State::Syncing(_)
        | State::Growing
        | State::Stopped(_)
        | State::Wedged(_)
        | State::Failed(_)) => sentence("the cluster's own state", &state),
    });
    lines.extend(split(view, meta, "the cluster's own state"));
    lines
}

fn replication(view: &View, volume: &Volume) -> Vec<String> {
    let about = lane(volume.name.as_str());
    let mut lines: Vec<_> = sentence(&about, &volume_state(view, volume)).into_iter().collect();
    if let Some(assignment) = view.intent.assignments.get(&volume.id) {
        lines.extend(split(view, assignment, &about));
    }
    lines
}

/// Failed and wedged ones are shown by the boxes' own lines; work that goes on is no problem.
fn sentence(about: &str, state: &State) -> Option<String> {
    match state {
        State::Unsized | State::Creating | State::Ready | State::Syncing(_) | State::Growing => None,
        State::Wedged(_) | State::Failed(_) => None,
        State::Degraded(why) => Some(format!(
            "{about}: degraded: {why}; it can be used, with fewer copies than asked: bring what is missing back"
        )),
        State::Stopped(why) => {
            Some(format!("{about}: stopped: {why}; it cannot be used before what is missing is back"))
        }
    }
}

/// Two copies that each have writes that the other lacks. It stays while DRBD connects and gives up again and again.
fn split(view: &View, assignment: &Assignment, about: &str) -> Option<String> {
    let diskful: Vec<_> = assignment.diskful().collect();
    let pairs =
        diskful.iter().enumerate().flat_map(|(at, one)| diskful[at + 1..].iter().map(|other| (*one, *other)));
    let (one, other) = pairs.into_iter().find(|(one, other)| are_split(view, assignment, one, other))?;
    Some(format!(
        "{about}: split brain: {one} and {other} each have writes that the other lacks; choose whose to drop, and there run \
         `drbdadm disconnect {res}; drbdadm secondary {res}; drbdadm connect --discard-my-data {res}`, on the other \
         `drbdadm connect {res}`; docs/operations.md has it step by step",
        res = assignment.resource
    ))
}
