//! What is written into files: refused in a sentence, or taken, and then it reads back and may be written again.

use holdfast::{
    core::{
        admit::admit,
        intent::{Change, DiskWish, Intent, Record},
        place::World,
        refusal::Refusal,
        view::View,
        wish::{Or, Request, VolumeChange, Wish},
    },
    tree::{self, Kind},
};

use crate::{
    make,
    runs::{Run, is_sentence, runs},
    tree_world::{self as world, walk},
};

const SCRAPS: [&[u8]; 24] = [
    b"20G",
    b"21G",
    b"512M",
    b"none",
    b"default",
    b"auto",
    b"1",
    b"2",
    b"3",
    b"7",
    b"255",
    b"256",
    b"box1",
    b"box2 box3",
    b"box1,box2,box3",
    b"main",
    b"primary",
    b"secondary",
    b"size=30G",
    b"replicas=2",
    b"place=box1,box2",
    b"pool=main",
    b"group=default",
    b"new",
];

/// Something that somebody might write, more or less.
fn value(run: &mut Run, view: &View, path: &str) -> Vec<u8> {
    let random = &mut run.random;
    let mut value = match random.below(6) {
        0 => tree::read(view, path).unwrap_or_default(),
        1 => random.token().to_vec(),
        2 => {
            let byte = *random.pick(b"x9\"\\\0 ,=\xc3");
            vec![byte; random.below(4_200)]
        }
        _ => (0..=random.below(3)).flat_map(|_| [*random.pick(&SCRAPS), &b" "[..]].concat()).collect(),
    };
    if random.one_in(3) {
        value = random.damage(&value, &[SCRAPS.concat()]);
    }
    if random.one_in(2) {
        value.push(b'\n');
    }
    value
}

pub fn check_refusal(refusal: &Refusal) {
    assert!(is_sentence(&refusal.text), "{} {:?}", refusal.text.len(), refusal.text);
    assert!(refusal.errno.name().starts_with('E'));
}

fn change_volume(intent: &mut Intent, name: &str, change: &VolumeChange) {
    let volume = intent.volumes.get_mut(name).unwrap();
    let VolumeChange { size, replicas, place, pool, group } = change.clone();
    let or = |or| if let Or::Set(set) = or { Some(set) } else { None };
    volume.size = size.or(volume.size);
    volume.place = place.unwrap_or(volume.place.clone());
    volume.group = group.unwrap_or(volume.group.clone());
    volume.replicas = replicas.map_or(volume.replicas, |replicas| match replicas {
        Or::Set(n) => Some(n),
        Or::Default => None,
    });
    volume.pool = pool.map_or(volume.pool.clone(), or);
}

/// What would be wanted if all were granted.
fn granted(view: &View, wish: &Wish) -> Intent {
    let mut intent = Intent::clone(&view.intent);
    match wish {
        Wish::ChangeVolume(name, change) => change_volume(&mut intent, name.as_str(), change),
        Wish::SetRole(name, on, primary) => {
            let volume = intent.volumes.get_mut(name).unwrap();
            if *primary {
                volume.primary = Some(on.clone());
            } else if volume.primary.as_ref() == Some(on) {
                volume.primary = None;
            }
        }
        Wish::SetDiskPool(on, name, pool) => {
            let ident = view.reports[on].disks.known().unwrap()[name].ident.clone();
            intent.disks.retain(|_, wish| (&wish.on, &wish.ident) != (on, &ident));
            if let Some(pool) = pool.clone() {
                let record = Record::Disk(DiskWish { on: on.clone(), ident, name: name.clone(), pool });
                intent.apply(&[Change::Put(record)]);
            }
        }
        Wish::SetGroupReplicas(name, replicas) => intent.groups.get_mut(name).unwrap().replicas = *replicas,
        Wish::SetGroupPool(name, pool) => intent.groups.get_mut(name).unwrap().pool = pool.clone(),
        Wish::SetClusterName(name) => intent.cluster.as_mut().unwrap().name.clone_from(name),
        Wish::SetToken(Some(secret)) => intent.cluster.as_mut().unwrap().join_secret.clone_from(secret),
        Wish::SetToken(None) => {}
        other => panic!("no write asks for {other:?}"),
    }
    intent
}

/// With the same facts, another intent.
fn wanting(view: &View, intent: Intent) -> View {
    View { intent: intent.into(), ..view.clone() }
}

/// The file reads what was asked, and that may be written again and changes nothing.
fn reads_back(view: &View, path: &str, wish: &Wish) {
    let after = wanting(view, granted(view, wish));
    let text = tree::read(&after, path).unwrap();
    let again = tree::write(&after, path, &text, 0);
    let again = again.unwrap_or_else(|why| panic!("{path} reads {text:?}, which it refuses: {why}"));
    assert_eq!(granted(&after, &again), *after.intent, "{path}: {text:?} is {again:?}, not {wish:?}");
    if !path.ends_with("/spec") && wish != &Wish::SetToken(None) {
        assert_eq!(&again, wish, "{path} reads {text:?}");
    }
}

