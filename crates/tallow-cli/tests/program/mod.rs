//! The binary as a test runs it.

// Helpers of a test may panic like the test itself; not every test needs all of them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in a folder.
pub(crate) fn run(at: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(arguments).output().unwrap()
}

/// The output of a command that must succeed.
pub(crate) fn printed(at: &Path, arguments: &[&str]) -> String {
    let output = run(at, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail says; it prints nothing else.
pub(crate) fn fault(at: &Path, arguments: &[&str]) -> String {
    let output = run(at, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}
