//! The lab's words, from argv to a closed list. No files and no processes here.

use crate::identity::{BOXES_MAX, number};
use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// Printed by `lab help` and after a word that nobody knows.
pub const USAGE: &str = "\
usage: vm-tests/lab WORD...
  up N [--disks K] [--disk-size S]        boot box1..boxN and make them one cluster with K blank disks each in pool main
  up --bare N [--disks K] [--disk-size S] the same without a cluster
  sh BOX [COMMAND...]                     run a command there as root; without one, an interactive shell
  add-disk BOX SIZE [--serial S] [--from FILE]   plug a disk in; prints its serial; a pulled one comes back with its data
  pull-disk BOX SERIAL                    pull a disk out
  power-off BOX                           pull the plug
  power-on BOX [--cold]                   boot again: from the saved template, or (--cold) from the kernel up
  cut BOX [BOX]                           cut two boxes, or one from all others, off from each other
  mend [BOX [BOX]]                        the reverse
  freeze BOX, thaw BOX                    stop a box's time, let it go on
  install                                 put the daemon as built now into all boxes that have power
  log BOX [ARGUMENT...]                   what holdfast logged there (arguments are journalctl's)
  console BOX                             what came over its serial console
  status                                  what there is
  image                                   build what boxes boot from, print the kernel's version
  down                                    end everything
environment: DRBD_MODULES=DIR  DRBD 9 modules for the boxes instead of the kernel's own 8.4
             LAB_ACCEL=kvm|tcg, LAB_CACHE=DIR, LAB_DAEMON=FILE (a holdfast built elsewhere)
";

/// Disks that fit besides network card and system disk.
pub const DISKS_MAX: usize = 14;
/// virtio-blk tells no longer serials.
const SERIAL_MAX_BYTES: usize = 20;
const DISK_SIZE_DEFAULT_BYTES: u64 = 4 << 30;

/// One word with its arguments. Boxes are numbers from 1.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// Boot boxes, and form a cluster unless `bare`.
    Up { boxes: usize, disks: usize, disk_bytes: u64, bare: bool },
    /// Run a command in a box, or a shell.
    Sh { at: usize, command: Option<String> },
    /// Plug a disk in.
    AddDisk { at: usize, bytes: u64, serial: Option<String>, from: Option<PathBuf> },
    /// Pull a disk out.
    PullDisk { at: usize, serial: String },
    /// Take the power away.
    PowerOff { at: usize },
    /// Give it back.
    PowerOn { at: usize, cold: bool },
    /// Cut two boxes, or one from all.
    Cut { at: usize, other: Option<usize> },
    /// Mend two, one with all, or everything.
    Mend { at: Option<usize>, other: Option<usize> },
    /// Stop a box's time.
    Freeze { at: usize },
    /// Let it go on.
    Thaw { at: usize },
    /// Put the fresh daemon into the boxes.
    Install,
    /// Holdfast's journal.
    Log { at: usize, arguments: Vec<String> },
    /// The serial console.
    Console { at: usize },
    /// What there is.
    Status,
    /// Only build.
    Image,
    /// End everything.
    Down,
    /// The background process that holds the boxes.
    Serve,
    /// The agent in a box.
    Agent,
    /// In a box: set its address.
    Network,
    /// Tell the words.
    Help,
}

