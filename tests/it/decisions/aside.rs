//! What keeps requests from endpoints: drops, outlier detection, health checks.

use std::time::{Duration, Instant};

use causeway::model::decision::{HealthCheck, LbDecision, LbEndpoint, OutlierDetection};
use causeway::model::object::Protocol;
use tokio::net::TcpListener;

use super::{Pod, SOON, Stage, alike, asks, assert_chance, decision, group};
use crate::support::eventually;
use crate::support::traffic::{Http, Stream};

#[tokio::test(flavor = "multi_thread")]
async fn dropped_requests_are_that_share_and_no_pod_sees_them() {
    let stage = Stage::new().await;
    let pods = stage.pods(2).await;
    let decided = |drop_per_million| LbDecision { drop_per_million, ..decision(alike(&pods)) };
    let mut proxy = stage.envoy("gw-drops", Protocol::Http, &decided(250_000));
    // Each further one is a change of nothing but the drop.
    for (round, (per_million, count)) in
        [(250_000, 4000), (10_000, 4000), (0, 500), (1_000_000, 500), (500_000, 1000), (0, 500)].into_iter().enumerate()
    {
        if round > 0 {
            proxy.decide(&decided(per_million));
        }
        let landed = proxy.land(count).await;
        assert_chance(landed.with(503), count as u64, f64::from(per_million) / 1e6);
        assert_eq!(landed.with(200), landed.at(0) + landed.at(1));
    }
}

