//! What can be typed at the prompt, by example.

use std::fmt::Write;

/// An example, and what it does.
const ROWS: [(&str, &str); 36] = [
    ("", "in the tree of the leader, as a shell would:"),
    ("mkdir volumes/db", "also rmdir, cat, ls, mv"),
    ("write volumes/db/size 1G", "echo 1G > volumes/db/size"),
    ("on box2 cat health", "the same in the tree of a box"),
    ("ask box2 rmdir volumes/db", "the same, and nobody waits for the answer"),
    ("", "using a volume on a box:"),
    ("use db box1", "open it for writing: with DRBD 9 that makes it Primary there"),
    ("put db box1", "write something"),
    ("get db box1", "read, and compare with what was written last"),
    ("unuse db box1", "close it"),
    ("", "boxes and wires:"),
    ("crash box1", "kill its daemon"),
    ("start box1", "start it again"),
    ("power-off box1", "pull the plug"),
    ("power-on box1", "the daemon starts a second later"),
    ("cut box1 box2", "nothing passes between the two"),
    ("cut-from box1 box2", "nothing passes from the first to the second"),
    ("mend", "undoes cut, cut-from, blind, stale and fail-step"),
    ("usurp box2", "it takes itself for the leader"),
    ("", "disks:"),
    ("plug box1 sdc 4G", "a new blank disk; a further word says what is on it"),
    ("pull box1 sdc", "take it out"),
    ("replug box1 disk4 sdc", "put one back in, by its serial (show disks)"),
    ("break-disk box1 sdc", "everything on it fails"),
    ("wipe box1 sdc", "make it blank"),
    ("", "what a daemon does and sees:"),
    ("fail-step box1 before", "its next step fails; after: is done and said to have failed"),
    ("blind box1 lvm", "it cannot look at lvm, disks, conf or drbd"),
    ("stale box1 500ms", "what it sees is told so much later"),
    ("", "the world:"),
    ("show volumes", "also boxes, disks, health, plan, steps (since the last time)"),
    ("run 10s", "time jumps by so much"),
    ("quiet", "time jumps until nothing is done any more"),
    ("cluster 5 8 2G", "another one: 5 boxes, DRBD 8, a disk of 2G in each, all in one cluster"),
    ("boxes 3 9", "the same without disks and cluster; then plug, init box1 sdb, join box2"),
    ("quit", "unmount everything and end"),
];

/// The text of `help`.
pub(super) fn text() -> String {
    let width = ROWS.iter().map(|(example, _)| example.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (example, what) in ROWS {
        // Writing to a String cannot fail.
        let _ = match example {
            "" => writeln!(text, "{what}"),
            example => writeln!(text, "  {example:width$}  {what}"),
        };
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Command;

    #[test]
    fn every_example_can_be_typed() {
        for (example, _) in ROWS.iter().filter(|(example, _)| !["", "quit"].contains(example)) {
            assert!(Command::parse(example).is_ok(), "{example}");
        }
    }
}
