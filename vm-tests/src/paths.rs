//! Where the lab keeps what: everything under `target/lab` of its own clone, so that two clones never meet.
//! Only sockets live elsewhere, in a short directory under /tmp: their paths have to fit in 108 bytes.

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, io};

/// The places of this lab.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The repository that the lab belongs to.
    pub repo: PathBuf,
    /// target/lab.
    pub state: PathBuf,
    /// Images and templates; may be shared by several clones.
    pub cache: PathBuf,
}

impl Paths {
    /// The places, as the starter script and the environment tell them.
    pub fn find() -> Result<Paths> {
        let repo = env::var_os("LAB_REPO").context("start the lab through vm-tests/lab")?;
        let repo = PathBuf::from(repo);
        let state = repo.join("target/lab");
        let cache = env::var_os("LAB_CACHE").map_or_else(|| state.join("cache"), PathBuf::from);
        fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        Ok(Paths { repo, state, cache: fs::canonicalize(cache)? })
    }

    /// The script that makes images.
    pub fn build_script(&self) -> PathBuf {
        self.repo.join("vm-tests/image/build.sh")
    }

    /// What a running lab was started with.
    pub fn config(&self) -> PathBuf {
        self.state.join("lab.json")
    }

    /// A link to the directory of a running lab's sockets.
    pub fn run_link(&self) -> PathBuf {
        self.state.join("run")
    }

    /// The server's own messages.
    pub fn server_log(&self) -> PathBuf {
        self.state.join("server.log")
    }

    /// Disks and logs of the boxes.
    pub fn boxes(&self) -> PathBuf {
        self.state.join("boxes")
    }

    /// The directory of one box.
    pub fn of_box(&self, name: &str) -> PathBuf {
        self.boxes().join(name)
    }

    /// The file behind a disk. Serials are unique in a lab, so that a disk can move from box to box.
    pub fn disk(&self, serial: &str) -> PathBuf {
        self.boxes().join("disks").join(format!("{serial}.raw"))
    }

    /// The newest `keep` directories of the cache with this prefix stay.
    pub fn prune_cache(&self, prefix: &str, keep: usize) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.cache)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        found.sort();
        let surplus = found.len().saturating_sub(keep);
        found.iter().take(surplus).try_for_each(|(_, path)| fs::remove_dir_all(path))
    }
}

/// Held while something is built or started, so that two words do not do it at once.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(lock) => Ok(lock),
        Err((_, error)) => bail!("cannot lock {}: {error}", path.display()),
    }
}

/// A short name for everything that was fed in. Good for a cache, not against malice.
#[derive(Default)]
pub struct Key(DefaultHasher);

impl Key {
    /// Feeds bytes in.
    pub fn add(&mut self, bytes: impl AsRef<[u8]>) -> &mut Key {
        bytes.as_ref().hash(&mut self.0);
        self
    }

    /// Feeds a file, or all files of a directory with their names, in.
    pub fn add_path(&mut self, path: &Path) -> Result<&mut Key> {
        if path.is_dir() {
            let mut names: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|entry| entry.path()).collect();
            names.sort();
            for name in names {
                self.add(name.file_name().unwrap_or_default().as_encoded_bytes());
                self.add_path(&name)?;
            }
            return Ok(self);
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.add(bytes))
    }

    /// The name.
    pub fn finish(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}
