//! Pods come and go while requests run.

use std::time::{Duration, Instant};

use super::{POD_PORT, Setup, clusterset, resolve};
use crate::support::eventually;
use crate::support::fleet::Speaks;
use crate::support::manifests::Backend;
use crate::support::traffic::Stream;

/// How long pods come and go, in seconds; the long checks take the 30.
const SECONDS: u64 = if cfg!(feature = "long-checks") { 30 } else { 6 };
const PER_SECOND: u32 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_pods_come_and_go() {
    let setup = Setup::new();
    let service = Setup::service("checkout", "http");
    setup.deploy(&service, 0..3, "edge").await;
    let plane = setup.control_plane();
    let mut gateways =
        [Speaks::Delta, Speaks::Sotw].map(|speaks| setup.gateway(&format!("gw-{speaks:?}"), &plane, speaks));
    for gateway in &mut gateways {
        gateway.start_envoy().start_agent();
    }
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), PER_SECOND);

    let started = Instant::now();
    let (mut round, mut latest, mut removed) = (0u8, Duration::ZERO, 0);
    let mut current = [0u8, 0u8]; // index of the oldest of three pods, by cluster
    while started.elapsed() < Duration::from_secs(SECONDS) {
        for (which, cluster) in ["east", "west"].into_iter().enumerate() {
            let oldest = current[which];
            let (leaver, joiner) = (oldest % 40, (oldest + 3) % 40);
            let pod = |index: u8| format!("checkout-{cluster}-{index}");
            // On a busy machine the first requests may come later than the first edit, and then nothing would be tried.
            eventually("the pod to be asked while it is there", Duration::from_secs(5), || {
                setup.pods.last_asked(&pod(leaver))
            });
            setup.pods.start(&pod(joiner), setup.pod_address(cluster, joiner), POD_PORT).await;
            let mut backends: Vec<Backend> = (1..=3)
                .map(|i| (oldest + i) % 40)
                .map(|i| Backend::ready(pod(i), setup.pod_address(cluster, i)))
                .collect();
            if round.is_multiple_of(2) {
                // A graceful end: first terminating but serving, then gone.
                let mut draining = Backend::ready(pod(leaver), setup.pod_address(cluster, leaver));
                draining.terminating = true;
                backends.push(draining);
                setup.clusters.service(cluster, &service, &backends);
                tokio::time::sleep(Duration::from_millis(100)).await;
                backends.pop();
            }
            setup.clusters.service(cluster, &service, &backends);
            let edited = Instant::now();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let last = setup.pods.last_asked(&pod(leaver)).expect("it was asked before");
            latest = latest.max(last.saturating_duration_since(edited));
            removed += 1;
            setup.pods.stop(&pod(leaver));
            current[which] = (oldest + 1) % 40;
        }
        round = round.wrapping_add(1);
    }
    let tally = stream.stop().await;
    let rate = tally.total as f64 / started.elapsed().as_secs_f64();
    println!(
        "churn: {} requests at {rate:.0}/s, {} failed, {removed} pods removed, the latest request to a removed pod {} ms after the edit",
        tally.total,
        tally.failed.len(),
        latest.as_millis()
    );
    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(rate >= 200.0, "{rate:.0} requests/s is less than the check needs");
    assert!(latest < Duration::from_secs(1), "a removed pod was asked {latest:?} after the edit");
}
