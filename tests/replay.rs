//! `holdfast replay`, as a person runs it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Command, Output},
};

fn replay(file: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_holdfast")).args(["replay", file]).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn file(name: &str, text: &str) -> String {
    let at = std::env::temp_dir().join(format!("holdfast-replay-{}-{name}", std::process::id()));
    fs::write(&at, text).unwrap();
    at.to_str().unwrap().to_owned()
}

#[test]
fn a_script_is_walked_through_and_its_walk_is_a_script_again() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds/a-box-is-killed-while-it-builds.txt");
    let (code, first, err) = replay(script);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{first}");
    assert!(first.starts_with("# Not a failure"), "{first}");
    let line = |wanted: &str| first.lines().any(|line| line == wanted);
    assert!(line("> write volumes/db/spec size=64M place=box2,box3") && line("> power-off box3"), "{first}");
    assert!(first.contains("  step 1: box1 "), "{first}");
    assert!(first.lines().any(|l| l.starts_with("  at ") && l.ends_with(" s")), "{first}");
    assert_eq!(first.lines().last(), Some("# no invariant is broken"));

    let again = file("walk", &first);
    let (code, second, err) = replay(&again);
    fs::remove_file(again).unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(second, first);
}

#[test]
fn what_is_no_script_is_refused_in_one_sentence() {
    let missing = std::env::temp_dir().join("holdfast-replay-is-not-there");
    let cases = [
        (missing.to_str().unwrap().to_owned(), "No such file"),
        (file("empty", ""), "no line in it begins with \"> \""),
        (file("prose", "# a comment\nand a line\n"), "no line in it begins with \"> \""),
        (file("other", "> boxes 3 9\n> dance box1\n"), "line 2: \"dance box1\" is no command"),
    ];
    for (at, sentence) in cases {
        let (code, out, err) = replay(&at);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{at}");
        assert!(err.contains(sentence) && err.lines().count() == 1, "{err}");
        drop(fs::remove_file(at));
    }
}
