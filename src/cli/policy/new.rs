//! `causeway policy new`: a policy that builds and passes its own test, to begin with.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

use super::super::args::{Language, NewPolicy};
use crate::policy::World;

/// A file by its path, and what it says.
type File = (&'static str, &'static str);

/// The worlds.
const WIT: &[File] = &[
    ("wit/policy.wit", include_str!("../../../plugins/wit/policy.wit")),
    ("wit/lb.wit", include_str!("../../../plugins/wit/lb.wit")),
    ("wit/vip.wit", include_str!("../../../plugins/wit/vip.wit")),
];

/// The SDK, of the same version as this binary.
const SDK: &[File] = &[
    ("causeway-policy/Cargo.toml", include_str!("../../../plugins/templates/rust/sdk.toml.txt")),
    ("causeway-policy/src/bindings.rs", include_str!("../../../plugins/sdk/src/bindings.rs")),
    ("causeway-policy/src/lb.rs", include_str!("../../../plugins/sdk/src/lb.rs")),
    ("causeway-policy/src/lb/groups.rs", include_str!("../../../plugins/sdk/src/lb/groups.rs")),
    ("causeway-policy/src/lb/tests.rs", include_str!("../../../plugins/sdk/src/lb/tests.rs")),
    ("causeway-policy/src/lb/usable.rs", include_str!("../../../plugins/sdk/src/lb/usable.rs")),
    ("causeway-policy/src/lib.rs", include_str!("../../../plugins/sdk/src/lib.rs")),
    ("causeway-policy/src/log.rs", include_str!("../../../plugins/sdk/src/log.rs")),
    ("causeway-policy/src/memory.rs", include_str!("../../../plugins/sdk/src/memory.rs")),
    ("causeway-policy/src/settings.rs", include_str!("../../../plugins/sdk/src/settings.rs")),
    ("causeway-policy/src/settings/tests.rs", include_str!("../../../plugins/sdk/src/settings/tests.rs")),
    ("causeway-policy/src/testing.rs", include_str!("../../../plugins/sdk/src/testing.rs")),
    ("causeway-policy/src/testing/envelope.rs", include_str!("../../../plugins/sdk/src/testing/envelope.rs")),
    ("causeway-policy/src/vip.rs", include_str!("../../../plugins/sdk/src/vip.rs")),
];

const RUST: &[File] = &[
    ("Cargo.toml", include_str!("../../../plugins/templates/rust/Cargo.toml.txt")),
    (".cargo/config.toml", include_str!("../../../plugins/.cargo/config.toml")),
    (".gitignore", "target\n"),
];

const JAVASCRIPT: &[File] = &[
    ("package.json", include_str!("../../../plugins/templates/js/package.json.txt")),
    ("test/host.js", include_str!("../../../plugins/examples-js/test/host.js")),
    (".gitignore", "node_modules\n*.wasm\n"),
];

fn own(world: World, language: Language) -> &'static [File] {
    match (language, world) {
        (Language::Rust, World::Lb) => &[("src/lib.rs", include_str!("../../../plugins/templates/rust/src/lb.rs"))],
        (Language::Rust, World::Vip) => &[("src/lib.rs", include_str!("../../../plugins/templates/rust/src/vip.rs"))],
        (Language::Js, World::Lb) => &[
            ("policy.js", include_str!("../../../plugins/templates/js/lb.js")),
            ("test/policy.test.js", include_str!("../../../plugins/templates/js/lb.test.js")),
        ],
        (Language::Js, World::Vip) => &[
            ("policy.js", include_str!("../../../plugins/templates/js/vip.js")),
            ("test/policy.test.js", include_str!("../../../plugins/templates/js/vip.test.js")),
        ],
    }
}

/// Writes the policy into a folder of its own, and says what comes next.
pub(super) fn run(args: &NewPolicy, out: &mut dyn Write) -> anyhow::Result<()> {
    let (name, world) = (args.name.as_str(), args.kind.world());
    if !is_crate_name(name) {
        bail!("{name:?} is no name for a policy: use lower case letters, digits and dashes, beginning with a letter");
    }
    let folder = args.dir.clone().unwrap_or_else(|| name.into());
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is there already and not empty; choose another --dir", folder.display());
    }
    let common: &[&[File]] = match args.lang {
        Language::Rust => &[WIT, SDK, RUST],
        Language::Js => &[WIT, JAVASCRIPT],
    };
    for (path, text) in common.iter().copied().chain([own(world, args.lang)]).flatten() {
        let text = text.replace("{{name}}", name).replace("{{world}}", world.name());
        write_file(&folder.join(path), &text)?;
    }
    let component = match args.lang {
        Language::Rust => format!("target/wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_")),
        Language::Js => format!("{name}.wasm"),
    };
    let steps = match args.lang {
        Language::Rust => {
            "cargo test\n  rustup target add wasm32-unknown-unknown\n  cargo build --release --target wasm32-unknown-unknown"
        }
        Language::Js => "npm install\n  npm test\n  npm run build",
    };
    writeln!(out, "{} is there. Next:\n\n  cd {}\n  {steps}", folder.display(), folder.display())?;
    writeln!(out, "  causeway policy upload {name} {component}\n")?;
    let field = match world {
        World::Lb => "loadBalancing",
        World::Vip => "vip",
    };
    writeln!(out, "and in the access: spec.policies.{field}: {{name: {name}, config: {{}}}}")?;
    Ok(())
}

fn is_crate_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && !name.ends_with('-')
        && name.chars().all(is_part)
}

fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::{SDK, WIT};

    fn files(folder: PathBuf, all: &mut BTreeSet<PathBuf>) {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(path, all);
            } else {
                all.insert(path);
            }
        }
    }

    #[test]
    fn the_whole_sdk_is_written() {
        let plugins = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("plugins");
        for (from, to, written) in [("sdk/src", "causeway-policy/src", SDK), ("wit", "wit", WIT)] {
            let mut there = BTreeSet::new();
            files(plugins.join(from), &mut there);
            let wanted = written.iter().filter_map(|(path, _)| path.strip_prefix(to));
            let wanted: BTreeSet<PathBuf> = wanted.map(|path| plugins.join(from).join(&path[1..])).collect();
            assert_eq!(there, wanted);
        }
    }
}
