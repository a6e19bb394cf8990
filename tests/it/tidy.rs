//! Holds what the reader of the house relies on: the order of the rooms, purity, and small files.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from left to right: a room may use only names of rooms to its left.
const ROOMS: &[&str] = &[
    "config",
    "telemetry",
    "trust",
    "model",
    "feedback",
    "vip",
    "policy",
    "xds",
    "snapshot",
    "ads",
    "load",
    "store",
    "registry",
    "kube",
    "manifests",
    "member",
    "dns",
    "reconcile",
    "admin",
    "agent",
    "cli",
    "app",
    "fuzzing",
];

/// Rooms that do no I/O and know no clock.
const PURE: &[&str] = &["trust", "model", "feedback", "vip", "xds", "snapshot"];

/// What a pure room must not name.
const IMPURE_NAMES: &[&str] =
    &["tokio::", "tonic::", "kube::", "k8s_openapi::", "Instant::now", "SystemTime::now", "std::fs", "std::net::Tcp"];

/// Names of Causeway's own rooms that the embeddable xDS library must not know.
const NOT_IN_LIBRARY: &[&str] = &["model", "feedback", "vip", "policy", "xds", "trust", "config"];

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Each source file with its room (the first part of its path below `src/`).
fn files() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    source_files(&src, &mut found);
    found
        .into_iter()
        .filter_map(|path| {
            let below = path.strip_prefix(&src).expect("below src").to_owned();
            let room = below.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("source is text");
            Some((room, below, text))
        })
        .collect()
}

/// The code of a file without its comments, so that prose may name what it likes.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(i, line)| (i + 1, line))
}

/// The rooms that a line names, by `crate::room` or inside `use crate::{…}`.
fn rooms_named(line: &str) -> Vec<&'static str> {
    let mut named = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let candidates: Vec<String> = match rest.strip_prefix('{') {
            Some(list) => list.split([',', '{', '}']).map(|part| word(part.trim())).collect(),
            None => vec![word(rest)],
        };
        named.extend(ROOMS.iter().copied().filter(|room| candidates.iter().any(|c| c == room)));
    }
    named
}

#[test]
fn a_room_uses_only_rooms_to_its_left() {
    let position = |room: &str| ROOMS.iter().position(|r| *r == room);
    let mut wrong = Vec::new();
    for (room, path, text) in files() {
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(own) = position(&room) else {
            wrong.push(format!("{}: `{room}` is not a room of the house", path.display()));
            continue;
        };
        for (number, line) in code(&text) {
            for named in rooms_named(line) {
                if position(named).is_some_and(|other| other > own) {
                    wrong.push(format!("{}:{number}: `{room}` names `{named}`, to its right", path.display()));
                }
                if ["snapshot", "ads"].contains(&room.as_str()) && NOT_IN_LIBRARY.contains(&named) {
                    wrong.push(format!("{}:{number}: the xDS library names `{named}`", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_touch_neither_io_nor_clock() {
    let mut wrong = Vec::new();
    for (room, path, text) in files() {
        if !PURE.contains(&room.as_str()) || path.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            for name in IMPURE_NAMES.iter().filter(|name| line.contains(**name)) {
                wrong.push(format!("{}:{number}: `{room}` is pure and names `{name}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small_enough_to_read() {
    let mut wrong = Vec::new();
    for (_, path, text) in files() {
        let lines = text.lines().count();
        if lines > 700 && !path.ends_with("tests.rs") {
            wrong.push(format!("{}: {lines} lines; is it still one room?", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