/// Reads argv, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Word> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let word = match parser.next()? {
        Some(Value(word)) => word.string()?,
        Some(Short('h') | Long("help")) | None => return Ok(Word::Help),
        Some(other) => return Err(other.unexpected().into()),
    };
    let mut rest = Rest { parser: &mut parser, word: &word };
    match word.as_str() {
        "up" => rest.up(),
        "sh" => rest.sh(),
        "add-disk" => rest.add_disk(),
        "pull-disk" => Ok(Word::PullDisk { at: rest.a_box()?, serial: rest.text("a serial")? }),
        "power-off" => Ok(Word::PowerOff { at: rest.a_box()? }),
        "power-on" => rest.power_on(),
        "cut" => Ok(Word::Cut { at: rest.a_box()?, other: rest.maybe_box()? }),
        "mend" => Ok(Word::Mend { at: rest.maybe_box()?, other: rest.maybe_box()? }),
        "freeze" => Ok(Word::Freeze { at: rest.a_box()? }),
        "thaw" => Ok(Word::Thaw { at: rest.a_box()? }),
        "install" => Ok(Word::Install),
        "log" => Ok(Word::Log { at: rest.a_box()?, arguments: rest.raw()? }),
        "console" => Ok(Word::Console { at: rest.a_box()? }),
        "status" => Ok(Word::Status),
        "image" => Ok(Word::Image),
        "down" => Ok(Word::Down),
        "serve" => Ok(Word::Serve),
        "agent" => Ok(Word::Agent),
        "network" => Ok(Word::Network),
        "help" => Ok(Word::Help),
        other => bail!("no word {other:?}\n{USAGE}"),
    }
    .and_then(|parsed| match parser.next()? {
        None => Ok(parsed),
        Some(extra) => Err(extra.unexpected().into()),
    })
}

struct Rest<'a> {
    parser: &'a mut lexopt::Parser,
    word: &'a str,
}

impl Rest<'_> {
    fn maybe_text(&mut self) -> Result<Option<String>> {
        match self.parser.next()? {
            None => Ok(None),
            Some(Value(text)) => Ok(Some(text.string()?)),
            Some(other) => Err(other.unexpected().into()),
        }
    }

    fn text(&mut self, what: &str) -> Result<String> {
        self.maybe_text()?.with_context(|| format!("{} wants {what}", self.word))
    }

    fn maybe_box(&mut self) -> Result<Option<usize>> {
        self.maybe_text()?.map(|text| box_number(&text)).transpose()
    }

    fn a_box(&mut self) -> Result<usize> {
        box_number(&self.text("a box")?)
    }

    /// All that is left, options too.
    fn raw(&mut self) -> Result<Vec<String>> {
        self.parser.raw_args()?.map(|argument| Ok(argument.string()?)).collect()
    }

    fn up(&mut self) -> Result<Word> {
        let (mut boxes, mut disks, mut disk_bytes, mut bare) = (None, 1, DISK_SIZE_DEFAULT_BYTES, false);
        while let Some(argument) = self.parser.next()? {
            match argument {
                Long("bare") => bare = true,
                Long("disks") => disks = self.parser.value()?.parse()?,
                Long("disk-size") => disk_bytes = size(&self.parser.value()?.string()?)?,
                Value(count) if boxes.is_none() => boxes = Some(count.parse()?),
                other @ (Short(_) | Long(_) | Value(_)) => return Err(other.unexpected().into()),
            }
        }
        let boxes = boxes.context("up wants the number of boxes")?;
        if !(1..=BOXES_MAX).contains(&boxes) {
            bail!("{boxes} boxes: the lab makes 1 to {BOXES_MAX}");
        }
        if disks > DISKS_MAX {
            bail!("{disks} disks: a box has room for {DISKS_MAX}");
        }
        Ok(Word::Up { boxes, disks, disk_bytes, bare })
    }

    /// As ssh does it: words are joined by spaces, and whatever follows the box belongs to the command.
    fn sh(&mut self) -> Result<Word> {
        let at = self.a_box()?;
        let words = self.raw()?;
        Ok(Word::Sh { at, command: (!words.is_empty()).then(|| words.join(" ")) })
    }

    fn add_disk(&mut self) -> Result<Word> {
        let at = self.a_box()?;
        let bytes = size(&self.text("a size")?)?;
        let (mut serial, mut from) = (None, None);
        while let Some(argument) = self.parser.next()? {
            match argument {
                Long("serial") => serial = Some(checked_serial(self.parser.value()?.string()?)?),
                Long("from") => from = Some(PathBuf::from(self.parser.value()?)),
                other @ (Short(_) | Long(_) | Value(_)) => return Err(other.unexpected().into()),
            }
        }
        Ok(Word::AddDisk { at, bytes, serial, from })
    }

    fn power_on(&mut self) -> Result<Word> {
        let at = self.a_box()?;
        match self.parser.next()? {
            None => Ok(Word::PowerOn { at, cold: false }),
            Some(Long("cold")) => Ok(Word::PowerOn { at, cold: true }),
            Some(other) => Err(other.unexpected().into()),
        }
    }
}

