//! The tree as pure functions: what is listed and printed, what each write asks for, what is refused and how.
#![allow(clippy::unwrap_used)]

mod tree_world;

use std::{collections::BTreeSet, env, fs, path::Path};

use holdfast::{
    core::{
        intent::{Place, Volume},
        refusal::Errno,
        size::Size,
        view::View,
        wish::{Or, VolumeChange, Wish},
    },
    tree::{self, Kind},
};
use tree_world::{self as world, walk};

fn text(view: &View, path: &str) -> String {
    String::from_utf8(tree::read(view, path).unwrap_or_else(|| panic!("no {path}"))).unwrap()
}

/// The whole tree with all texts, but the README, whose text is docs/tree.md's.
fn dump(view: &View) -> String {
    let mut lines = String::new();
    for (path, kind) in walk(view) {
        match kind {
            Kind::Dir => lines += &format!("{path}/\n"),
            Kind::Link => lines += &format!("{path} -> {}\n", tree::target(view, &path).unwrap()),
            Kind::Fact | Kind::Wish | Kind::Secret if path == "README" => lines += "README\n",
            Kind::Fact | Kind::Wish | Kind::Secret => {
                let text = text(view, &path);
                let mark = if kind != Kind::Fact { " (w)" } else { "" };
                match text.lines().count() {
                    0 => lines += &format!("{path}{mark}: empty\n"),
                    1 => lines += &format!("{path}{mark}: {text}"),
                    _ => {
                        lines += &format!("{path}{mark}:\n");
                        for line in text.lines() {
                            lines += format!("    {line}").trim_end();
                            lines += "\n";
                        }
                    }
                }
            }
        }
    }
    lines
}

