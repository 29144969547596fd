//! `status`: tables for people, columns aligned, ASCII. Scripts read the single files instead.

use std::collections::BTreeMap;

use super::{
    State, disk_word, health, kind_word, links_words, primaries, sync_done_hundredths, volume_health,
    volume_state,
};
use crate::core::{
    claim::Standing,
    facts::Report,
    intent::{Assignment, Volume},
    names::BoxName,
    size::Size,
    view::View,
};

/// Rows of cells to lines, each column as wide as its widest cell; nothing trails.
fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The whole cluster.
pub fn status(view: &View) -> String {
    let mut lines = Vec::new();
    match &view.intent.cluster {
        Some(cluster) => lines.push(format!("cluster {} ({})", cluster.name, cluster.id)),
        None => lines.push("this box belongs to no cluster".to_owned()),
    }
    lines.push(format!("leader  {}", view.leader.as_ref().map_or("none", BoxName::as_str)));
    lines.push(match health(view).len() {
        0 => "health  ok".to_owned(),
        1 => "health  1 problem, see `health`".to_owned(),
        n => format!("health  {n} problems, see `health`"),
    });
    if !view.intent.members.is_empty() {
        lines.push(String::new());
        lines.extend(columns(&boxes(view)));
    }
    if !view.intent.volumes.is_empty() {
        lines.push(String::new());
        lines.extend(columns(&volumes(view)));
        lines.push("* in use there   (box) only votes".to_owned());
    }
    let dying = dying(view);
    if !dying.is_empty() {
        lines.push(String::new());
        lines.extend(dying);
    }
    lines.join("\n")
}

fn boxes(view: &View) -> Vec<Vec<String>> {
    let mut rows = vec![header(&["BOX", "STATE", "DRBD", "DISKS", "FREE"])];
    for name in view.intent.members.keys() {
        let up = view.alive.contains(name);
        let state = match up {
            true if view.leader.as_ref() == Some(name) => "up, leads",
            true => "up",
            false => "away",
        };
        let report = view.reports.get(name).map(AsRef::as_ref);
        rows.push(vec![
            name.to_string(),
            state.to_owned(),
            report.map_or("-".to_owned(), |r| r.drbd_version.map_or("none".to_owned(), |v| v.to_string())),
            report.map_or("-".to_owned(), disks),
            report.map_or("-".to_owned(), free),
        ]);
    }
    rows
}

fn disks(report: &Report) -> String {
    let Some(disks) = report.disks.known() else { return "-".to_owned() };
    let claimed = disks.values().filter(|d| matches!(d.standing, Standing::Claimed(_))).count();
    let blank = disks.values().filter(|d| d.standing == Standing::Blank).count();
    format!("{claimed} in pools, {blank} blank, {} others", disks.len() - claimed - blank)
}

fn free(report: &Report) -> String {
    let Some(vgs) = report.vgs.known() else { return "-".to_owned() };
    let words = vgs.iter().map(|(pool, vg)| format!("{pool}: {} of {}", vg.free.about(), vg.size.about()));
    let words: Vec<_> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn volumes(view: &View) -> Vec<Vec<String>> {
    let mut rows = vec![header(&["VOLUME", "SIZE", "STATE", "WHERE"])];
    for volume in view.intent.volumes.values() {
        rows.push(vec![
            volume.name.to_string(),
            volume.size.map_or("-".to_owned(), Size::about),
            volume_state(view, volume).short(),
            view.intent.assignments.get(&volume.id).map_or("-".to_owned(), |a| place(view, a)),
        ]);
    }
    rows
}

/// `box1* box2 (box3)`
fn place(view: &View, assignment: &Assignment) -> String {
    let primaries = primaries(view, assignment);
    let word = |name: &BoxName| {
        let star = if primaries.contains(&name) { "*" } else { "" };
        match assignment.legs.get(name).and_then(|leg| leg.pool.as_ref()) {
            Some(_) => format!("{name}{star}"),
            None => format!("({name}{star})"),
        }
    };
    let voters = assignment.legs.iter().filter(|(_, leg)| leg.pool.is_none()).map(|(name, _)| name);
    assignment.diskful().chain(voters).map(word).collect::<Vec<_>>().join(" ")
}

/// Removed volumes of which some box still has a part: resource to boxes.
fn dying(view: &View) -> Vec<String> {
    let mut left: BTreeMap<&str, Vec<&BoxName>> = BTreeMap::new();
    for leave in view.intent.leaves.values() {
        if !view.intent.assignments.contains_key(&leave.id) {
            left.entry(leave.resource.as_str()).or_default().push(&leave.on);
        }
    }
    let words = |boxes: &[&BoxName]| {
        let word = |name: &&BoxName| match view.alive.contains(*name) {
            true => name.to_string(),
            false => format!("{name} (away)"),
        };
        boxes.iter().map(word).collect::<Vec<_>>().join(", ")
    };
    left.iter().map(|(name, boxes)| format!("removed: {name} is dying on {}", words(boxes))).collect()
}

/// One volume: its state and its legs.
pub fn volume_status(view: &View, volume: &Volume) -> String {
    let state = volume_state(view, volume);
    let mut lines = vec![
        format!("volume    {} ({})", volume.name, volume.id),
        format!("state     {state}"),
        format!("size      {}", volume.size.map_or("none yet".to_owned(), |size| size.to_string())),
        format!("replicas  {}", view.intent.replicas_of(volume)),
    ];
    let pool = view.intent.pool_of(volume);
    lines.push(format!("pool      {}", pool.map_or("none".to_owned(), |pool| pool.to_string())));
    if let Some(assignment) = view.intent.assignments.get(&volume.id) {
        lines.push(format!("device    {}", view.device(assignment.minor)));
        lines.push(String::new());
        lines.extend(columns(&legs(view, assignment)));
    } else if state == State::Unsized {
        lines.push(format!("next      echo 20G > volumes/{}/size", volume.name));
    }
    let problems = volume_health(view, volume);
    if !problems.is_empty() {
        lines.push(String::new());
        lines.extend(problems);
    }
    lines.join("\n")
}

fn legs(view: &View, assignment: &Assignment) -> Vec<Vec<String>> {
    let primaries = primaries(view, assignment);
    let mut rows = vec![header(&["BOX", "KIND", "ROLE", "DISK", "SYNC", "LINKS"])];
    for (name, leg) in &assignment.legs {
        rows.push(vec![
            name.to_string(),
            kind_word(leg).to_owned(),
            if primaries.contains(&name) { "primary" } else { "secondary" }.to_owned(),
            disk_word(view, assignment, name).to_owned(),
            sync_word(view, assignment, name),
            links_words(view, assignment, name),
        ]);
    }
    rows
}

/// `on/BOX/sync`: `43.10%`, or `-` where nothing is being brought up to date.
pub fn sync_word(view: &View, assignment: &Assignment, name: &BoxName) -> String {
    let done = sync_done_hundredths(view, assignment, name);
    done.map_or("-".to_owned(), |done| format!("{}.{:02}%", done / 100, done % 100))
}
