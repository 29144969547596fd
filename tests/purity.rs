//! `core` and `tree` decide; they do nothing. This test reads their source and names what would let them.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What must not be named in `core` and `tree`, and why.
const FORBIDDEN: [(&str, &str); 18] = [
    ("std::fs", "files"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("std::time", "clocks: `now` is an argument"),
    ("std::env", "the environment"),
    ("std::io", "input and output"),
    ("TcpStream", "sockets"),
    ("UdpSocket", "sockets"),
    ("Instant::", "clocks: `now` is an argument"),
    ("SystemTime", "clocks: `now` is an argument"),
    ("getrandom", "random numbers: they are arguments"),
    ("edge::", "edges: core and tree are used by them"),
    ("crate::host", "the host: steps are data"),
    ("crate::daemon", "the loop"),
    ("crate::local", "the box's own store"),
    ("nix::", "system calls"),
    ("log::", "the log: return what is to be said"),
    ("HashMap", "an order that differs from run to run: use BTreeMap"),
];

/// Edges may use these of each other.
const SHARED_EDGES: [&str; 2] = ["run", "outcome"];
/// Besides, these edges (first) stand on these others: parts of the same neighbour, and the meta resource, which is DRBD
/// with a file system on it.
const EDGES_ON_EDGES: [(&str, &str); 6] = [
    ("drbd", "drbd_events"),
    ("lvm", "lvm_report"),
    ("lvm", "zero"),
    ("meta", "blkid"),
    ("meta", "drbd"),
    ("udev", "blkid"),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file without comments; tests at its end may do what they like.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let body = text.split("#[cfg(test)]").next().unwrap();
    body.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap().to_owned()))
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

#[test]
fn core_and_tree_do_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<_> = ["core", "tree"].iter().flat_map(|dir| sources(&root.join(dir))).collect();
    assert!(files.len() > 15, "the sources are where this test looks");
    let mut found = Vec::new();
    for path in files {
        for (line, text) in code(&path) {
            for (word, why) in FORBIDDEN {
                if text.contains(word) {
                    found.push(format!("{}:{line}: {word}: core and tree have no {why}", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn edges_do_not_know_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge");
    let files = sources(&root);
    let edge_of = |path: &Path| {
        let relative = path.strip_prefix(&root).unwrap();
        relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    let edges: BTreeSet<String> = files.iter().map(|path| edge_of(path)).collect();
    let mut found = BTreeSet::new();
    for path in &files {
        let own = edge_of(path);
        let text: String = code(path).into_iter().map(|(_, line)| line + "\n").collect();
        let depth = path.strip_prefix(&root).unwrap().iter().count();
        for named in ["edge::", &"super::".repeat(depth)].into_iter().flat_map(|way| named_after(&text, way))
        {
            if named != own && edges.contains(&named) && !SHARED_EDGES.contains(&named.as_str()) {
                found.insert((own.clone(), named));
            }
        }
    }
    let allowed: BTreeSet<_> = EDGES_ON_EDGES.map(|(one, other)| (one.to_owned(), other.to_owned())).into();
    let more: Vec<_> = found.difference(&allowed).collect();
    assert!(more.is_empty(), "(edge, edge that it names): let the host bring them together: {more:?}");
    let fewer: Vec<_> = allowed.difference(&found).collect();
    assert!(fewer.is_empty(), "(edge, edge that it does not name any more): strike them: {fewer:?}");
}

/// The words after each `way`: one, or the first ones of all that is in the braces there.
fn named_after(text: &str, way: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut words = Vec::new();
    for rest in text.split(way).skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            words.push(word(rest));
            continue;
        };
        let mut depth = 0;
        words.push(word(list));
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => words.push(word(&list[at + 1..])),
                _ => {}
            }
        }
    }
    words
}

#[test]
fn one_file_names_each_pinned_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (word, home) in [("fuser::", "edge/fuse"), ("sled::", "edge/store"), ("snow::", "edge/peer")] {
        let strangers: Vec<_> = sources(&root)
            .into_iter()
            .filter(|path| !path.strip_prefix(&root).unwrap().to_string_lossy().starts_with(home))
            .filter(|path| {
                code(path).iter().any(|(_, line)| {
                    line.match_indices(word).any(|(at, _)| {
                        !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':')
                    })
                })
            })
            .collect();
        assert!(strangers.is_empty(), "{word} is named outside {home}: {strangers:?}");
    }
}
