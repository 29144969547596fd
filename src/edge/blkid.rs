//! The own look at a device: what blkid finds on it, and whether it can be opened exclusively.
//!
//! Why: udev's record may be old, or made by rules that skip a device. This asks the device itself, and has the answer
//! in blkid's words. Devices are only ever opened for reading: closing one that was open for writing makes udev look
//! again, and whoever answers that by probing again never ends.
//! What must not go in: what follows from the answer (core/claim.rs).

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use nix::fcntl::OFlag;

use super::run::{Programs, RunError, Tool, run};
use crate::core::claim::Opinion;

/// A disk that does not answer reads in this time is not one to take.
const DEADLINE: Duration = Duration::from_secs(30);
/// blkid(8), "EXIT STATUS".
const NOTHING_FOUND: i32 = 2;
const AMBIVALENT: i32 = 8;

/// What blkid finds, read from the device and not from its cache.
pub fn probe(programs: &Programs, device: &str) -> Opinion {
    let cmd = programs.cmd(Tool::Blkid, DEADLINE).args(["-p", "-o", "export", device]);
    match run(&cmd) {
        Ok(output) => found(&output.stdout),
        // It answers the same for a device that it cannot read as for one on which it finds nothing.
        Err(RunError::Failed { code: Some(NOTHING_FOUND), .. }) => readable(Path::new(device)),
        Err(RunError::Failed { code: Some(AMBIVALENT), .. }) => Opinion::Found("ambiguous".to_owned()),
        Err(error) => Opinion::Unsure(error.to_string().replace('\n', "; ")),
    }
}

/// Both ends can be read: then "nothing found" was said of what is there.
fn readable(device: &Path) -> Opinion {
    use std::io::{Read, Seek, SeekFrom};
    let look = || {
        let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_CLOEXEC.bits()).open(device)?;
        let mut block = [0; 4096];
        file.read_exact(&mut block)?;
        file.seek(SeekFrom::End(-4096))?;
        file.read_exact(&mut block)
    };
    match look() {
        Ok(()) => Opinion::Clean,
        Err(error) => Opinion::Unsure(format!("it cannot be read: {error}")),
    }
}

/// The most telling of blkid's fields. Without any that is known, it found something that we do not know.
fn found(export: &str) -> Opinion {
    let fields: Vec<_> = export.lines().filter_map(|line| line.split_once('=')).collect();
    let field = |name| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let what = field("TYPE").or_else(|| field("PTTYPE"));
    Opinion::Found(what.unwrap_or_else(|| "something unknown".to_owned()))
}

/// Tries to open it exclusively and closes it again. The error says who or what is in the way.
pub fn exclusive(device: &str) -> Option<String> {
    let flags = (OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(device);
    opened.err().map(|error| format!("it cannot be opened exclusively: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn blkids_words_become_an_opinion() {
        let ext4 = "DEVNAME=/dev/vdb\nUUID=1d1f\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(found(ext4), Opinion::Found("ext4".into()));
        assert_eq!(found("DEVNAME=/dev/vdb\nPTTYPE=gpt\n"), Opinion::Found("gpt".into()));
        assert_eq!(found("DEVNAME=/dev/vdb\n"), Opinion::Found("something unknown".into()));
        assert_eq!(found(""), Opinion::Found("something unknown".into()));
    }

    #[test]
    fn a_blank_file_is_clean_a_signature_is_found_and_what_cannot_be_read_is_unsure() {
        let Ok(programs) = Programs::resolve() else {
            println!("SKIPPED: a program is not installed");
            return;
        };
        let path = std::env::temp_dir().join(format!("holdfast-blkid-{}", std::process::id()));
        let name = path.to_str().unwrap();
        let mut bytes = vec![0; 1 << 20];
        fs::write(&path, &bytes).unwrap();
        assert_eq!(probe(&programs, name), Opinion::Clean);
        // cryptsetup's "LUKS on-disk format": magic, then version 1.
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(probe(&programs, name), Opinion::Found("crypto_LUKS".into()));
        fs::remove_file(&path).unwrap();
        assert!(matches!(probe(&programs, name), Opinion::Unsure(_)));
    }
}
