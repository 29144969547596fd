//! Plan scripts: what an operator does, and what then is to be seen, as text. `HOLDFAST_RENEW=1` writes what is seen now.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use holdfast::sim::script;

/// At least so many: the directory was found and is whole.
const AT_LEAST: usize = 30;

#[test]
fn every_script_shows_what_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let mut scripts: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= AT_LEAST, "{} scripts in {}", scripts.len(), dir.display());
    let renew = std::env::var_os("HOLDFAST_RENEW").is_some();
    let mut differ = Vec::new();
    for path in scripts {
        let said = fs::read_to_string(&path).unwrap();
        let seen = script::transcript(&said).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        if said != seen {
            if renew {
                fs::write(&path, &seen).unwrap();
            }
            differ.push(format!("{}:\n{}", path.display(), difference(&said, &seen)));
        }
    }
    assert!(renew || differ.is_empty(), "{}", differ.join("\n"));
}

/// The first line that differs, with what is around it.
fn difference(said: &str, seen: &str) -> String {
    let (said, seen): (Vec<_>, Vec<_>) = (said.lines().collect(), seen.lines().collect());
    let at = said.iter().zip(&seen).take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str]| {
        lines[at.saturating_sub(3).min(lines.len())..(at + 6).min(lines.len())].join("\n    ")
    };
    format!("  line {} said:\n    {}\n  and now is:\n    {}", at + 1, part(&said), part(&seen))
}
