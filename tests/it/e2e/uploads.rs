//! Components that nobody should upload, on a server that serves: what they do is told, and nobody else notices.

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::policies::{WITHIN, access, component, condition};
use super::{Setup, clusterset, resolve};
use crate::support::fleet::{ControlPlane, Speaks, causeway, ureq_get};
use crate::support::traffic::Stream;
use crate::support::{eventually, explosive};

/// The time that a compilation has here, in seconds, and its memory, in MiB: less than by default, so that explosions end
/// soon, and enough for what is well made.
const CPU_SECONDS: &str = "8s";
const MEMORY_MIB: &str = "320";
/// What the server may have more of in memory than before, in KiB.
const MORE_MEMORY: u64 = 48 << 10;

fn upload(plane: &ControlPlane, name: &str, file: &Path) -> Output {
    let admin = plane.admin.to_string();
    let mut command = causeway();
    command.args(["policy", "upload", name]).arg(file).args(["--admin-addr", &admin]);
    command.output().expect("the binary runs")
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// A number of `/metrics`, by its name and labels.
fn metric(plane: &ControlPlane, line: &str) -> Option<f64> {
    let (_, page) = ureq_get(plane.admin, "/metrics").ok()?;
    page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

/// What was seen while something went on.
#[derive(Debug, Default)]
struct Seen {
    questions: usize,
    longest: Duration,
    most_kib: u64,
}

/// Asks the server, which asks the owner of the truth, again and again until it is told to end.
fn watch(plane: &ControlPlane, pid: u32, ends: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !ends.load(Ordering::SeqCst) {
        let asked = Instant::now();
        plane.get("/api/v1/status");
        seen.longest = seen.longest.max(asked.elapsed());
        seen.questions += 1;
        seen.most_kib = seen.most_kib.max(resident_kib(pid));
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_explode_when_compiled_are_stopped_and_nobody_notices() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    let limits = ["--policy-compile-cpu", CPU_SECONDS, "--policy-compile-memory-mib", MEMORY_MIB];
    let mut plane = setup.control_plane_with(&limits);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    setup.clusters.write("east", "checkout-access.yaml", &access("mine", "{}"));
    plane.command(&["policy", "upload", "mine", &component("lb-locality")]);
    eventually("the policy to decide", WITHIN, || (condition(&plane, "Accepted").0 == "Accepted").then_some(()));
    let stream = Stream::start(resolve(&plane, "checkout"), &clusterset("checkout"), 100);
    let pid = plane.process().pid();
    let before = resident_kib(pid);

    for (name, bytes, why) in [
        ("time", explosive::of_time(), "compiling it took more than 8 s of CPU time"),
        ("memory", explosive::of_memory(), "compiling it took more than 320 MiB of memory"),
    ] {
        let file = setup.dir.path().join(format!("{name}.wasm"));
        std::fs::write(&file, &bytes).expect("the component can be written");
        let (plane, ends, begun) = (&plane, AtomicBool::new(false), Instant::now());
        let (told, seen) = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let watched = scope.spawn(|| watch(plane, pid, &ends));
                // Over one that is in force, which goes on.
                let told = upload(plane, "mine", &file);
                ends.store(true, Ordering::SeqCst);
                (told, watched.join().expect("the server answers"))
            })
        });
        let took = begun.elapsed();
        println!("{name}: {} bytes, stopped after {took:?}; meanwhile {seen:?}, before {before} KiB", bytes.len());
        let message = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.status.success() && message.contains(why), "{message}");
        assert!(message.contains("make it smaller, with fewer and shorter functions"), "{message}");
        assert!(seen.most_kib < before + MORE_MEMORY, "{before} KiB became {} KiB", seen.most_kib);
        assert!(seen.longest < Duration::from_secs(2), "{:?} for an answer", seen.longest);
    }
    let refused = "causeway_policy_uploads_refused_total{reason=\"CompilationExploded\"}";
    assert_eq!(metric(&plane, refused), Some(2.0));

    // The next one that is well made is taken.
    let file = component("lb-weighted-clusters");
    let taken = upload(&plane, "mine", Path::new(&file));
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let row = plane.row("/api/v1/policies", "name", "mine").expect("the policy is there");
    assert_eq!((&row["state"], &row["version"]), (&"Active".into(), &2.into()), "{row}");
    let digest = row["digest"].as_str().expect("a digest").to_owned();
    let in_force = format!("causeway_policy_info{{policy=\"mine\",world=\"lb-policy\",digest=\"{digest}\"}}");
    assert_eq!(metric(&plane, &in_force), Some(1.0));
    let calls = metric(&plane, "causeway_policy_calls_total{policy=\"mine\"}").expect("it was called");
    let timed = metric(&plane, "causeway_policy_call_seconds_bucket{le=\"+Inf\",policy=\"mine\"}");
    assert!(calls >= 2.0 && timed >= Some(calls), "{calls} calls, of which {timed:?} were timed");
    assert_eq!(metric(&plane, "causeway_policy_circuits_open{policy=\"mine\"}"), Some(0.0));

    // What was compiled is only a copy: without it the store's bytes are compiled anew.
    plane.process().kill();
    let compiled = plane.dir.join("data/compiled");
    assert!(compiled.is_dir(), "it is kept there");
    std::fs::remove_dir_all(&compiled).expect("it can be removed");
    plane.restart();
    plane.wait_ready();
    let after = plane.row("/api/v1/policies", "name", "mine").expect("the policy is there");
    assert_eq!((&after["state"], &after["digest"]), (&row["state"], &row["digest"]), "{after}");
    assert!(compiled.is_dir(), "and it is there again");
    let tally = stream.stop().await;
    println!("{} requests meanwhile", tally.total);
    assert_eq!(tally.failed, Vec::<String>::new());
}
