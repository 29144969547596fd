//! `holdfast status`

use super::{Args, Failure, Outcome, fail, say};

/// Prints the tree's `status`.
pub(super) fn run(args: &Args) -> Outcome {
    if let Some(word) = args.words.first() {
        return Err(Failure::used_wrongly(format_args!("holdfast status takes no {word:?}")));
    }
    let path = args.mount().join("status");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            say(text.trim_end());
            Ok(())
        }
        Err(error) => fail(format!(
            "{} cannot be read ({error}): is the daemon running? systemctl status holdfast",
            path.display()
        )),
    }
}
