//! The image's recipe. No image is built here; that the program runs from one is in `image`.

use std::path::Path;
use std::process::Command;

const RECIPE: &str = include_str!("../../../deploy/container/Containerfile");
const TAKEN: &str = include_str!("../../../.dockerignore");
/// What makes the program static.
pub(super) const STATIC: &str = r#"RUSTFLAGS="-C target-feature=+crt-static""#;
const MANIFEST: &str = include_str!("../../../Cargo.toml");

/// Instructions with their arguments, with continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let lines =
        RECIPE.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let split = |line: &str| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()));
    lines.lines().filter_map(split).collect()
}

fn of<'a>(instructions: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(word, _)| word == name).map(|(_, rest)| rest.as_str()).collect()
}

#[test]
fn the_image_runs_one_program_as_nobody_in_particular() {
    let all = instructions();
    let from = of(&all, "FROM");
    let [build, run] = from.as_slice() else { panic!("a stage that builds and one that runs: {from:?}") };
    let rust = MANIFEST.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert_eq!(*build, format!("docker.io/library/rust:{rust}-slim-bookworm AS build"), "rust-version of Cargo.toml");
    assert_eq!(*run, "scratch", "nothing but what is copied");
    let [made] = of(&all, "RUN")[..] else { panic!("one build") };
    assert!(made.contains(STATIC) && made.contains("--target"), "{made}");
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let stage = &all[last..];
    assert_eq!(of(stage, "USER"), ["65532:65532"], "numbers, or Kubernetes cannot tell that it is not root");
    assert_eq!(of(stage, "ENTRYPOINT"), ["[\"/usr/local/bin/causeway\"]"], "no shell between");
    assert_eq!(
        of(stage, "COPY"),
        [
            "--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
            "--from=build /causeway /usr/local/bin/causeway",
        ]
    );
    for word in ["CMD", "VOLUME", "EXPOSE", "ADD"] {
        assert!(of(&all, word).is_empty(), "{word} is not needed");
    }
}

#[test]
fn only_libraries_of_the_c_compiler_are_loaded_which_can_be_linked_with_as_a_whole() {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_causeway")).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let library = line.split_whitespace().next().unwrap_or_default();
        let known = ["linux-vdso.so", "libc.so", "libm.so", "libgcc_s.so", "/lib64/ld-linux", "/lib/ld-linux"];
        assert!(known.iter().any(|known| library.starts_with(known)), "{library}: the image does not have it");
    }
}

#[test]
fn the_build_is_given_all_that_it_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let taken: Vec<&str> = TAKEN.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in &taken {
        assert!(root.join(path).exists(), ".dockerignore takes {path}, which is not there");
    }
    // Tests are not built there.
    let included = ["-rhoE", "--exclude=*tests.rs", r"include_(str|bytes)!\([^)]*", "src"];
    let output = Command::new("grep").args(included).current_dir(root).output().expect("grep runs");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("plugins/components"), "it is found: {text}");
    for line in text.lines() {
        let Some((_, path)) = line.rsplit_once("../") else { continue };
        let folder = path.split('/').next().unwrap_or_default();
        let is_there = taken.contains(&folder) || root.join("src").join(folder).exists();
        assert!(is_there, "the build reads {path}, and .dockerignore leaves {folder} out");
    }
}
