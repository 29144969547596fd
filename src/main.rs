//! argv.
fn main() {}
