//! The inputs of the fuzz targets (`tests/fuzz`), those that once showed a mistake among them, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use targets::TARGETS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("it is readable").file_name().into_string().expect("it is text")).collect()
}

#[test]
fn every_input_is_taken_or_refused() {
    let mut wrong = Vec::new();
    for (name, target) in TARGETS {
        let corpus = folder("corpus").join(name);
        for input in entries(&corpus) {
            let bytes = fs::read(corpus.join(&input)).expect("it is readable");
            if catch_unwind(|| target(&bytes)).is_err() {
                wrong.push(format!("{name}: {input}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these show mistakes, see above: {wrong:?}");
}

#[test]
fn every_target_has_a_program_and_inputs() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "one is there twice");
    assert_eq!(entries(&folder("corpus")), names);
    let programs: BTreeSet<String> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(entries(&folder("fuzz_targets")), programs);
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("the package's manifest");
    for name in &names {
        assert!(!entries(&folder("corpus").join(name)).is_empty(), "{name} has no input");
        let program = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&program), "Cargo.toml has no {name}");
        let text = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).expect("the program");
        assert!(text.contains(&format!("causeway_fuzz::{name}(input)")), "{name}.rs calls another target");
    }
}

/// Packages of a `Cargo.lock`, each with its version.
fn locked(path: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("it is readable");
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.strip_suffix('"')?.to_owned());
    let lines: Vec<&str> = text.lines().collect();
    lines.windows(2).filter_map(|pair| Some((value(pair[0], "name = \"")?, value(pair[1], "version = \"")?))).collect()
}

#[test]
fn the_fuzzer_is_built_of_the_same_versions() {
    let (own, fuzzed) = (locked("Cargo.lock"), locked("tests/fuzz/Cargo.lock"));
    let names: BTreeSet<&String> = own.iter().map(|(name, _)| name).collect();
    let other: Vec<_> = fuzzed.difference(&own).filter(|(name, _)| names.contains(name)).collect();
    let remedy = "cp Cargo.lock tests/fuzz/ && cargo metadata --manifest-path tests/fuzz/Cargo.toml >/dev/null";
    assert!(fuzzed.len() > 100 && other.is_empty(), "{other:?} are locked otherwise in tests/fuzz: {remedy}");
}
