//! What is open: one snapshot per open file or directory, and who waits for a file to change.

use std::collections::HashMap;

/// An open file. `W` is what wakes a waiter.
pub struct OpenFile<W> {
    /// Which.
    pub path: String,
    /// What was last read through it; None before the first read, and where the file was gone.
    pub text: Option<Vec<u8>>,
    /// Somebody polls and is told when the text changes.
    pub waiter: Option<W>,
}

/// Things that are open, by the number that the kernel has for them.
pub struct Handles<T> {
    next: u64,
    open: HashMap<u64, T>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { next: 1, open: HashMap::new() }
    }
}

impl<T> Handles<T> {
    /// Keeps it and gives its number.
    pub fn add(&mut self, what: T) -> u64 {
        let handle = self.next;
        self.next += 1;
        self.open.insert(handle, what);
        handle
    }

    /// What has that number.
    pub fn get(&mut self, handle: u64) -> Option<&mut T> {
        self.open.get_mut(&handle)
    }

    /// It was closed.
    pub fn remove(&mut self, handle: u64) {
        self.open.remove(&handle);
    }

    /// All.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.open.values_mut()
    }
}
