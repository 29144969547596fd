//! Small worlds, all of them: every state of a volume on three boxes, as far as a rule looks at it, goes through the
//! core, and every answer is held against the invariants. `HOLDFAST_SMALL=all` walks the long lists too.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod checks;
mod decide;
mod every;
mod ground;
mod machine;
mod plans;
mod quiet;
mod regressions;
mod states;
mod wishes;
