//! `holdfast wait`: until volumes can be used, by poll(2) on their `state`.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::core::names::VolumeName;

use super::{Args, Failure, Outcome, fail, unreadable};

/// A change is noticed so soon even if the wake-up was missed.
const LOOK_EVERY_MS: u16 = 1_000;

/// Waits for each volume in turn.
pub(super) fn run(args: &Args) -> Outcome {
    if args.words.is_empty() {
        return Err(Failure::used_wrongly("holdfast wait needs a volume"));
    }
    let until = args.timeout.filter(|s| *s > 0).map(|s| Instant::now() + Duration::from_secs(s));
    for word in &args.words {
        let name = VolumeName::new(word.as_str())?;
        wait(args.mount(), &name, args.synced, until)?;
    }
    Ok(())
}

fn wait(mount: &Path, name: &VolumeName, synced: bool, until: Option<Instant>) -> Outcome {
    let path = mount.join("volumes").join(name.as_str()).join("state");
    let mut file = File::open(&path).map_err(|error| {
        let volumes = mount.join("volumes");
        if !volumes.is_dir() {
            return unreadable(&volumes, &error);
        }
        Failure { text: format!("there is no volume \"{name}\" in {}", volumes.display()), code: 1 }
    })?;
    loop {
        let mut state = String::new();
        file.seek(SeekFrom::Start(0))?;
        if let Err(error) = file.read_to_string(&mut state) {
            return fail(format!("{name} cannot be looked at any more: {error}"));
        }
        let state = state.trim_end();
        let word = state.split([' ', ':']).next().unwrap_or_default();
        match word {
            "ready" => return Ok(()),
            "syncing" | "degraded" | "growing" if !synced => return Ok(()),
            "failed" | "wedged" => {
                return fail(format!("{name} is {state}; see {}", path.with_file_name("error").display()));
            }
            _ => {}
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return fail(format!("{name} is still {state} after the given time"));
        }
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return fail(format!("{}: {error}", path.display())),
        }
    }
}
