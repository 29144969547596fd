//! The language of plan scripts, replays and the sandbox's control file: one command a line.
//!
//! Commands of an operator are those of a shell in the tree; the others are what happens to boxes.

use std::fmt;

use crate::core::{names::DiskName, size::Size};

use super::machine::{Eye, StepFault};

/// What an operator does in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `mkdir PATH`
    Mkdir(String),
    /// `rmdir PATH`
    Rmdir(String),
    /// `write PATH VALUE...`
    Write(String, String),
    /// `mv FROM TO`
    Mv(String, String),
    /// `cat PATH`
    Cat(String),
    /// `ls PATH`
    Ls(String),
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `boxes N 8|9 [SEED]`: a new world.
    Boxes(usize, u8, u64),
    /// `cluster N 8|9 [SIZE] [SEED]`: a new world with a disk in each box, all in one cluster, quiet.
    Cluster(usize, u8, Size, u64),
    /// `plug BOX SLOT SIZE [WHAT]`: a new disk, blank or with this on it.
    Plug(String, DiskName, Size, Option<String>),
    /// `init BOX SLOT`
    Init(String, DiskName),
    /// `join BOX [VIA]`
    Join(String, Option<String>),
    /// `[on BOX] VERB ...`: done in the tree of a box (the leader's, or else one whose daemon runs), and answered.
    Do(Option<String>, Verb),
    /// `ask BOX VERB ...`: the same, and nobody waits for the answer.
    Ask(String, Verb),
    /// `use VOL BOX`: opened for writing there.
    Use(String, String),
    /// `unuse VOL BOX`
    Unuse(String, String),
    /// `put VOL BOX`: something is written and synced.
    Put(String, String),
    /// `get VOL BOX`: what is read there is compared with what was written last.
    Get(String, String),
    /// `crash BOX`: its daemon is killed.
    Crash(String),
    /// `start BOX`: its daemon starts.
    Start(String),
    /// `power-off BOX`
    PowerOff(String),
    /// `power-on BOX`
    PowerOn(String),
    /// `cut A B`: nothing passes between them.
    Cut(String, String),
    /// `cut-from A B`: nothing passes from A to B.
    CutFrom(String, String),
    /// `mend`: all wires are whole, all sources can be seen, at once.
    Mend,
    /// `break-disk BOX SLOT`: everything on it fails.
    BreakDisk(String, DiskName),
    /// `pull BOX SLOT`
    Pull(String, DiskName),
    /// `replug BOX SERIAL SLOT`: a disk that was pulled comes back in this slot, and works.
    Replug(String, String, DiskName),
    /// `wipe BOX SLOT`: the disk is blank.
    Wipe(String, DiskName),
    /// `fail-step BOX before|after`: the next step there fails before, or after, it is done.
    FailStep(String, StepFault),
    /// `blind BOX lvm|disks|conf|drbd`: that cannot be looked at.
    Blind(String, Eye),
    /// `stale BOX MS`: what is seen is told so much later.
    Stale(String, u64),
    /// `usurp BOX`: it takes itself for the leader.
    Usurp(String),
    /// `run MS`
    Run(u64),
    /// `quiet`: until nothing is done any more.
    Quiet,
    /// `show [volumes|boxes|health|plan|steps|disks]`
    Show(String),
}

fn eye(word: &str) -> Option<Eye> {
    Some(match word {
        "lvm" => Eye::Vgs,
        "disks" => Eye::Disks,
        "conf" => Eye::Conf,
        "drbd" => Eye::Drbd,
        _ => return None,
    })
}

fn eye_word(eye: Eye) -> &'static str {
    match eye {
        Eye::Vgs => "lvm",
        Eye::Disks => "disks",
        Eye::Conf => "conf",
        Eye::Drbd => "drbd",
    }
}

fn verb(words: &[&str]) -> Option<Verb> {
    let owned = |word: &&str| (*word).to_owned();
    Some(match words {
        ["mkdir", path] => Verb::Mkdir(owned(path)),
        ["rmdir", path] => Verb::Rmdir(owned(path)),
        ["write", path, value @ ..] => Verb::Write(owned(path), value.join(" ")),
        ["mv", from, to] => Verb::Mv(owned(from), owned(to)),
        ["cat", path] => Verb::Cat(owned(path)),
        ["ls", path] => Verb::Ls(owned(path)),
        ["ls"] => Verb::Ls(String::new()),
        _ => return None,
    })
}

