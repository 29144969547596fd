//! Paths: what is listed is there, what is there is listed, and no name leads out of the tree.

use std::collections::BTreeSet;

use holdfast::{
    core::{facts::Known, intent::Intent, refusal::Errno, view::View, wish::Wish},
    tree::{self, Kind},
};

use crate::{
    make,
    random::Random,
    runs::runs,
    tree_world::{self as world, walk},
    values::check_refusal,
};

/// Files that may have more than one line.
const TABLES: [&str; 6] = ["README", "status", "health", "errors", "debug/plan", "debug/counters"];

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

/// Everything that is listed can be looked up and read, and reads as the rules say.
pub fn check_all(view: &View) {
    for (path, kind) in walk(view) {
        check(view, &path);
        assert_eq!(tree::resolve(view, &path).map(|node| node.kind), Some(kind), "{path}");
    }
}

/// Lookup, listing and reading agree on this path.
fn check(view: &View, path: &str) {
    let node = tree::resolve(view, path);
    if !path.is_empty() {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // With a slash at the beginning the parent is not /cluster but nothing.
        let entries = if path.starts_with('/') { None } else { tree::list(view, parent) };
        let entries = entries.unwrap_or_default();
        let listed: Vec<_> =
            entries.iter().filter(|entry| entry.name == name).map(|entry| entry.kind).collect();
        let wanted: Vec<_> = node.iter().map(|node| node.kind).collect();
        assert_eq!(listed, wanted, "{path:?}: listed and looked up");
    }
    let kind = node.map(|node| node.kind);
    let entries = tree::list(view, path);
    assert_eq!(entries.is_some(), kind == Some(Kind::Dir), "{path:?}");
    let names: Vec<_> = entries.into_iter().flatten().map(|entry| entry.name).collect();
    assert!(names.iter().all(|name| is_name(name)), "{path:?}: {names:?}");
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        names.len(),
        "{path:?} lists a name twice: {names:?}"
    );
    let is_file = matches!(kind, Some(Kind::Fact | Kind::Wish | Kind::Secret));
    let text = tree::read(view, path);
    assert_eq!(text.is_some(), is_file, "{path:?}");
    let text = text.unwrap_or_default();
    assert!(text.iter().all(|b| matches!(b, b' '..=b'~' | b'\n')), "{path:?} is not ASCII");
    assert!(text.is_empty() || text.ends_with(b"\n"), "{path:?}");
    let lines = text.iter().filter(|b| **b == b'\n').count();
    let is_table = TABLES.iter().any(|table| path.ends_with(table));
    assert!(lines <= 1 || is_table, "{path:?} has {lines} lines: {}", text.escape_ascii());
    let target = tree::target(view, path);
    assert_eq!(target.is_some(), kind == Some(Kind::Link), "{path:?}");
    if let Some(target) = target {
        let device = target.strip_prefix("/dev/drbd").map(|minor| minor.parse::<u32>().is_ok());
        let volume = target.strip_prefix("../../../volumes/").map(|name| {
            tree::resolve(view, &format!("volumes/{name}")).is_some_and(|node| node.kind == Kind::Dir)
        });
        assert_eq!(device.or(volume), Some(true), "{path:?} -> {target:?}");
    }
}

/// A path that might be one.
fn path(random: &mut Random, all: &[(String, Kind)]) -> String {
    let (mut path, _) = random.pick(all).clone();
    let (other, _) = random.pick(all);
    match random.below(6) {
        0 => path = make::text(random),
        1 => path = join(&path, &make::text(random)),
        2 => path = join(&path, other.rsplit('/').next().unwrap()),
        3 => {
            let words: Vec<&str> = path.split('/').collect();
            let at = random.below(words.len());
            let swapped = other.split('/').nth(at).unwrap_or("..");
            let words: Vec<_> =
                words.iter().enumerate().map(|(n, w)| if n == at { swapped } else { w }).collect();
            path = words.join("/");
        }
        4 => path = String::from_utf8_lossy(&random.damage(path.as_bytes(), &[])).into_owned(),
        _ => {}
    }
    path
}

fn check_verbs(view: &View, path: &str, other: &str) {
    let name = path.rsplit('/').next().unwrap();
    match tree::mkdir(view, path) {
        Ok(Wish::MakeVolume(made)) => {
            assert_eq!((made.as_str(), format!("volumes/{made}")), (name, path.to_owned()))
        }
        Ok(Wish::MakePool(made)) => {
            assert_eq!((made.as_str(), format!("pools/{made}")), (name, path.to_owned()))
        }
        Ok(Wish::MakeGroup(made)) => {
            assert_eq!((made.as_str(), format!("groups/{made}")), (name, path.to_owned()))
        }
        Ok(wish) => panic!("mkdir {path:?} asks for {wish:?}"),
        Err(refusal) => check_refusal(&refusal),
    }
    match tree::rmdir(view, path) {
        Ok(_) => assert!(tree::resolve(view, path).is_some(), "{path:?} is not there and can be removed"),
        Err(refusal) => check_refusal(&refusal),
    }
    let refusal = tree::rename(view, path, other);
    check_refusal(&refusal);
    // Others would make mv copy and delete (rule 11).
    assert!(matches!(refusal.errno, Errno::Busy | Errno::Exists | Errno::NotPermitted), "{refusal}");
    assert!(tree::about(path).is_ascii());
}

#[test]
fn lookup_listing_and_reading_agree_on_any_path() {
    let views = [world::world(), world::world_84(), View::default()];
    let all = views.each_ref().map(walk);
    runs(16_000, |run| {
        let which = run.random.below(views.len());
        let path_a = path(&mut run.random, &all[which]);
        let path_b = path(&mut run.random, &all[which]);
        run.note(&path_a);
        run.note(&path_b);
        check(&views[which], &path_a);
        check_verbs(&views[which], &path_a, &path_b);
    });
}

#[test]
fn whatever_boxes_said_everything_listed_is_there_and_reads_as_the_rules_say() {
    runs(500, |run| {
        let records: Vec<_> = (0..30).map(|_| make::record(&mut run.random)).collect();
        run.note(serde_json::to_vec(&records).unwrap());
        let mut view = View { me: Some(make::on(&mut run.random)), ..View::default() };
        view.intent = Intent::from_records(records).into();
        for _ in 0..3 {
            let (name, report) = (make::on(&mut run.random), make::report(&mut run.random));
            run.note(serde_json::to_vec(&report).unwrap());
            view.reports.insert(name.clone(), report.into());
            if !run.random.one_in(4) {
                view.alive.insert(name);
            }
        }
        check_all(&view);
    });
}

/// Found by the test above: the state of a volume had as many lines as what its box could not look at.
#[test]
fn a_reason_of_several_lines_is_one_line_of_a_state_and_of_health() {
    let mut view = world::world();
    for name in ["box1", "box2", "box3"] {
        world::change_report(&mut view, name, |report| {
            report.drbd = Known::Unknown("one\ntwo\n\nthree\n".to_owned())
        });
    }
    check_all(&view);
    let state = String::from_utf8(tree::read(&view, "volumes/db/state").unwrap()).unwrap();
    assert!(state.contains("one; two; three"), "{state}");
}
