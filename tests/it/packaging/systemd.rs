//! The units of `deploy/systemd`, held against systemd's own tools.

use std::path::Path;
use std::process::{Command, Output};

use super::takes;

/// Units, and how much systemd may find to be open, of 100: that they speak to the network, and what each says.
const UNITS: [(&str, &str); 3] = [("causeway", "20"), ("causeway-agent", "18"), ("causeway-member", "13")];

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/systemd/{name}.service"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn analyze(arguments: &[&str]) -> Output {
    let output = Command::new("systemd-analyze").args(arguments).output();
    output.expect("systemd-analyze runs; Debian's package `systemd` has it")
}

#[test]
fn units_are_valid_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, most) in UNITS {
        // Where the program is installed on this machine, if at all, is not of interest.
        let text = unit(name).replace("/usr/local/bin/causeway", env!("CARGO_BIN_EXE_causeway"));
        let path = dir.path().join(format!("{name}.service"));
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let threshold = format!("--threshold={most}");
        for arguments in [
            &["verify", "--man=no", "--recursive-errors=no", path][..],
            &["security", "--offline=true", "--no-pager", &threshold, path],
        ] {
            let output = analyze(arguments);
            let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}\n{out}");
        }
    }
}

#[test]
fn units_have_flags_that_are_known() {
    for (name, _) in UNITS {
        let text = unit(name);
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/causeway ")).unwrap();
        let example = text.lines().find_map(|line| line.split_once("CAUSEWAY_AGENT_FLAGS=--").map(|(_, rest)| rest));
        let example = example.map(|rest| format!("--{rest}")).unwrap_or_default();
        let line = line.replace("$CAUSEWAY_AGENT_FLAGS", &example).replace("%d", "/run/credentials");
        takes(&line.split_whitespace().collect::<Vec<_>>());
    }
}