/// `500ms`, `3s`, or milliseconds.
fn time(word: &str) -> Option<u64> {
    let (digits, unit) = match (word.strip_suffix("ms"), word.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1_000),
        (None, None) => (word, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl Command {
    /// Reads one line. The error is a sentence.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        Self::from_words(&words)
            .ok_or_else(|| format!("{line:?} is no command here: `help` in `holdfast sandbox` lists them"))
    }

    fn from_words(words: &[&str]) -> Option<Self> {
        let owned = |word: &&str| (*word).to_owned();
        let slot = |word: &&str| DiskName::new(*word).ok();
        let size = |word: &&str| Size::parse(word).ok();
        Some(match words {
            ["boxes", n, major] => Self::Boxes(n.parse().ok()?, major.parse().ok()?, 1),
            ["boxes", n, major, seed] => {
                Self::Boxes(n.parse().ok()?, major.parse().ok()?, seed.parse().ok()?)
            }
            ["cluster", n, major] => Self::Cluster(n.parse().ok()?, major.parse().ok()?, Size(4 << 30), 1),
            ["cluster", n, major, bytes] => {
                Self::Cluster(n.parse().ok()?, major.parse().ok()?, size(bytes)?, 1)
            }
            ["cluster", n, major, bytes, seed] => {
                Self::Cluster(n.parse().ok()?, major.parse().ok()?, size(bytes)?, seed.parse().ok()?)
            }
            ["plug", at, in_slot, bytes] => Self::Plug(owned(at), slot(in_slot)?, size(bytes)?, None),
            ["plug", at, in_slot, bytes, what] => {
                Self::Plug(owned(at), slot(in_slot)?, size(bytes)?, Some(owned(what)))
            }
            ["init", at, in_slot] => Self::Init(owned(at), slot(in_slot)?),
            ["join", at] => Self::Join(owned(at), None),
            ["join", at, via] => Self::Join(owned(at), Some(owned(via))),
            ["on", at, rest @ ..] => Self::Do(Some(owned(at)), verb(rest)?),
            ["ask", at, rest @ ..] => Self::Ask(owned(at), verb(rest)?),
            ["use", volume, at] => Self::Use(owned(volume), owned(at)),
            ["unuse", volume, at] => Self::Unuse(owned(volume), owned(at)),
            ["put", volume, at] => Self::Put(owned(volume), owned(at)),
            ["get", volume, at] => Self::Get(owned(volume), owned(at)),
            ["crash", at] => Self::Crash(owned(at)),
            ["start", at] => Self::Start(owned(at)),
            ["power-off", at] => Self::PowerOff(owned(at)),
            ["power-on", at] => Self::PowerOn(owned(at)),
            ["cut", a, b] => Self::Cut(owned(a), owned(b)),
            ["cut-from", a, b] => Self::CutFrom(owned(a), owned(b)),
            ["mend"] => Self::Mend,
            ["break-disk", at, in_slot] => Self::BreakDisk(owned(at), slot(in_slot)?),
            ["pull", at, in_slot] => Self::Pull(owned(at), slot(in_slot)?),
            ["replug", at, serial, in_slot] => Self::Replug(owned(at), owned(serial), slot(in_slot)?),
            ["wipe", at, in_slot] => Self::Wipe(owned(at), slot(in_slot)?),
            ["fail-step", at, "before"] => Self::FailStep(owned(at), StepFault::Before),
            ["fail-step", at, "after"] => Self::FailStep(owned(at), StepFault::After),
            ["blind", at, what] => Self::Blind(owned(at), eye(what)?),
            ["stale", at, ms] => Self::Stale(owned(at), time(ms)?),
            ["usurp", at] => Self::Usurp(owned(at)),
            ["run", ms] => Self::Run(time(ms)?),
            ["quiet"] => Self::Quiet,
            ["show"] => Self::Show("volumes".to_owned()),
            ["show", what] => Self::Show(owned(what)),
            _ => Self::Do(None, verb(words)?),
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mkdir(path) => write!(f, "mkdir {path}"),
            Self::Rmdir(path) => write!(f, "rmdir {path}"),
            Self::Write(path, value) => write!(f, "write {path} {value}"),
            Self::Mv(from, to) => write!(f, "mv {from} {to}"),
            Self::Cat(path) => write!(f, "cat {path}"),
            Self::Ls(path) => write!(f, "ls {path}"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boxes(n, major, seed) => write!(f, "boxes {n} {major} {seed}"),
            Self::Cluster(n, major, size, seed) => write!(f, "cluster {n} {major} {size} {seed}"),
            Self::Plug(at, slot, size, None) => write!(f, "plug {at} {slot} {size}"),
            Self::Plug(at, slot, size, Some(what)) => write!(f, "plug {at} {slot} {size} {what}"),
            Self::Init(at, slot) => write!(f, "init {at} {slot}"),
            Self::Join(at, None) => write!(f, "join {at}"),
            Self::Join(at, Some(via)) => write!(f, "join {at} {via}"),
            Self::Do(None, verb) => write!(f, "{verb}"),
            Self::Do(Some(at), verb) => write!(f, "on {at} {verb}"),
            Self::Ask(at, verb) => write!(f, "ask {at} {verb}"),
            Self::Use(volume, at) => write!(f, "use {volume} {at}"),
            Self::Unuse(volume, at) => write!(f, "unuse {volume} {at}"),
            Self::Put(volume, at) => write!(f, "put {volume} {at}"),
            Self::Get(volume, at) => write!(f, "get {volume} {at}"),
            Self::Crash(at) => write!(f, "crash {at}"),
            Self::Start(at) => write!(f, "start {at}"),
            Self::PowerOff(at) => write!(f, "power-off {at}"),
            Self::PowerOn(at) => write!(f, "power-on {at}"),
            Self::Cut(a, b) => write!(f, "cut {a} {b}"),
            Self::CutFrom(a, b) => write!(f, "cut-from {a} {b}"),
            Self::Mend => write!(f, "mend"),
            Self::BreakDisk(at, slot) => write!(f, "break-disk {at} {slot}"),
            Self::Pull(at, slot) => write!(f, "pull {at} {slot}"),
            Self::Replug(at, serial, slot) => write!(f, "replug {at} {serial} {slot}"),
            Self::Wipe(at, slot) => write!(f, "wipe {at} {slot}"),
            Self::FailStep(at, StepFault::Before) => write!(f, "fail-step {at} before"),
            Self::FailStep(at, StepFault::After) => write!(f, "fail-step {at} after"),
            Self::Blind(at, eye) => write!(f, "blind {at} {}", eye_word(*eye)),
            Self::Stale(at, ms) => write!(f, "stale {at} {ms}ms"),
            Self::Usurp(at) => write!(f, "usurp {at}"),
            Self::Run(ms) => write!(f, "run {ms}ms"),
            Self::Quiet => write!(f, "quiet"),
            Self::Show(what) => write!(f, "show {what}"),
        }
    }
}
