//! What files outside of volumes/ print. `-` stands for what is not known.

use super::{docs, path::Args, text::utc};
use crate::core::{
    claim::Standing,
    facts::{ErrorLine, Vg},
    intent::PoolKind,
    names::BoxName,
    size::Size,
    status, token,
    view::{SANDBOX, View},
};

type Text = Option<String>;

fn or_dash(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { "-".to_owned() } else { status::one_line(text) }
}

pub fn version(_: &View, _: &Args<'_>) -> Text {
    Some(env!("CARGO_PKG_VERSION").to_owned())
}

pub fn name(view: &View, _: &Args<'_>) -> Text {
    Some(view.intent.cluster.as_ref().map_or("-".to_owned(), |cluster| cluster.name.clone()))
}

pub fn token(view: &View, _: &Args<'_>) -> Text {
    Some(token::of(view).unwrap_or_else(|| "-".to_owned()))
}

pub fn id(view: &View, _: &Args<'_>) -> Text {
    Some(view.intent.cluster.as_ref().map_or("-".to_owned(), |cluster| cluster.id.clone()))
}

pub fn leader(view: &View, _: &Args<'_>) -> Text {
    Some(view.leader.as_ref().map_or("-", BoxName::as_str).to_owned())
}

pub fn readme(view: &View, _: &Args<'_>) -> Text {
    let head = if view.is_sandbox() { format!("{SANDBOX}\n\n") } else { String::new() };
    Some(head + &docs::readme())
}

pub fn health(view: &View, _: &Args<'_>) -> Text {
    let text = or_ok(&status::health(view));
    Some(if view.is_sandbox() { format!("{text}\n{SANDBOX}") } else { text })
}

/// Problems as lines, or `ok`.
pub fn or_ok(problems: &[String]) -> String {
    if problems.is_empty() {
        return "ok".to_owned();
    }
    problems.iter().map(|problem| status::one_line(problem)).collect::<Vec<_>>().join("\n")
}

pub fn status(view: &View, _: &Args<'_>) -> Text {
    Some(status::status(view))
}

