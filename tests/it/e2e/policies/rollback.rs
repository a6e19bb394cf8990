//! Versions of a policy come into force and are taken back, again and again, under traffic.

use std::time::{Duration, Instant};

use super::super::{Setup, clusterset, resolve};
use super::{WITHIN, access, component, contents, versions};
use crate::support::eventually;
use crate::support::fleet::Speaks;
use crate::support::traffic::Stream;

const FOR: Duration = Duration::from_secs(if cfg!(feature = "long-checks") { 100 } else { 20 });
const A_SECOND: u32 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn rolled_back_everything_is_byte_for_byte_as_it_was_and_no_request_fails() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    setup.clusters.write("east", "checkout-access.yaml", &access("mine", "{}"));
    let plane = setup.control_plane();
    let upload = |file: &str, rest: &[&str]| {
        let file = component(file);
        plane.command(&[&["policy", "upload", "mine", &file][..], rest].concat())
    };
    // Of one component with several settings, and of others.
    upload("lb-weighted-clusters", &["--config", r#"{"clusters": {"east": 90, "west": 10}}"#]);
    upload("lb-weighted-clusters", &["--config", r#"{"clusters": {"east": 10, "west": 90}}"#, "--no-activate"]);
    upload("lb-locality", &["--config", r#"{"localityPriority": "Zone"}"#, "--no-activate"]);
    upload("lb-subset", &["--config", r#"{"buckets": 4, "size": 1}"#, "--no-activate"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let settled = |what: &str, wanted: &dyn Fn() -> bool| {
        eventually(what, WITHIN, || wanted().then_some(()));
    };
    settled("the Envoy to accept what there is", &|| {
        let held = versions(&plane, "gw-1");
        held.len() >= 4 && held.values().all(|version| version.is_string())
    });
    let (before, whole) = (versions(&plane, "gw-1"), contents(&plane, "gw-1"));
    assert!(whole.values().all(|content| content.is_object()), "all contents are shown: {whole:?}");

    let stream = Stream::start(to, &clusterset("checkout"), A_SECOND);
    let (begun, mut rounds) = (Instant::now(), 0);
    while begun.elapsed() < FOR {
        for version in ["v2", "v3", "v4"] {
            plane.command(&["policy", "activate", "mine", version]);
            settled("another decision to be accepted", &|| {
                let held = versions(&plane, "gw-1");
                held != before && held.values().all(|version| version.is_string())
            });
            assert_ne!(contents(&plane, "gw-1"), whole, "{version} decides otherwise");
            plane.command(&["policy", "rollback", "mine"]);
            settled("the first to be accepted again", &|| versions(&plane, "gw-1") == before);
            assert_eq!(contents(&plane, "gw-1"), whole);
            rounds += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let tally = stream.stop().await;
    let rate = tally.total as f64 / seconds;
    println!("{rounds} activations and as many rollbacks, {} requests in {seconds:.1} s ({rate:.0}/s)", tally.total);
    assert_eq!(tally.failed, Vec::<String>::new());
}
