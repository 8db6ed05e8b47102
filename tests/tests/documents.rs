//! Documents name the tests that would fail if they weren't true: those tests are there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = vec![];
    for room in ["tests/tests", "tests/fuzz", "server/src", "server/tests", "shared/protocol/src"] {
        read(&root.join(room), &mut sources);
    }
    assert!(sources.len() > 100, "they are somewhere else");
    let (mut named, mut missing) = (0, vec![]);
    for document in ["MERCURE.md", "SECURITY.md"] {
        let text = fs::read_to_string(root.join("server").join(document)).unwrap();
        for (index, line) in text.lines().enumerate() {
            // Every second piece is code.
            for name in line.split('`').skip(1).step_by(2).filter(|code| is_name(code)) {
                named += 1;
                if !sources.iter().any(|(path, source)| is_in(name, path, source)) {
                    missing.push(format!("{document}:{}: {name}", index + 1));
                }
            }
        }
    }
    assert!(named > 150, "{named} are named");
    assert_eq!(missing, [] as [String; 0]);
}

/// Whether it is written as the tests are: `room::name`, of which the beginning or the end may be `…`, or `room::*`.
fn is_name(code: &str) -> bool {
    let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*…".contains(c);
    code.contains("::") && code.chars().all(of_a_name)
}

/// Whether a source has the test of a name, or is a room of that name: a file or a directory.
fn is_in(name: &str, path: &Path, source: &str) -> bool {
    let path = path.with_extension("").to_string_lossy().replace('/', "::");
    let path = format!("::{path}::").replace("::src::", "::").replace("::targets::", "::");
    let is_under = |rooms: &str| path.contains(&format!("::{}::", rooms.trim_matches([':', '…'])));
    let (rooms, last) = name.rsplit_once("::").unwrap();
    let rooms = rooms.trim_end_matches("::tests");
    if is_under(name) {
        return true;
    }
    let begin = format!("fn {}", last.trim_end_matches(['…', '*']));
    let is_whole = !last.ends_with(['…', '*']);
    let has =
        source.match_indices(&begin).any(|(at, _)| !is_whole || source[at + begin.len()..].starts_with(['(', '<']));
    has && (rooms == "…" || is_under(rooms))
}

fn read(directory: &Path, sources: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
}
