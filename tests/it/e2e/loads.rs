//! What Envoys report of the requests that they send.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{POD_PORT, Setup, clusterset, resolve};
use crate::support::fleet::{Speaks, ureq_get};
use crate::support::{eventually, traffic};

/// The endpoints that a node reports to have sent to.
fn reported(page: &Value) -> BTreeSet<SocketAddr> {
    let lists = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
    let clusters = lists(page, "loads").into_iter().flat_map(|load| lists(&load, "clusters"));
    let localities = clusters.flat_map(|cluster| lists(&cluster, "localities"));
    let endpoints = localities.flat_map(|locality| lists(&locality, "endpoints"));
    let sent = endpoints.filter(|endpoint| endpoint["requestsPerSecond"].as_f64().is_some_and(|rate| rate > 0.0));
    sent.filter_map(|endpoint| endpoint["address"].as_str()?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_tells_where_its_requests_go() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane_with(&["--load-report-interval", "1s"]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy();
    plane.wait_vip("shop/checkout", "Published");
    let to = resolve(&plane, "checkout");
    let pods: BTreeSet<SocketAddr> =
        ["east", "west"].map(|cluster| SocketAddr::new(setup.pod_address(cluster, 0), POD_PORT)).into();
    let started = std::time::Instant::now();
    loop {
        let tally = traffic::send(to, &clusterset("checkout"), 40).await;
        assert!(tally.failed.is_empty(), "{tally:?}");
        let page = plane.get("/debug/xds/nodes/gw-1");
        if reported(&page) == pods {
            // Envoy tells of its way to the control plane, too.
            let clusters = page["loads"][0]["clusters"].as_array().expect("clusters");
            let cluster = clusters.iter().find(|load| load["cluster"] != "causeway-xds").expect("the service's");
            let number = |key: &str| cluster[key].as_f64().unwrap_or_else(|| panic!("{key} in {cluster}"));
            assert!(number("requestsPerSecond") > 1.0 && number("errorsPerSecond") == 0.0, "{cluster}");
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{}", page["loads"]);
    }
    let metrics = || ureq_get(plane.admin, "/metrics").expect("metrics").1;
    let reports = |page: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix("causeway_load_reports_total "))?;
        line.parse::<f64>().ok().filter(|count| *count > 0.0)
    };
    assert!(reports(&metrics()).is_some(), "{}", metrics());

    // What it told goes with it.
    gateway.stop_envoy();
    eventually("its stream to end", Duration::from_secs(30), || {
        metrics().contains("causeway_load_streams_closed_total 1.0").then_some(())
    });
}
