//! What a word asks of the lab's server, and what the server was started with.

use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A word that needs the running lab. Boxes are numbers from 1.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Give all boxes power for the first time.
    Boot,
    /// Run a command in a box; input and output follow as frames.
    Sh { at: usize, command: String },
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
    /// What there is.
    Status,
    /// End everything.
    Down,
}

/// What the server holds. Written by `up`, read by the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The number of boxes.
    pub boxes: usize,
    /// Blank disks of each box at the start.
    pub disks: usize,
    /// The size of each.
    pub disk_bytes: u64,
    /// What boxes are.
    pub machine: Machine,
    /// The saved state they start from.
    pub template: PathBuf,
    /// The release of their kernel.
    pub kernel: String,
    /// Where DRBD's modules come from, for people.
    pub drbd: String,
    /// The daemon to install; none for boxes without one.
    pub daemon: Option<PathBuf>,
    /// The directory for sockets.
    pub run: PathBuf,
}

impl Config {
    /// Where the server listens.
    pub fn control(&self) -> PathBuf {
        self.run.join("control")
    }
}
