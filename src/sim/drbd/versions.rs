//! The tree of all writes ever made.
//!
//! Why: a check asks of any two contents whether one came after the other, millions of times, so each version knows its
//! parent and one far ancestor (a skew-binary jump pointer): the way up takes logarithmic time.

use super::types::Version;

#[derive(Clone, Copy)]
struct Entry {
    parent: u32,
    jump: u32,
    depth: u32,
}

/// All versions of all volumes; they share the zeroes that they begin with.
pub(super) struct Versions(Vec<Entry>);

impl Versions {
    pub(super) fn new() -> Self {
        Self(vec![Entry { parent: 0, jump: 0, depth: 0 }])
    }

    fn entry(&self, at: u32) -> Entry {
        self.0.get(at as usize).copied().unwrap_or(self.0[0])
    }

    /// What is there after one more write on `parent`.
    pub(super) fn child(&mut self, parent: Version) -> Version {
        let above = self.entry(parent.0);
        let far = self.entry(above.jump);
        let even = above.depth - far.depth == far.depth - self.entry(far.jump).depth;
        let jump = if even { far.jump } else { parent.0 };
        let id = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(Entry { parent: parent.0, jump, depth: above.depth + 1 });
        Version(id)
    }

    /// Whether `older` is `newer` or one of its ancestors.
    pub(super) fn descends(&self, newer: Version, older: Version) -> bool {
        let goal = self.entry(older.0).depth;
        let mut at = newer.0;
        loop {
            let entry = self.entry(at);
            if entry.depth <= goal {
                return at == older.0;
            }
            at = if self.entry(entry.jump).depth >= goal { entry.jump } else { entry.parent };
        }
    }
}
