//! Shares, priorities, and algorithms that look at how busy endpoints are.

use causeway::model::decision::{LbAlgorithm, LbDecision};
use causeway::model::object::Protocol;

use super::{SOON, Stage, alike, asks, assert_chance, assert_share, decision, group};
use crate::support::eventually;
use crate::support::traffic::Http;

const REQUESTS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_clusters_and_of_endpoints_are_shares_of_requests() {
    let stage = Stage::new().await;
    let pods = stage.pods(6).await;
    // Two pods of each of three clusters, in one priority.
    let clusters = ["east", "west", "north"];
    let of_cluster = |(index, weight): (usize, u32)| {
        group(0, clusters[index], weight, pods[2 * index..2 * index + 2].iter().map(|pod| (pod, 1)))
    };
    let weighted = decision([90, 9, 1].into_iter().enumerate().map(of_cluster).collect());
    let mut proxy = stage.envoy("gw-weights", Protocol::Http, &weighted);
    let landed = proxy.land(REQUESTS as usize).await;
    assert_eq!(landed.with(200), REQUESTS);
    for (index, share) in [0.90, 0.09, 0.01].into_iter().enumerate() {
        assert_share(landed.at(2 * index) + landed.at(2 * index + 1), REQUESTS, share);
    }
    let of_endpoints = || vec![group(0, "east", 1, pods.iter().zip([90, 9, 1]))];
    for algorithm in [LbAlgorithm::RoundRobin, LbAlgorithm::LEAST_REQUEST] {
        proxy.decide(&LbDecision { algorithm, ..decision(of_endpoints()) });
        let landed = proxy.land(REQUESTS as usize).await;
        for (pod, share) in [0.90, 0.09, 0.01].into_iter().enumerate() {
            assert_share(landed.at(pod), REQUESTS, share);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_priority_gives_away_what_its_overprovisioning_does_not_cover() {
    let stage = Stage::new().await;
    let pods = stage.pods(5).await;
    let decided = |overprovisioning_percent| LbDecision {
        overprovisioning_percent,
        health_check: Some(asks()),
        ..decision(vec![
            group(0, "east", 1, pods[..4].iter().map(|pod| (pod, 1))),
            group(1, "west", 1, [(&pods[4], 1)]),
        ])
    };
    let mut proxy = stage.envoy("gw-priorities", Protocol::Http, &decided(140));
    assert!(proxy.land(200).await.is_at(&[0, 1, 2, 3]));
    for pod in &pods[2..4] {
        pod.answer_checks_with(500);
    }
    proxy.until("two pods to be left out", 20, |landed| landed.at(2) + landed.at(3) == 0).await;
    // Half of the first priority is healthy: 50 % × 1.4 stays.
    for (percent, stays) in [(140, 0.70), (100, 0.50), (160, 0.80)] {
        if percent != 140 {
            proxy.decide(&decided(percent));
        }
        let landed = proxy.land(2000).await;
        assert!(landed.is_at(&[0, 1, 4]), "{landed:?}");
        assert_chance(landed.at(0) + landed.at(1), 2000, stays);
    }
    proxy.decide(&decided(200));
    proxy.until("the next priority to have nothing", 20, |landed| landed.is_at(&[0, 1])).await;
    assert!(proxy.land(500).await.is_at(&[0, 1]), "two of four are enough");
    for pod in &pods[..2] {
        pod.answer_checks_with(500);
    }
    proxy.until("the next priority to have it all", 20, |landed| landed.is_at(&[4])).await;
    assert_eq!(proxy.land(500).await.at(4), 500);
    for pod in &pods[..4] {
        pod.answer_checks_with(200);
    }
    proxy.until("the first priority to have it all", 50, |landed| landed.is_at(&[0, 1, 2, 3])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_panic_threshold_health_is_ignored() {
    let stage = Stage::new().await;
    let pods = stage.pods(4).await;
    let decided = |panic_threshold_percent| LbDecision {
        panic_threshold_percent,
        health_check: Some(asks()),
        ..decision(alike(&pods))
    };
    let mut proxy = stage.envoy("gw-panic", Protocol::Http, &decided(50));
    for pod in &pods[2..] {
        pod.answer_checks_with(500);
    }
    proxy.until("two pods to be left out", 20, |landed| landed.is_at(&[0, 1])).await;
    // Two of four are not below 50 %, but below 51 %.
    assert!(proxy.land(300).await.is_at(&[0, 1]));
    proxy.decide(&decided(51));
    assert!(proxy.land(300).await.is_at(&[0, 1, 2, 3]));
    for pod in &pods {
        pod.answer_checks_with(500);
    }
    proxy.decide(&decided(1));
    assert!(proxy.land(300).await.is_at(&[0, 1, 2, 3]), "with not one healthy, all are tried");
    proxy.decide(&decided(0));
    assert_eq!(proxy.land(300).await.with(503), 300, "and with 0, none");
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_goes_in_turn_and_random_does_not() {
    let stage = Stage::new().await;
    let pods = stage.pods(3).await;
    let decided = |algorithm| LbDecision { algorithm, ..decision(alike(&pods)) };
    let mut proxy = stage.envoy("gw-turns", Protocol::Http, &decided(LbAlgorithm::RoundRobin));
    for _ in 0..100 {
        assert!(proxy.land(3).await.is_at(&[0, 1, 2]));
    }
    proxy.decide(&decided(LbAlgorithm::Random));
    let mut whole_turns = 0;
    for _ in 0..500 {
        whole_turns += u64::from(proxy.land(3).await.is_at(&[0, 1, 2]));
    }
    // Three of three land apart in 3! of 27 cases.
    assert_chance(whole_turns, 500, 6.0 / 27.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn least_request_looks_at_so_many_and_takes_the_least_busy() {
    let stage = Stage::new().await;
    let pods = stage.pods(3).await;
    let decided = |choices| LbDecision { algorithm: LbAlgorithm::LeastRequest { choices }, ..decision(alike(&pods)) };
    let mut proxy = stage.envoy("gw-least", Protocol::Http, &decided(64));
    for (choices, free_share) in [(64, 1.0), (2, 5.0 / 9.0), (3, 19.0 / 27.0)] {
        if choices != 64 {
            proxy.decide(&decided(choices));
        }
        // Two pods are kept busy; which ones is left to Envoy, and may be one and the same with few choices.
        let (vip, mut holding) = (proxy.vip, Vec::new());
        let busy = |pods: &[super::Pod]| pods.iter().filter(|pod| pod.held() > 0).count();
        while busy(&pods) < 2 {
            let before: u64 = pods.iter().map(|pod| pod.held()).sum();
            holding.push(tokio::spawn(async move { Http::default().get_path(vip, super::HOST, "/hold").await }));
            eventually("a pod to hold the request", SOON, || {
                (pods.iter().map(|pod| pod.held()).sum::<u64>() > before).then_some(())
            });
        }
        let free = pods.iter().position(|pod| pod.held() == 0).expect("one is free");
        let landed = proxy.land(1000).await;
        assert_chance(landed.at(free), 1000, free_share);
        pods.iter().for_each(super::Pod::release);
        for held in holding {
            assert!(held.await.expect("it ends").is_ok_and(|(status, _)| status == 200));
        }
    }
}
