//! A process for one test: what it holds in memory is nobody else's, whatever runs beside it.

use std::{
    env,
    process::{Command, Stdio},
    thread,
};

/// Whether this process is for the calling test alone. If it isn't, the test has run in one that is, and has passed.
///
/// # Panics
/// If it has failed there.
pub(crate) fn is_apart() -> bool {
    let name = thread::current().name().expect("a test's thread has its name").to_owned();
    if env::var_os(VARIABLE).is_some() {
        return true;
    }
    let program = env::current_exe().expect("this program");
    let run = Command::new(program)
        .args([&*name, "--exact", "--include-ignored", "--nocapture"])
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a process");
    // What it has measured, or why it fails.
    eprint!("{}", String::from_utf8_lossy(&run.stderr));
    let has_run = String::from_utf8_lossy(&run.stdout).contains("1 passed");
    assert!(run.status.success() && has_run, "{name} failed in a process of its own: {}", run.status);
    false
}

const VARIABLE: &str = "TESTS_APART";
