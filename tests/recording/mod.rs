//! What `holdfast daemon --record` wrote, given to the parsers that the daemon has.

use std::{collections::BTreeMap, fs, path::Path};

use holdfast::{
    core::{
        drbd::{DrbdVersion, parse_out_of_sync},
        step::StepClass,
    },
    edge::{
        drbd_events::{Model, parse_line},
        lvm_report::VgReport,
        outcome::class_of,
        run::{Call, EVENTS_FILE},
    },
};

/// A folder, read.
#[derive(Default)]
pub struct Recording {
    /// By file name.
    pub calls: BTreeMap<String, Call>,
    /// What `/proc/drbd` said, in order.
    pub proc_drbd: Vec<String>,
    /// Each life of `drbdsetup events2`.
    pub streams: Vec<Vec<String>>,
}

impl Recording {
    pub fn read(dir: &Path) -> Self {
        let mut found = Self::default();
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let text = fs::read_to_string(dir.join(&name)).unwrap();
            let name = name.into_string().unwrap();
            if name == EVENTS_FILE {
                found.streams = streams(&text);
            } else if name.ends_with("-proc-drbd.txt") {
                found.proc_drbd.push(text);
            } else {
                let call = Call::parse(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
                assert_eq!(call.to_string(), text, "{name}");
                found.calls.insert(name, call);
            }
        }
        found
    }

    /// Calls of a program that have this word among their arguments.
    pub fn of<'r>(&'r self, program: &str, word: &str) -> impl Iterator<Item = &'r Call> {
        self.calls.values().filter(move |c| c.program() == program && c.argv.iter().any(|arg| arg == word))
    }
}

/// A line that begins with `# drbdsetup` starts a stream; others with `#` tell its end.
fn streams(text: &str) -> Vec<Vec<String>> {
    let mut streams: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("# drbdsetup ") {
            streams.push(Vec::new());
        } else if !line.starts_with('#') {
            streams.last_mut().expect("a stream has begun").push(line.to_owned());
        }
    }
    streams
}

/// The facts that these lines add up to; each has to be understood, with no word that is not known.
pub fn replay<'l>(lines: impl IntoIterator<Item = &'l str>) -> Model {
    let mut model = Model::default();
    for line in lines {
        let event = parse_line(line).unwrap_or_else(|why| panic!("{why}"));
        assert!(!format!("{event:?}").contains("Other"), "{line}");
        model.apply(&event);
    }
    model
}

/// All of it is understood, and it has something of everything.
pub fn check(dir: &Path) {
    let found = Recording::read(dir);
    let reports: Vec<_> =
        found.of("lvm", "fullreport").map(|call| VgReport::parse(&call.stdout).unwrap()).collect();
    assert!(reports.iter().any(|report| report.vgs.values().any(|vg| !vg.lvs.is_empty())), "no LV was seen");
    let dumps = found.of("drbdsetup", "events2").filter(|call| call.exit_code() == Some(0));
    assert!(dumps.map(|call| assert!(replay(call.stdout.lines()).ready())).count() > 0, "no dump");
    // Who looks only for a moment may end before it was told all.
    let told: Vec<_> = found.streams.iter().map(|s| replay(s.iter().map(String::as_str)).ready()).collect();
    assert!(told.contains(&true), "no stream told all: {told:?}");
    for text in &found.proc_drbd {
        let version = DrbdVersion::parse_proc_drbd(text).unwrap_or_else(|| panic!("{text}"));
        assert!(!version.is_9() || parse_out_of_sync(text).is_empty(), "{text}");
    }
    for (name, call) in &found.calls {
        if call.exit_code() != Some(0) {
            let class = class_of(&call.stderr);
            println!("{name}: {}, {class:?}: {}", call.ended, call.stderr.trim());
            assert_ne!(class, StepClass::Wedged);
        }
    }
    let texts = found.calls.values().map(|call| format!("{call:?}"));
    assert!(texts.chain(found.streams.concat()).all(|text| !secret_in(&text)), "a secret was recorded");
    println!(
        "{} calls, {} of /proc/drbd, {} streams: understood",
        found.calls.len(),
        found.proc_drbd.len(),
        found.streams.len()
    );
}

fn secret_in(text: &str) -> bool {
    text.split("shared-secret").skip(1).any(|after| !after.starts_with("=..."))
}
