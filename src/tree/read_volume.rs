//! What the files of a volume print.

use super::{
    path::Args,
    read::{or_ok, refusals},
};
use crate::core::{
    intent::{Assignment, Place, Volume},
    names::BoxName,
    plan::lane,
    status,
    view::View,
};

type Text = Option<String>;

fn or_default(value: Option<impl ToString>) -> String {
    value.map_or("default".to_owned(), |value| value.to_string())
}

fn size_text(volume: &Volume) -> String {
    volume.size.map_or("none".to_owned(), |size| size.to_string())
}

/// The boxes with `between` them, or `auto`.
fn place_text(volume: &Volume, between: &str) -> String {
    match &volume.place {
        Place::Auto => "auto".to_owned(),
        Place::Boxes(boxes) => boxes.iter().map(BoxName::as_str).collect::<Vec<_>>().join(between),
    }
}

pub fn size(view: &View, args: &Args<'_>) -> Text {
    Some(size_text(args.volume(view)?))
}

pub fn replicas(view: &View, args: &Args<'_>) -> Text {
    Some(or_default(args.volume(view)?.replicas))
}

pub fn place(view: &View, args: &Args<'_>) -> Text {
    Some(place_text(args.volume(view)?, " "))
}

pub fn pool(view: &View, args: &Args<'_>) -> Text {
    Some(or_default(args.volume(view)?.pool.as_ref()))
}

pub fn group(view: &View, args: &Args<'_>) -> Text {
    Some(args.volume(view)?.group.to_string())
}

pub fn spec(view: &View, args: &Args<'_>) -> Text {
    let volume = args.volume(view)?;
    Some(format!(
        "size={} replicas={} place={} pool={} group={}",
        size_text(volume),
        or_default(volume.replicas),
        place_text(volume, ","),
        or_default(volume.pool.as_ref()),
        volume.group
    ))
}

pub fn state(view: &View, args: &Args<'_>) -> Text {
    Some(status::volume_state(view, args.volume(view)?).to_string())
}

pub fn health(view: &View, args: &Args<'_>) -> Text {
    Some(or_ok(&status::volume_health(view, args.volume(view)?)))
}

pub fn error(view: &View, args: &Args<'_>) -> Text {
    let about = lane(args.volume(view)?.name.as_str());
    let settled = view.reports.values().filter_map(|report| report.settled.get(&about)).max();
    let refused = refusals(view).into_iter().rfind(|(line, _)| line.about == about);
    let refused = refused.filter(|(line, _)| settled.is_none_or(|settled| line.number > *settled));
    let mut parts: Vec<_> = refused.map(|(line, _)| status::one_line(&line.text)).into_iter().collect();
    parts.extend(view.troubles(&about).map(|(name, text)| format!("{name}: {}", status::trouble_line(text))));
    Some(parts.join("; "))
}

pub fn status(view: &View, args: &Args<'_>) -> Text {
    Some(status::volume_status(view, args.volume(view)?))
}

/// Whether that box's kernel has the device; as it said last.
fn has_device(view: &View, assignment: &Assignment, name: &BoxName) -> bool {
    let resource = view.reports.get(name).and_then(|report| report.resource(&assignment.resource));
    resource.is_some_and(|resource| resource.devices.get(&0).is_some_and(|d| d.minor == assignment.minor))
}

/// There once a box has built it; a box that restarts must not take it away again.
pub fn device(view: &View, args: &Args<'_>) -> Text {
    let assignment = args.assignment(view)?;
    let built = assignment.born || assignment.legs.keys().any(|name| has_device(view, assignment, name));
    built.then(|| view.device(assignment.minor))
}

pub fn id(view: &View, args: &Args<'_>) -> Text {
    Some(args.volume(view)?.id.to_string())
}

pub fn used_by(view: &View, args: &Args<'_>) -> Text {
    let primaries = args.assignment(view).map_or(Vec::new(), |a| status::primaries(view, a));
    let names: Vec<_> = primaries.into_iter().map(BoxName::as_str).collect();
    Some(if names.is_empty() { "-".to_owned() } else { names.join(" ") })
}

pub fn leg_kind(view: &View, args: &Args<'_>) -> Text {
    args.leg(view).map(|leg| status::kind_word(leg).to_owned())
}

/// Whether promotion is DRBD's own business on that box: as far as is known, not.
pub fn promotes_by_opening(view: &View, args: &Args<'_>) -> bool {
    args.report(view).and_then(|report| report.drbd_version).is_some_and(|version| version.is_9())
}

/// With DRBD 9 what is, with 8.4 what was asked.
pub fn leg_role(view: &View, args: &Args<'_>) -> Text {
    let (volume, assignment) = (args.volume(view)?, args.assignment(view)?);
    let primary = if promotes_by_opening(view, args) {
        status::primaries(view, assignment).iter().any(|name| name.as_str() == args.on)
    } else {
        volume.primary.as_ref().is_some_and(|name| name.as_str() == args.on)
    };
    Some(if primary { "primary" } else { "secondary" }.to_owned())
}

fn box_name<'v>(view: &'v View, args: &Args<'_>) -> Option<(&'v Assignment, &'v BoxName)> {
    let assignment = args.assignment(view)?;
    assignment.legs.get_key_value(args.on).map(|(name, _)| (assignment, name))
}

pub fn leg_disk(view: &View, args: &Args<'_>) -> Text {
    box_name(view, args).map(|(assignment, name)| status::disk_word(view, assignment, name).to_owned())
}

pub fn leg_sync(view: &View, args: &Args<'_>) -> Text {
    box_name(view, args).map(|(assignment, name)| status::sync_word(view, assignment, name))
}

pub fn leg_links(view: &View, args: &Args<'_>) -> Text {
    box_name(view, args).map(|(assignment, name)| status::links_words(view, assignment, name))
}

pub fn leg_device(view: &View, args: &Args<'_>) -> Text {
    let (assignment, name) = box_name(view, args)?;
    has_device(view, assignment, name).then(|| view.device(assignment.minor))
}