/// Compares with the file, or writes it again where HOLDFAST_RENEW is set.
fn golden(file: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("HOLDFAST_RENEW").is_some() {
        fs::write(&file, text).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let differs = kept.lines().zip(text.lines()).position(|(a, b)| a != b);
    if kept != text {
        let line = differs.unwrap_or_else(|| kept.lines().count().min(text.lines().count()));
        panic!(
            "{} differs from what the table makes, first in line {}:\n kept: {:?}\n made: {:?}\n\
             If the change is meant: HOLDFAST_RENEW=1 cargo test --test tree_pure, and look at the diff.",
            file.display(),
            line + 1,
            kept.lines().nth(line).unwrap_or("(ends)"),
            text.lines().nth(line).unwrap_or("(ends)"),
        );
    }
}

#[test]
fn the_tree_of_three_boxes_with_drbd_9_reads_as_kept() {
    golden("tests/tree_golden_9.txt", &dump(&world::world()));
}

#[test]
fn the_tree_of_three_boxes_with_drbd_8_4_reads_as_kept() {
    golden("tests/tree_golden_84.txt", &dump(&world::world_84()));
}

#[test]
fn the_manual_is_what_the_table_makes() {
    golden("docs/tree.md", &tree::manual());
}

#[test]
fn a_box_without_a_cluster_has_a_tree_too() {
    let view = View::default();
    assert!(text(&view, "health").contains("holdfast init"));
    assert_eq!(text(&view, "name"), "-\n");
    assert!(walk(&view).len() > 10);
}

#[test]
fn everything_listed_is_there_and_ascii_and_whole_lines() {
    for view in [world::world(), world::world_84()] {
        for (path, kind) in walk(&view) {
            let node = tree::resolve(&view, &path).unwrap_or_else(|| panic!("{path} is listed only"));
            assert_eq!(node.kind, kind, "{path}");
            if let Some(text) = tree::read(&view, &path) {
                assert!(text.iter().all(|b| (b' '..=b'~').contains(b) || *b == b'\n'), "{path}");
                assert!(text.is_empty() || text.ends_with(b"\n"), "{path}");
                let table = ["README", "status", "health", "errors", "plan", "counters"];
                let lines = text.iter().filter(|b| **b == b'\n').count();
                assert!(
                    lines <= 1 || table.iter().any(|name| path.ends_with(name)),
                    "{path} has {lines} lines"
                );
            }
        }
    }
}

#[test]
fn a_directory_has_the_daemons_names_or_users_names_never_both() {
    let manual = tree::manual();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let paths: Vec<&str> = rows.collect();
    let slotted: BTreeSet<&str> = paths
        .iter()
        .filter(|path| path.ends_with('*'))
        .filter_map(|path| Some(path.rsplit_once('/')?.0))
        .collect();
    assert!(slotted.len() >= 8, "{slotted:?}");
    for parent in slotted {
        let inside = paths.iter().filter(|path| path.rsplit_once('/').is_some_and(|(p, _)| p == parent));
        assert_eq!(inside.count(), 1, "{parent}");
    }
}

/// What a change would leave different in a volume; unset keys leave it as it is.
fn changed(volume: &Volume, change: &VolumeChange) -> bool {
    let or = |value: &Or<u8>| if let Or::Set(n) = value { Some(*n) } else { None };
    change.size.is_some_and(|size| volume.size != Some(size))
        || change.replicas.as_ref().is_some_and(|r| volume.replicas != or(r))
        || change.place.as_ref().is_some_and(|p| &volume.place != p)
        || change.group.as_ref().is_some_and(|g| &volume.group != g)
        || change.pool.as_ref().is_some_and(|p| match p {
            Or::Default => volume.pool.is_some(),
            Or::Set(pool) => volume.pool.as_ref() != Some(pool),
        })
}

fn changes_nothing(view: &View, wish: &Wish) -> bool {
    let intent = &view.intent;
    match wish {
        Wish::ChangeVolume(name, change) => !changed(&intent.volumes[name], change),
        Wish::SetRole(name, on, primary) => (intent.volumes[name].primary.as_ref() == Some(on)) == *primary,
        Wish::SetDiskPool(on, disk, pool) => {
            let ident = &view.reports[on].disks.known().unwrap()[disk].ident;
            let now = intent.disks.values().find(|wish| &wish.on == on && &wish.ident == ident);
            now.map(|wish| &wish.pool) == pool.as_ref()
        }
        Wish::SetGroupReplicas(name, replicas) => intent.groups[name].replicas == *replicas,
        Wish::SetGroupPool(name, pool) => &intent.groups[name].pool == pool,
        Wish::SetToken(secret) => secret.as_ref() == Some(&intent.cluster.as_ref().unwrap().join_secret),
        Wish::SetClusterName(name) => &intent.cluster.as_ref().unwrap().name == name,
        Wish::MakeVolume(_)
        | Wish::RemoveVolume(_)
        | Wish::MakePool(_)
        | Wish::RemovePool(_)
        | Wish::MakeGroup(_)
        | Wish::RemoveGroup(_)
        | Wish::Join(_) => false,
    }
}

#[test]
fn what_is_read_may_be_written_back_and_changes_nothing_and_facts_refuse() {
    for view in [world::world(), world::world_84()] {
        let mut written = 0;
        for (path, kind) in walk(&view) {
            let Some(text) = tree::read(&view, &path) else { continue };
            match tree::write(&view, &path, &text, 0) {
                Ok(wish) => {
                    assert!(matches!(kind, Kind::Wish | Kind::Secret), "{path}");
                    assert!(changes_nothing(&view, &wish), "{path}: {wish:?}");
                    written += 1;
                }
                Err(refusal) if kind == Kind::Fact => {
                    assert_eq!(refusal.errno, Errno::NotPermitted, "{path}")
                }
                Err(refusal) => {
                    assert!(path.ends_with("/role"), "{path}: {refusal}");
                    assert_eq!(refusal.errno, Errno::NotSupported, "{path}");
                }
            }
        }
        assert!(written > 20);
    }
}

fn change(write: impl FnOnce(&mut VolumeChange)) -> VolumeChange {
    let mut change = VolumeChange::default();
    write(&mut change);
    change
}

fn wish(view: &View, path: &str, value: &str) -> Wish {
    tree::write(view, path, value.as_bytes(), 0).unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
}

#[test]
fn writes_become_wishes() {
    let view = world::world();
    let db = view.intent.volumes.keys().next().unwrap().clone();
    let of = |write: fn(&mut VolumeChange)| Wish::ChangeVolume(db.clone(), change(write));
    let cases = [
        ("size", " 40G\n", of(|c| c.size = Some(Size(40 << 30)))),
        ("replicas", "3", of(|c| c.replicas = Some(Or::Set(3)))),
        ("replicas", "default\n", of(|c| c.replicas = Some(Or::Default))),
        (
            "place",
            "box2  box1",
            of(|c| c.place = Some(Place::Boxes([world::on("box1"), world::on("box2")].into()))),
        ),
        ("place", "auto", of(|c| c.place = Some(Place::Auto))),
        ("pool", "ssd", of(|c| c.pool = Some(Or::Set(world::pool("ssd"))))),
        ("spec", "size=30G", of(|c| c.size = Some(Size(30 << 30)))),
        (
            "spec",
            "replicas=3  place=box1,box2\n",
            of(|c| {
                c.replicas = Some(Or::Set(3));
                c.place = Some(Place::Boxes([world::on("box1"), world::on("box2")].into()));
            }),
        ),
    ];
    for (file, value, wanted) in cases {
        assert_eq!(wish(&view, &format!("volumes/db/{file}"), value), wanted, "{file} {value}");
    }
    assert_eq!(wish(&view, "volumes/fresh/size", "none"), {
        Wish::ChangeVolume(view.intent.volumes["fresh"].name.clone(), VolumeChange::default())
    });
    assert_eq!(wish(&view, "name", "prod\n"), Wish::SetClusterName("prod".to_owned()));
    let vdc = view.reports["box1"].disks.known().unwrap().keys().nth(2).unwrap().clone();
    let set = |pool| Wish::SetDiskPool(world::on("box1"), vdc.clone(), pool);
    assert_eq!(wish(&view, "nodes/box1/disks/vdc/pool", "main"), set(Some(world::pool("main"))));
    assert_eq!(wish(&view, "nodes/box1/disks/vdc/pool", "none"), set(None));
    let view = world::world_84();
    let role = |name, primary| Wish::SetRole(db.clone(), world::on(name), primary);
    assert_eq!(wish(&view, "volumes/db/on/box1/role", "primary"), role("box1", true));
    assert_eq!(wish(&view, "volumes/db/on/box2/role", "secondary"), role("box2", false));
}

#[test]
fn mkdir_and_rmdir_become_wishes_where_they_are_verbs() {
    let view = world::world();
    let name = |name: &str| holdfast::core::names::VolumeName::new(name).unwrap();
    let group = holdfast::core::names::GroupName::new("fast").unwrap();
    assert_eq!(tree::mkdir(&view, "volumes/new"), Ok(Wish::MakeVolume(name("new"))));
    assert_eq!(tree::rmdir(&view, "volumes/db"), Ok(Wish::RemoveVolume(name("db"))));
    assert_eq!(tree::mkdir(&view, "pools/ssd"), Ok(Wish::MakePool(world::pool("ssd"))));
    assert_eq!(tree::rmdir(&view, "pools/main"), Ok(Wish::RemovePool(world::pool("main"))));
    assert_eq!(tree::mkdir(&view, "groups/fast"), Ok(Wish::MakeGroup(group)));
    assert!(matches!(tree::rmdir(&view, "groups/default"), Ok(Wish::RemoveGroup(_))));
}

/// The errno and a part of the sentence; every sentence quotes the input.
#[test]
fn refused_writes_say_what_was_written_why_and_what_to_try() {
    let view = world::world();
    let cases = [
        ("volumes/db/size", "twenty", Errno::Invalid, "write it like 20G"),
        ("volumes/db/size", "1.5G", Errno::Invalid, "next smaller unit"),
        ("volumes/db/size", "0", Errno::Invalid, "like 20G or 512M"),
        ("volumes/db/size", "none", Errno::Invalid, "rmdir it"),
        ("volumes/db/size", "20G 30G", Errno::Invalid, "not a size"),
        ("volumes/db/replicas", "0", Errno::Invalid, "at least one"),
        ("volumes/db/replicas", "two", Errno::Invalid, "write it like 2"),
        ("volumes/db/replicas", "-1", Errno::Invalid, "whole number"),
        ("volumes/db/replicas", "300", Errno::Invalid, "more than DRBD can"),
        ("volumes/db/place", "box1 box1", Errno::Invalid, "name each once"),
        ("volumes/db/place", "auto box1", Errno::Invalid, "one or the other"),
        ("volumes/db/place", "box/1", Errno::Invalid, "write auto, or boxes"),
        ("volumes/db/place", ",", Errno::Invalid, "names no box"),
        ("volumes/db/pool", "-x", Errno::Invalid, "not a pool name"),
        ("volumes/db/group", "a b", Errno::Invalid, "not a group name"),
        ("volumes/db/spec", "size", Errno::Invalid, "not like size=20G"),
        ("volumes/db/spec", "color=red", Errno::Invalid, "no key of spec"),
        ("volumes/db/spec", "size=40G size=41G", Errno::Invalid, "twice"),
        ("volumes/db/spec", "replicas=3 size=x", Errno::Invalid, "not a size"),
        ("volumes/db/spec", "size=none", Errno::Invalid, "no volume shrinks"),
        ("volumes/db/on/box1/role", "boss", Errno::Invalid, "primary or secondary"),
        ("volumes/db/on/box1/role", "primary", Errno::NotSupported, "opening the device"),
        ("groups/default/replicas", "default", Errno::Invalid, "write it like 2"),
        ("groups/default/pool", "a/b", Errno::Invalid, "not a pool name"),
        ("nodes/box1/disks/vdc/pool", "holdfast-x", Errno::Invalid, "take another"),
        ("name", "my cluster", Errno::Invalid, "not a cluster name"),
    ];
    for (path, value, errno, part) in cases {
        let refusal = tree::write(&view, path, value.as_bytes(), 0).expect_err(value);
        assert_eq!(refusal.errno, errno, "{path} {value}: {refusal}");
        assert!(refusal.text.contains(part), "{path} {value}: {refusal}");
        let word = value.split(['=', ' ']).next().unwrap();
        assert!(
            refusal.text.contains('"') && (refusal.text.contains(word) || value.contains("size=x")),
            "{refusal}"
        );
    }
}

#[test]
fn what_is_no_verb_is_refused_with_the_verb_to_use() {
    let view = world::world();
    let cases = [
        (tree::mkdir(&view, "volumes/db"), Errno::Exists, "another name"),
        (tree::mkdir(&view, "volumes/a b"), Errno::Invalid, "letters, digits"),
        (tree::mkdir(&view, "volumes/snapshot1"), Errno::Invalid, "LVM"),
        (tree::mkdir(&view, "volumes/db/on/box9"), Errno::NotSupported, "clients"),
        (tree::mkdir(&view, "volumes/none/on/box1"), Errno::NotPermitted, "mkdir and rmdir in"),
        (tree::mkdir(&view, "volumes/db/snapshots"), Errno::NotPermitted, "mkdir and rmdir in"),
        (tree::mkdir(&view, "nodes/box9"), Errno::NotPermitted, "holdfast join"),
        (tree::mkdir(&view, "nodes/box1/disks/x"), Errno::NotPermitted, "volumes, pools and groups"),
        (tree::mkdir(&view, "things"), Errno::NotPermitted, "volumes, pools and groups"),
        (tree::rmdir(&view, "volumes"), Errno::NotPermitted, "what mkdir made"),
        (tree::rmdir(&view, "volumes/db/on"), Errno::NotPermitted, "rmdir the volume itself"),
        (tree::rmdir(&view, "volumes/db/on/box1"), Errno::NotSupported, "into place"),
        (tree::rmdir(&view, "nodes/box1"), Errno::NotSupported, "not built yet"),
        (tree::rmdir(&view, "volumes/none"), Errno::NotFound, "there is no"),
        (tree::write(&view, "volumes/none/size", b"1G", 0), Errno::NotFound, "there is no"),
        (tree::write(&view, "volumes/db/state", b"ready", 0), Errno::NotPermitted, "is a fact"),
        (tree::write(&view, "volumes/db/size", b"1G", 4), Errno::Invalid, "offset 4"),
        (tree::write(&view, "volumes/db/size", &[b'1'; 4097], 0), Errno::Invalid, "4097 bytes"),
        (Err(tree::rename(&view, "volumes/db", "volumes/new")), Errno::NotPermitted, "not built yet"),
        (Err(tree::rename(&view, "volumes/db", "volumes/web")), Errno::Exists, "taken"),
        (
            Err(tree::rename(&view, "volumes/db/on/box1", "volumes/db/on/box9")),
            Errno::NotPermitted,
            "into place",
        ),
        (
            Err(tree::rename(&view, "volumes/db/size", "volumes/db/x")),
            Errno::NotPermitted,
            "cannot be renamed",
        ),
        (Err(tree::rename(&view, "pools/main", "pools/x")), Errno::NotPermitted, "cannot be renamed"),
    ];
    for (answer, errno, part) in cases {
        let refusal = answer.expect_err(part);
        assert_eq!(refusal.errno, errno, "{refusal}");
        assert!(refusal.text.contains(part) && refusal.text.contains('"'), "{refusal}");
    }
}

#[test]
fn paths_that_the_table_does_not_have_are_not_there() {
    let view = world::world();
    for path in
        ["x", "volumes/none", "volumes/none/size", "volumes/db/sizes", "volumes/db/size/x", "/volumes"]
    {
        assert_eq!(tree::resolve(&view, path), None, "{path}");
    }
    for path in
        ["volumes/", "volumes//size", "nodes/box9/state", "volumes/fresh/device", "volumes/db/on/box9/disk"]
    {
        assert_eq!(tree::resolve(&view, path), None, "{path}");
        assert_eq!(tree::read(&view, path), None, "{path}");
    }
}

#[test]
fn refusals_are_filed_under_the_object() {
    for (path, about) in [
        ("volumes/db/size", "volumes/db"),
        ("volumes/db/on/box1/role", "volumes/db"),
        ("volumes/db", "volumes/db"),
        ("volumes/a b", "volumes"),
        ("volumes/../x", "volumes/.."),
        ("nodes/box1/disks/vdb/pool", "nodes/box1/disks/vdb"),
        ("nodes/box1/state", "nodes/box1"),
        ("pools/main/kind", "pools/main"),
        ("groups/default/replicas", "groups/default"),
        ("name", "name"),
        ("", "/"),
        ("\u{e4}", "/"),
    ] {
        assert_eq!(tree::about(path), about, "{path}");
    }
}

/// Words that parsers trip over, put together in ways that nobody types.
const SCRAPS: [&[u8]; 16] = [
    b"size=",
    b"20G",
    b" ",
    b"=",
    b",",
    b"box1",
    b"default",
    b"none",
    b"\n",
    b"\0",
    b"\xff\xfe",
    "\u{e4}".as_bytes(),
    b"99999999999999999999",
    b"E",
    b"-",
    b"/../",
];

#[test]
fn nothing_that_is_written_or_named_panics() {
    let view = world::world_84();
    let paths: Vec<String> = walk(&view).into_iter().map(|(path, _)| path).collect();
    let mut state = 1_u64;
    let mut next = |below: usize| {
        // Numerical Recipes' generator: the same scraps in every run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..40_000 {
        let path = &paths[next(paths.len())];
        let mut bytes = Vec::new();
        for _ in 0..next(6) {
            bytes.extend_from_slice(SCRAPS[next(SCRAPS.len())]);
        }
        if let Err(refusal) = tree::write(&view, path, &bytes, next(8) as u64 / 7) {
            assert!(refusal.text.contains('"'), "{path}: {refusal}");
        }
        let name = format!("{path}/{}", String::from_utf8_lossy(&bytes));
        for answer in
            [tree::mkdir(&view, &name), tree::rmdir(&view, &name), Err(tree::rename(&view, path, &name))]
        {
            if let Err(refusal) = answer {
                assert!(refusal.text.contains('"') && refusal.text.len() < 2_000, "{name}: {refusal}");
            }
        }
        assert!(tree::about(&name).is_ascii());
    }
}
