//! Helm, and the chart of `deploy/helm`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::built;

/// The chart's folder.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/causeway");

/// Helm, built by `tests/helm/build.sh` where it is not there. It reads and keeps nothing of the user's.
fn helm() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
    let home = HOME.get_or_init(|| tempfile::tempdir().expect("a folder")).path();
    let mut command = Command::new(PATH.get_or_init(|| built("tests/helm/build.sh")));
    for (name, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
        command.env(name, home.join(folder));
    }
    command.env_remove("KUBECONFIG");
    command
}

/// Runs Helm without a cluster.
pub fn run(arguments: &[&str]) -> Output {
    helm().args(arguments).output().expect("helm runs")
}

/// What Helm complains of. That the chart has links is said each time: they are what keeps it from having copies.
pub fn complaints(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let others = errors.lines().filter(|line| !line.contains("found symbolic link in path"));
    others.collect::<Vec<_>>().join("\n")
}

/// Runs Helm on a cluster; it must succeed and have nothing to complain of.
pub fn on(kubeconfig: &Path, arguments: &[&str]) -> String {
    let output = helm().args(arguments).env("KUBECONFIG", kubeconfig).output().expect("helm runs");
    said(arguments, &output)
}

/// What Helm printed.
fn said(arguments: &[&str], output: &Output) -> String {
    let errors = complaints(output);
    assert!(output.status.success() && errors.is_empty(), "helm {arguments:?}: {errors}");
    String::from_utf8(output.stdout.clone()).expect("Helm prints UTF-8")
}

/// The chart rendered in a namespace; `settings` as of `--set`.
pub fn template(namespace: &str, settings: &[&str]) -> String {
    let mut arguments = vec!["template", "causeway", CHART, "--namespace", namespace];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    said(&arguments, &run(&arguments))
}
