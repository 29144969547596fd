//! The command line, as a person uses it.
#![allow(clippy::unwrap_used)]

use std::{fs::OpenOptions, process::Command};

#[test]
fn what_could_not_be_said_is_an_error_but_a_closed_pipe_is_none() {
    let holdfast = || Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = holdfast().arg("--help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("holdfast: standard output: No space left on device"), "{said}");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = holdfast().arg("--help").stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