pub fn errors(view: &View, _: &Args<'_>) -> Text {
    let lines = refusals(view).into_iter();
    let lines = lines.map(|(line, on)| {
        format!("{} {on} {}: {}", utc(line.at_s), line.about, status::one_line(&line.text))
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// The refusals of all boxes with the box that refused, oldest first.
pub fn refusals(view: &View) -> Vec<(&ErrorLine, &BoxName)> {
    let mut all: Vec<_> = view
        .reports
        .iter()
        .flat_map(|(name, report)| report.errors.iter().map(move |line| (line, name)))
        .collect();
    // Stable: what two boxes refused at the same time is shown in the same order on every box.
    all.sort_by_key(|(line, _)| line.number);
    all
}

pub fn pool_kind(view: &View, args: &Args<'_>) -> Text {
    args.pool(view).map(|pool| match pool.kind {
        PoolKind::Lvm => "lvm".to_owned(),
    })
}

/// The pool's volume groups on all members, as last heard.
fn vgs<'v>(view: &'v View, args: &Args<'_>) -> impl Iterator<Item = &'v Vg> {
    let reports = view.intent.members.keys().filter_map(|name| view.reports.get(name));
    let pool = args.pool.to_owned();
    reports.filter_map(move |report| report.vgs.known()?.get(pool.as_str()))
}

fn sum(sizes: impl Iterator<Item = Size>) -> Text {
    Some(Size(sizes.fold(0, |sum, size| sum.saturating_add(size.bytes()))).to_string())
}

pub fn pool_size(view: &View, args: &Args<'_>) -> Text {
    sum(vgs(view, args).map(|vg| vg.size))
}

pub fn pool_free(view: &View, args: &Args<'_>) -> Text {
    sum(vgs(view, args).map(|vg| vg.free))
}

pub fn pool_promised(view: &View, args: &Args<'_>) -> Text {
    let assignments = view.intent.assignments.values();
    sum(assignments.flat_map(|assignment| {
        let legs = assignment.legs.values();
        let here = legs.filter(|leg| leg.pool.as_ref().is_some_and(|pool| pool.as_str() == args.pool));
        here.map(|_| assignment.size)
    }))
}

pub fn group_replicas(view: &View, args: &Args<'_>) -> Text {
    Some(args.group(view)?.replicas.to_string())
}

pub fn group_pool(view: &View, args: &Args<'_>) -> Text {
    Some(args.group(view)?.pool.to_string())
}

pub fn box_address(view: &View, args: &Args<'_>) -> Text {
    Some(args.member(view)?.address.to_string())
}

pub fn box_state(view: &View, args: &Args<'_>) -> Text {
    Some(if view.alive.contains(args.on) { "up" } else { "away" }.to_owned())
}

pub fn box_drbd(view: &View, args: &Args<'_>) -> Text {
    let Some(report) = args.report(view) else { return Some("-".to_owned()) };
    Some(report.drbd_version.map_or("none".to_owned(), |version| version.to_string()))
}

pub fn box_kernel(view: &View, args: &Args<'_>) -> Text {
    Some(or_dash(args.report(view).map_or("", |report| &report.kernel)))
}

pub fn box_version(view: &View, args: &Args<'_>) -> Text {
    Some(or_dash(args.report(view).map_or("", |report| &report.version)))
}

pub fn box_since(view: &View, args: &Args<'_>) -> Text {
    Some(args.report(view).map_or("-".to_owned(), |report| utc(report.since_s)))
}

pub fn vg_size(view: &View, args: &Args<'_>) -> Text {
    Some(args.vg(view)?.size.to_string())
}

pub fn vg_free(view: &View, args: &Args<'_>) -> Text {
    Some(args.vg(view)?.free.to_string())
}

pub fn disk_size(view: &View, args: &Args<'_>) -> Text {
    Some(args.disk(view)?.size.to_string())
}

pub fn disk_model(view: &View, args: &Args<'_>) -> Text {
    Some(or_dash(&args.disk(view)?.model))
}

pub fn disk_serial(view: &View, args: &Args<'_>) -> Text {
    Some(or_dash(&args.disk(view)?.serial))
}

pub fn disk_path(view: &View, args: &Args<'_>) -> Text {
    Some(or_dash(&args.disk(view)?.path))
}

pub fn disk_rotational(view: &View, args: &Args<'_>) -> Text {
    Some(if args.disk(view)?.rotational { "1" } else { "0" }.to_owned())
}

pub fn disk_state(view: &View, args: &Args<'_>) -> Text {
    let word = match args.disk(view)?.standing {
        Standing::Claimed(_) => "claimed",
        Standing::Blank => "blank",
        Standing::Foreign(_) => "foreign",
        Standing::InUse(_) => "in-use",
        Standing::Unfit(_) => "unfit",
    };
    Some(word.to_owned())
}

pub fn disk_reason(view: &View, args: &Args<'_>) -> Text {
    Some(match &args.disk(view)?.standing {
        Standing::Claimed(_) | Standing::Blank => "-".to_owned(),
        Standing::Foreign(what) | Standing::InUse(what) | Standing::Unfit(what) => or_dash(what),
    })
}

pub fn disk_pool(view: &View, args: &Args<'_>) -> Text {
    let ident = &args.disk(view)?.ident;
    let mut wishes = view.intent.disks.values();
    let wish = wishes.find(|wish| wish.on.as_str() == args.on && &wish.ident == ident);
    Some(wish.map_or("none".to_owned(), |wish| wish.pool.to_string()))
}

pub fn box_volume(_: &View, args: &Args<'_>) -> Text {
    Some(format!("../../../volumes/{}", args.volume))
}

pub fn revision(view: &View, _: &Args<'_>) -> Text {
    Some(view.intent.stamp.revision.to_string())
}

pub fn epoch(view: &View, _: &Args<'_>) -> Text {
    Some(view.intent.stamp.epoch.to_string())
}

pub fn plan(view: &View, _: &Args<'_>) -> Text {
    Some(view.plan.join("\n"))
}

pub fn counters(view: &View, _: &Args<'_>) -> Text {
    let lines = view.counters.iter().map(|(name, value)| format!("{name} {value}"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}
