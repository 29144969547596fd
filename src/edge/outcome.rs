//! From a command that failed to what happens next.
//!
//! Why: lvm and drbd say most of what matters only in words. All these words are in one place, here, with the error
//! that they lead to; what is not known here is `Refused`, which is tried again and claims nothing.
//! What must not go in: running anything.

use super::run::RunError;
use crate::core::step::{StepClass, StepError};

/// Somebody has it open. DRBD's state -12 and 8.4's words, and what 9 adds to a refusal of another name (down, while a
/// Secondary is open for reading: -2); LVM's; the kernel's EBUSY.
const BUSY: [&str; 9] = [
    "held open",
    "(-12)",
    " opened by ",
    "Can't remove open logical volume",
    "contains a filesystem in use",
    "in use",
    "is used by another device",
    "resource busy",
    "Resource temporarily unavailable",
];

/// It is not there. drbdsetup's and drbdadm's words; LVM's.
const GONE: [&str; 7] = [
    "No such resource",
    "Unknown resource",
    "unknown resource",
    "not defined in your config",
    "Failed to find logical volume",
    "(127) Device minor not allocated",
    "No such file or directory",
];

/// 8.4 does not resize what is Primary nowhere.
const NEEDS_PRIMARY: &str = "(131) Need one Primary node to resize";

/// Whether a resize failed only because nobody is Primary.
pub fn needs_primary(error: &StepError) -> bool {
    error.text.contains(NEEDS_PRIMARY)
}

/// The step's error for a command's.
pub fn step_error(error: &RunError) -> StepError {
    let class = match error {
        RunError::Failed { stderr, .. } => class_of(stderr),
        RunError::Wedged { .. } => StepClass::Wedged,
        RunError::Start { .. } | RunError::Deadline { .. } | RunError::TooMuchOutput { .. } => {
            StepClass::Refused
        }
    };
    StepError { class, text: error.to_string().replace('\n', "; ") }
}

/// A refusal of our own.
pub fn refused(text: impl Into<String>) -> StepError {
    StepError { class: StepClass::Refused, text: text.into() }
}

/// What the words of a tool, or of the system, mean.
pub fn class_of(words: &str) -> StepClass {
    let says = |list: &[&str]| list.iter().any(|known| words.contains(known));
    if says(&BUSY) {
        StepClass::Busy
    } else if says(&GONE) {
        StepClass::Gone
    } else {
        StepClass::Refused
    }
}

/// A system call on a path that failed.
pub fn system_error(what: &str, error: &std::io::Error) -> StepError {
    StepError { class: class_of(&error.to_string()), text: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> RunError {
        RunError::Failed { argv: "drbdadm down db".into(), code: Some(11), stderr: stderr.into() }
    }

    #[test]
    fn the_tools_words_say_what_happens_next() {
        let open =
            "db: State change failed: (-12) Device is held open by someone\nadditional info from kernel:";
        let cases = [
            (open, StepClass::Busy),
            (
                "db: State change failed: (-2) Need access to UpToDate data\ndrbd1003 opened by cat (pid 7) at 2026",
                StepClass::Busy,
            ),
            ("  Logical volume holdfast-main/db.0 in use.", StepClass::Busy),
            ("db: No such resource", StepClass::Gone),
            ("1000: Failure: (127) Device minor not allocated", StepClass::Gone),
            ("modprobe: FATAL: Module drbd not found in directory /lib/modules/6.1.0", StepClass::Refused),
            ("db: State change failed: (-2) Need access to UpToDate data", StepClass::Refused),
            ("", StepClass::Refused),
        ];
        for (words, class) in cases {
            assert_eq!(step_error(&failed(words)).class, class, "{words}");
        }
        let wedged = RunError::Wedged { argv: "drbdsetup down db".into(), seconds: 60 };
        assert_eq!(step_error(&wedged).class, StepClass::Wedged);
    }

    #[test]
    fn a_resize_that_wants_a_primary_is_told_from_one_that_failed() {
        let words = "1002: Failure: (131) Need one Primary node to resize.\n";
        assert!(needs_primary(&step_error(&failed(words))));
        assert!(!needs_primary(&step_error(&failed("Failure: (130) Resize not allowed during resync."))));
    }

    #[test]
    fn an_error_is_one_line_with_the_command_in_it() {
        let text = step_error(&failed("one\ntwo")).text;
        assert_eq!(text, "drbdadm down db: exit code 11: one; two");
    }
}