fn outliers(consecutive_5xx: u32, base_ejection_ms: u32, max_ejection_percent: u32) -> Option<OutlierDetection> {
    Some(OutlierDetection { consecutive_5xx, interval_ms: 100, base_ejection_ms, max_ejection_percent })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_answers_5xx_is_set_aside_and_comes_back() {
    let stage = Stage::new().await;
    let pods = stage.pods(4).await;
    let decided = |outlier_detection| LbDecision { outlier_detection, ..decision(alike(&pods)) };
    let mut proxy = stage.envoy("gw-outliers", Protocol::Http, &decided(None));
    pods[0].answer_with(500);
    let landed = proxy.land(400).await;
    assert!(landed.at(0) > 50, "what pods answer plays no part where nobody says so: {landed:?}");
    proxy.decide(&decided(outliers(0, 600_000, 100)));
    assert!(proxy.land(400).await.at(0) > 50, "0 does not count them");
    proxy.decide(&decided(outliers(5, 600_000, 100)));
    proxy.until("the pod to be set aside", 20, |landed| landed.at(0) == 0).await;
    assert!(proxy.land(1000).await.is_at(&[1, 2, 3]));
    assert_eq!(proxy.stat("outlier_detection.ejections_enforced_consecutive_5xx"), 1);
    // Of four, half are two.
    proxy.decide(&decided(outliers(5, 600_000, 50)));
    pods.iter().for_each(|pod| pod.answer_with(500));
    proxy.until("two to be set aside", 50, |landed| landed.pods.len() == 2).await;
    assert_eq!(proxy.land(300).await.pods.len(), 2);
    assert_eq!(proxy.stat("outlier_detection.ejections_active"), 2);

    pods[1..].iter().for_each(|pod| pod.answer_with(200));
    proxy.decide(&decided(outliers(5, 200, 100)));
    proxy.until("the pod to be set aside", 20, |landed| landed.at(0) == 0).await;
    pods[0].answer_with(200);
    proxy.until("the pod to be back", 20, |landed| landed.at(0) > 0).await;
}

fn checked(pods: &[Pod], health_check: HealthCheck) -> LbDecision {
    LbDecision { health_check: Some(health_check), ..decision(alike(pods)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fails_its_checks_gets_no_request() {
    let stage = Stage::new().await;
    let pods = stage.pods(3).await;
    pods[0].answer_checks_with(503);
    let check = HealthCheck { unhealthy_threshold: 5, healthy_threshold: 2, ..asks() };
    let mut proxy = stage.envoy("gw-checks", Protocol::Http, &checked(&pods, check.clone()));
    eventually("checks without any request", SOON, || (pods[0].health_checks() > 5).then_some(()));
    assert!(proxy.land(300).await.is_at(&[1, 2]), "from the first request on");
    pods[0].answer_checks_with(200);
    proxy.until("the pod to be used", 20, |landed| landed.at(0) > 0).await;

    // Fewer failures than are asked for are none.
    let before = pods[1].health_checks();
    pods[1].answer_checks_with(404);
    proxy.until("the pod to be left out", 20, |landed| landed.at(1) == 0).await;
    let failed = pods[1].health_checks() - before;
    assert!(failed >= 5, "{failed} checks failed");
    assert!(proxy.land(300).await.is_at(&[0, 2]));

    // One that passes its checks is gone all the same when it is none of the service's any more.
    proxy.decide(&checked(&pods[..1], check));
    proxy.until("the others to be gone", 20, |landed| landed.is_at(&[0])).await;
    assert!(proxy.land(300).await.is_at(&[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_checks_do_not_bring_back_who_answers_5xx() {
    let stage = Stage::new().await;
    let pods = stage.pods(3).await;
    let both = LbDecision { outlier_detection: outliers(3, 600_000, 100), ..checked(&pods, asks()) };
    let proxy = stage.envoy("gw-both", Protocol::Http, &both);
    pods[0].answer_with(500);
    proxy.until("the pod to be set aside", 20, |landed| landed.at(0) == 0).await;
    let before = pods[0].health_checks();
    eventually("further checks", SOON, || (pods[0].health_checks() > before + 5).then_some(()));
    assert!(proxy.land(300).await.is_at(&[1, 2]));
}

/// Takes connections, and says nothing.
async fn silent_pods(stage: &Stage, indexes: std::ops::Range<u8>) -> Vec<TcpListener> {
    let mut silent = Vec::new();
    for index in indexes {
        silent.push(TcpListener::bind(stage.pod_address(index)).await.expect("the pod's address is free"));
    }
    silent
}

fn with_silent(mut decision: LbDecision, silent: &[TcpListener]) -> LbDecision {
    let group = &mut decision.groups[0];
    let first = group.endpoints.iter().next().expect("one");
    let address = |listener: &TcpListener| listener.local_addr().expect("an address");
    let more = silent.iter().map(|listener| LbEndpoint { address: address(listener), ..first });
    group.endpoints = group.endpoints.iter().chain(more).collect();
    decision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_no_request_before_its_first_check() {
    let stage = Stage::new().await;
    let pods = stage.pods(2).await;
    let silent = silent_pods(&stage, 2..3).await;
    let check = HealthCheck { timeout_ms: 600_000, ..asks() };
    let proxy = stage.envoy("gw-silent", Protocol::Http, &with_silent(checked(&pods, check), &silent));
    assert!(proxy.land(300).await.is_at(&[0, 1]));
    assert_eq!(proxy.stat("membership_healthy"), 2, "and the others do not wait for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cluster_serves_in_its_old_form_until_it_is_checked() {
    let stage = Stage::new().await;
    let pods = stage.pods(2).await;
    let mut proxy = stage.envoy("gw-warming", Protocol::Http, &decision(alike(&pods)));
    let stream = Stream::start(proxy.vip, super::HOST, 200);
    // Requests are answered, but no check is before its timeout.
    let check = HealthCheck { path: Some("/hold".to_owned()), timeout_ms: 1500, ..asks() };
    let started = Instant::now();
    proxy.decide(&LbDecision { panic_threshold_percent: 1, ..checked(&pods, check) });
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(1400), "it was used before it was checked: {waited:?}");
    assert_eq!(proxy.stat("membership_healthy"), 0);
    let tally = stream.stop().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_pods_that_were_not_checked_yet_take_nothing_from_the_others() {
    let stage = Stage::new().await;
    let pods = stage.pods(3).await;
    let silent = silent_pods(&stage, 3..11).await;
    let check = HealthCheck { timeout_ms: 600_000, ..asks() };
    let mut decided = checked(&pods[..2], check);
    decided.groups.push(group(1, "west", 1, [(&pods[2], 1)]));
    let mut proxy = stage.envoy("gw-growing", Protocol::Http, &decided);
    // Two healthy ones of ten would keep 28 %.
    proxy.decide(&with_silent(decided, &silent));
    assert!(proxy.land(500).await.is_at(&[0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_only_connects_finds_who_is_not_there() {
    let stage = Stage::new().await;
    let pods = stage.pods(2).await;
    // An address that nobody listens on.
    let gone = silent_pods(&stage, 2..3).await;
    let decided = with_silent(checked(&pods, HealthCheck { path: None, ..asks() }), &gone);
    drop(gone);
    for (id, protocol) in [("gw-connects-http", Protocol::Http), ("gw-connects-tcp", Protocol::Tcp)] {
        let proxy = stage.envoy(id, protocol, &decided);
        assert_eq!(proxy.stat("membership_healthy"), 2, "before any request");
        for _ in 0..100 {
            let landed = proxy.land_as(&Http::default(), super::HOST, 1).await;
            assert!(landed.is_at(&[0]) || landed.is_at(&[1]), "{landed:?}");
        }
        assert_eq!(pods[0].health_checks(), 0);
    }
}
