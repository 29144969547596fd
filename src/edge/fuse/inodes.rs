//! Inode numbers: a path has the same one for as long as anybody knows it, and again when it comes back.

use std::collections::HashMap;

/// /cluster itself, by FUSE's own rule.
pub const ROOT: u64 = 1;

struct Known {
    path: String,
    /// How often the kernel was told this number and has not forgotten it yet.
    lookups: u64,
}

/// The paths that the kernel knows, by number.
#[derive(Default)]
pub struct Inodes {
    known: HashMap<u64, Known>,
}

impl Inodes {
    /// The path of a number that was given out.
    pub fn path(&self, ino: u64) -> Option<String> {
        if ino == ROOT {
            return Some(String::new());
        }
        self.known.get(&ino).map(|known| known.path.clone())
    }

    /// The number that the path has or would have: a listing names numbers without giving them out.
    pub fn number(&self, path: &str) -> u64 {
        if path.is_empty() {
            return ROOT;
        }
        let mut ino = hash(path);
        while ino <= ROOT || self.known.get(&ino).is_some_and(|known| known.path != path) {
            ino = ino.wrapping_add(1);
        }
        ino
    }

    /// Gives the path's number to the kernel once more.
    pub fn give(&mut self, path: &str) -> u64 {
        let ino = self.number(path);
        if ino != ROOT {
            let known = self.known.entry(ino).or_insert_with(|| Known { path: path.to_owned(), lookups: 0 });
            known.lookups += 1;
        }
        ino
    }

    /// The kernel gives `count` back.
    pub fn forget(&mut self, ino: u64, count: u64) {
        if let Some(known) = self.known.get_mut(&ino) {
            known.lookups = known.lookups.saturating_sub(count);
            if known.lookups == 0 {
                self.known.remove(&ino);
            }
        }
    }
}

/// FNV-1a: the same number for the same path on every box and after every restart.
fn hash(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_until_it_is_given_back_as_often_as_it_was_given() {
        let mut inodes = Inodes::default();
        let ino = inodes.give("volumes/db");
        assert_eq!(inodes.give("volumes/db"), ino);
        assert_ne!(inodes.give("volumes/web"), ino);
        inodes.forget(ino, 1);
        assert_eq!(inodes.path(ino).as_deref(), Some("volumes/db"));
        inodes.forget(ino, 1);
        assert_eq!(inodes.path(ino), None);
        assert_eq!(inodes.number("volumes/db"), ino);
        inodes.forget(ROOT, 5);
        assert_eq!(inodes.path(ROOT).as_deref(), Some(""));
    }

    #[test]
    fn two_paths_never_share_a_number() {
        let mut inodes = Inodes::default();
        let taken = hash("volumes/db");
        inodes.known.insert(taken, Known { path: "another".to_owned(), lookups: 1 });
        assert_eq!(inodes.give("volumes/db"), taken.wrapping_add(1));
    }
}
