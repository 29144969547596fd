//! `holdfast status`

use super::{Args, Outcome, say, unreadable};

/// Prints the tree's `status`.
pub(super) fn run(args: &Args) -> Outcome {
    args.no_words("status")?;
    let path = args.mount().join("status");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            say(text.trim_end());
            Ok(())
        }
        Err(error) => Err(unreadable(&path, &error)),
    }
}