/// What the leader makes of it: a refusal in a sentence, or what is wanted then.
fn ask(view: &View, request: &Request) -> Option<Intent> {
    let me = world::on("box1");
    let world = World { intent: &view.intent, reports: &view.reports, alive: &view.alive };
    match admit(&world, &me, request) {
        Err(refusal) => {
            check_refusal(&refusal);
            None
        }
        Ok(txn) => {
            let mut intent = Intent::clone(&view.intent);
            intent.apply(&txn);
            Some(intent)
        }
    }
}

/// Everyone may read the errors.
fn tells_of_a_token(path: &str, bytes: &[u8], refusal: &Refusal) -> bool {
    let mut digits = bytes.windows(12).filter(|part| part.iter().all(u8::is_ascii_hexdigit));
    path == "token" && digits.any(|part| refusal.text.contains(std::str::from_utf8(part).unwrap()))
}

#[test]
fn a_value_is_refused_in_a_sentence_or_reads_back_and_changes_nothing_when_written_again() {
    let views = [world::world(), world::world_84()];
    let paths = views.each_ref().map(walk);
    let (mut taken, mut granted) = (0, 0);
    let mut all = 0;
    runs(24_000, |run| {
        let which = run.random.below(2);
        let (view, paths) = (&views[which], &paths[which]);
        let writable: Vec<_> =
            paths.iter().filter(|(_, kind)| matches!(kind, Kind::Wish | Kind::Secret)).collect();
        let any = run.random.pick(paths);
        let (path, kind) = if run.random.one_in(20) { any } else { run.random.pick(&writable) };
        let value = value(run, view, path);
        run.note(path);
        run.note(&value);
        all += 1;
        match tree::write(view, path, &value, 0) {
            Ok(wish) => {
                assert!(matches!(kind, Kind::Wish | Kind::Secret), "{path} is {kind:?}");
                reads_back(view, path, &wish);
                taken += 1;
                let request = Request { seed: "5".repeat(64), wish };
                if let Some(intent) = ask(view, &request) {
                    let after = wanting(view, intent);
                    assert_eq!(ask(&after, &request).as_ref(), Some(&*after.intent), "the second time");
                    granted += 1;
                }
            }
            Err(refusal) => {
                check_refusal(&refusal);
                assert!(!tells_of_a_token(path, &value, &refusal), "it tells of the token: {refusal}");
            }
        }
        let refused = tree::write(view, path, &value, 1 + run.random.number() / 2);
        let refusal = refused.expect_err("only what is written at the beginning is a value");
        check_refusal(&refusal);
        assert!(!tells_of_a_token(path, &value, &refusal), "it tells of the token: {refusal}");
    });
    assert!(
        all < 1_000 || (taken > all / 10 && granted > all / 50),
        "{all} values, {taken} taken, {granted} granted"
    );
}

#[test]
fn what_a_box_asks_of_the_leader_is_refused_in_a_sentence_or_changes_nothing_the_second_time() {
    let views = [world::world(), world::world_84()];
    runs(3_000, |run| {
        let which = run.random.below(2);
        let request = make::request(&mut run.random);
        run.note(serde_json::to_vec(&request).unwrap());
        let Some(intent) = ask(&views[which], &request) else { return };
        let after = wanting(&views[which], intent);
        crate::paths::check_all(&after);
        let again = ask(&after, &request);
        // The others of these are refused: the name is taken, or there is no such thing any more.
        assert!(
            again.is_some() || !matches!(request.wish, Wish::MakeVolume(_)),
            "a request that is granted once"
        );
        assert!(again.is_none_or(|intent| intent == *after.intent));
    });
}

/// Found by the test above: such a name was two lines in the file `name`.
#[test]
fn a_box_cannot_ask_for_a_cluster_name_that_nobody_could_write() {
    let view = world::world();
    for name in ["two\nlines", "", "a b", "../x"] {
        let request = Request { seed: "5".repeat(64), wish: Wish::SetClusterName(name.to_owned()) };
        assert_eq!(ask(&view, &request), None, "{name:?}");
    }
}

/// Found by the test above: what was too long, cut in lines or written at the end was quoted.
#[test]
fn a_refused_token_is_not_quoted() {
    let secret = "5".repeat(64);
    for value in
        [format!("{secret}\nx"), format!("{secret}\u{e4}"), secret.repeat(65), format!("hf1.{secret}")]
    {
        for offset in [0, 7] {
            let refusal = tree::write(&world::world(), "token", value.as_bytes(), offset).unwrap_err();
            assert!(!refusal.text.contains("5555"), "{refusal}");
            check_refusal(&refusal);
        }
    }
}
