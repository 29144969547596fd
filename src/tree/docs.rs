//! README and docs/tree.md, made from the table.

use std::fmt::Write;

use super::{
    path::is_slot,
    table::{Kind, Row, TABLE, Verb},
};

const HEAD: &str = "\
/cluster: a pool of replicated block devices, driven by mkdir, echo and rmdir.

    mkdir volumes/db                     an inert volume
    echo 20G > volumes/db/size           builds it: volumes/db/device
    cat volumes/db/state                 ready, syncing 43%, degraded, ...
    echo 40G > volumes/db/size           grows it, in use
    echo box1 box2 > volumes/db/place    on these boxes
    rmdir volumes/db                     removes it and its data
    echo main > nodes/box1/disks/sdb/pool   hands a blank disk over
";

const RULES: [&str; 6] = [
    "A file is a wish (w: mode 0644, token 0600; it reads back what was asked) or a fact (0444).",
    "One write is one value on one line, at most 4096 bytes: use echo and >, not >>. What is read may be written back.",
    "A write returns when the wish is durable, not when the work is done: `holdfast wait`, or poll(2) on a volume's state.",
    "A refused write changed nothing. Why: in errors, and in the volume's error.",
    "Sizes are binary: 20G, 512M, or bytes. `default` hands a value back to the group, `-` means none or not known.",
    "Errors: EINVAL bad value, ENOSPC no room, EBUSY in use, EEXIST, ENOENT, EPERM not a verb here, EROFS no leader, \
     ETIMEDOUT not committed in time, EOPNOTSUPP not with this DRBD or version, EIO tried and failed.",
];

fn verbs(row: &Row) -> &'static str {
    match (&row.mkdir, &row.rmdir) {
        (Verb::Asks(_), Verb::Asks(_)) => "mkdir, rmdir",
        (Verb::Asks(_), Verb::Never(..)) => "mkdir",
        (Verb::Never(..), Verb::Asks(_)) => "rmdir",
        (Verb::Never(..), Verb::Never(..)) => "",
    }
}

/// The text of /cluster/README.
pub fn readme() -> String {
    let mut text = format!("{HEAD}\n");
    for rule in RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {rule}");
    }
    let label = |row: &Row| {
        let mark = match row.kind() {
            Kind::Dir => "/",
            Kind::Fact => "",
            Kind::Wish | Kind::Secret => " (w)",
            Kind::Link => " ->",
        };
        let depth = row.path.matches('/').count();
        format!("{}{}{mark}", "  ".repeat(depth), row.last())
    };
    let rows = || TABLE.iter().skip(1);
    let width = rows().map(|row| label(row).len()).max().unwrap_or(0);
    let _ = writeln!(text, "\nCapital words stand for your names.\n");
    for row in rows() {
        let _ = writeln!(text, "{:width$}  {}", label(row), row.help);
    }
    text
}

/// docs/tree.md.
pub fn manual() -> String {
    let mut text = String::from(
        "# The tree /cluster\n\n\
         Made from the table in `src/tree/table.rs`. Do not edit: `HOLDFAST_RENEW=1 cargo test --test tree_pure` writes \
         it again.\n\n",
    );
    for rule in RULES {
        let _ = writeln!(text, "- {rule}");
    }
    let _ = writeln!(text, "\nCapital words stand for users' names.\n");
    let _ = writeln!(text, "| path | mode | verbs | what |\n|---|---|---|---|");
    for row in TABLE {
        let (mode, verbs) = match row.kind() {
            Kind::Dir => ("directory", verbs(row)),
            Kind::Fact => ("0444", "read"),
            Kind::Wish => ("0644", "read, write"),
            Kind::Secret => ("0600", "read, write"),
            Kind::Link => ("symlink", "readlink"),
        };
        let path: Vec<String> = row
            .path
            .split('/')
            .map(|word| if is_slot(word) { format!("*{word}*") } else { word.to_owned() })
            .collect();
        let path = if row.path.is_empty() { "/".to_owned() } else { path.join("/") };
        let _ = writeln!(text, "| {path} | {mode} | {verbs} | {} |", row.help.replace('|', "\\|"));
    }
    text
}
