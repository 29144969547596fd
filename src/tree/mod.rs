//! PURE: the tree /cluster: what is in it, what a read prints, what a write means.
//!
//! One static [`table`] defines every file and directory; lookup, listing, reading, writing, the README and docs/tree.md
//! all come from it. A read takes a [`View`](crate::core::view::View) and gives text; a write, mkdir or rmdir gives a
//! [`Wish`](crate::core::wish::Wish) for the leader, or a refusal with its sentence. Here names and values are checked
//! for what they are; whether a wish can be granted is for `admit` to say.
//!
//! What must not go in: FUSE, files, clocks, threads; anything that waits.
//!
//! Paths are relative to /cluster, without a leading slash: `volumes/db/size`; the empty path is /cluster itself.

mod docs;
mod path;
mod read;
mod read_volume;
mod table;
mod text;
mod value;
mod verbs;
mod write;

pub use docs::{manual, readme};
pub use path::{Entry, NodeRef, about, list, read, resolve, target};
pub use table::Kind;
pub use verbs::{fixed, mkdir, rename, rmdir, write};

/// The longest value that a write may have, in bytes.
pub const VALUE_MAX_BYTES: usize = 4096;

/// The permission bits of every directory.
pub const DIR_MODE: u16 = 0o555;
