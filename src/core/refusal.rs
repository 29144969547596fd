//! A refusal: the errno a shell sees and the sentence a person reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The closed table of errors that a write, mkdir, rmdir or rename may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errno {
    /// EINVAL: a bad value.
    Invalid,
    /// ENOSPC: no room; the text says where and how much is missing.
    NoSpace,
    /// EBUSY: in use.
    Busy,
    /// EEXIST: the name is taken.
    Exists,
    /// ENOENT: no such volume, box, pool or group.
    NotFound,
    /// EPERM: not a verb here.
    NotPermitted,
    /// EROFS: no leader, or no quorum for it.
    ReadOnly,
    /// ETIMEDOUT: not committed in time; the text says whether it still may be.
    TimedOut,
    /// EOPNOTSUPP: this kernel's DRBD, or this version of holdfast, cannot.
    NotSupported,
    /// EIO: the boxes tried and failed.
    Failed,
}

impl Errno {
    /// The name as errno(3) spells it.
    pub fn name(self) -> &'static str {
        match self {
            Errno::Invalid => "EINVAL",
            Errno::NoSpace => "ENOSPC",
            Errno::Busy => "EBUSY",
            Errno::Exists => "EEXIST",
            Errno::NotFound => "ENOENT",
            Errno::NotPermitted => "EPERM",
            Errno::ReadOnly => "EROFS",
            Errno::TimedOut => "ETIMEDOUT",
            Errno::NotSupported => "EOPNOTSUPP",
            Errno::Failed => "EIO",
        }
    }
}

/// How much of a bad input a sentence quotes.
const QUOTE_MAX_CHARS: usize = 80;

/// The input for a sentence: in quotes, cut off where it is long.
pub fn quote(input: &str) -> String {
    let short: String = input.chars().take(QUOTE_MAX_CHARS).collect();
    let more = if short.len() < input.len() { "..." } else { "" };
    format!("{short:?}{more}")
}

/// Why something was not done: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the system call answers.
    pub errno: Errno,
    /// One sentence: the input in quotes, the reason, the next thing to try.
    pub text: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}