fn box_number(text: &str) -> Result<usize> {
    number(text).with_context(|| format!("{text:?} is no box: they are box1 to box{BOXES_MAX}"))
}

fn checked_serial(serial: String) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if serial.is_empty() || serial.len() > SERIAL_MAX_BYTES || !serial.bytes().all(is_plain) {
        bail!("{serial:?} is no serial: 1 to {SERIAL_MAX_BYTES} letters, digits, dashes, dots");
    }
    if [crate::identity::ROOT_SERIAL, crate::identity::SYSTEM_SERIAL].contains(&serial.as_str()) {
        bail!("the serial {serial} is the lab's own");
    }
    Ok(serial)
}

/// `4G`, `512M`, `64K` or bytes; whole sectors.
pub fn size(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        Some(_) | None => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes > 0 && bytes % 512 == 0 && bytes <= 1 << 44 => Ok(bytes),
        Some(_) | None => bail!("{text:?} is no size: for example 4G, 512M, or a multiple of 512 bytes"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
    use super::*;

    fn parsed(line: &str) -> Result<Word> {
        parse(line.split_whitespace())
    }

    #[test]
    fn up_knows_its_options_in_any_order() {
        let up = |boxes, disks, disk_bytes, bare| Word::Up { boxes, disks, disk_bytes, bare };
        assert_eq!(parsed("up 3").unwrap(), up(3, 1, 4 << 30, false));
        assert_eq!(parsed("up --bare 3 --disks 2").unwrap(), up(3, 2, 4 << 30, true));
        assert_eq!(parsed("up --disk-size 512M 2 --bare").unwrap(), up(2, 1, 512 << 20, true));
        for refused in
            ["up", "up 0", "up 10", "up x", "up 3 4", "up 3 --disks 15", "up 3 --disk-size 1X", "up -x 3"]
        {
            assert!(parsed(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_command_may_look_like_options() {
        let sh = parse(["sh", "box2", "ls -l --all"]).unwrap();
        assert_eq!(sh, Word::Sh { at: 2, command: Some("ls -l --all".into()) });
        let sh = parse(["sh", "box2", "ls", "-l", "--help"]).unwrap();
        assert_eq!(sh, Word::Sh { at: 2, command: Some("ls -l --help".into()) });
        assert_eq!(parsed("sh box1").unwrap(), Word::Sh { at: 1, command: None });
    }

    #[test]
    fn boxes_are_checked_before_anything_happens() {
        assert_eq!(parsed("cut box1").unwrap(), Word::Cut { at: 1, other: None });
        assert_eq!(parsed("cut box1 box3").unwrap(), Word::Cut { at: 1, other: Some(3) });
        assert_eq!(parsed("mend").unwrap(), Word::Mend { at: None, other: None });
        assert_eq!(parsed("power-on box3 --cold").unwrap(), Word::PowerOn { at: 3, cold: true });
        for refused in
            ["cut", "cut box0", "mend host", "freeze", "power-on box1 now", "sh", "down box1", "blow-up"]
        {
            assert!(parsed(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn disks_have_sane_serials_and_sizes() {
        let word = parsed("add-disk box1 1G --serial d9 --from f").unwrap();
        let expected =
            Word::AddDisk { at: 1, bytes: 1 << 30, serial: Some("d9".into()), from: Some("f".into()) };
        assert_eq!(word, expected);
        for refused in ["a/b", "SYSTEM", "ROOT", "x23456789012345678901"] {
            assert!(parsed(&format!("add-disk box1 1G --serial {refused}")).is_err(), "{refused}");
        }
        assert_eq!(size("1024").unwrap(), 1024);
        assert_eq!(size("2T").unwrap(), 2 << 40);
        for refused in ["", "G", "0", "1000", "-1G", "1.5G", "99999999T", "20000000000000000000"] {
            assert!(size(refused).is_err(), "{refused}");
        }
    }
}
