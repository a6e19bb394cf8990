use serde_json::json;

use super::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn loads() -> (Loads, Instant) {
    (Loads::new(seconds(10)), Instant::now())
}

/// A report of one endpoint: so many requests in five seconds, of which one failed.
fn stats(cluster: &str, port: u32, issued: u64, in_flight: u64) -> ClusterStats {
    serde_json::from_value(json!({
        "clusterName": cluster, "totalDroppedRequests": "5", "loadReportInterval": {"seconds": 5},
        "upstreamLocalityStats": [{
            "locality": {"region": "eu", "zone": "a"}, "priority": 1,
            "totalIssuedRequests": issued.to_string(), "totalErrorRequests": "1",
            "totalRequestsInProgress": in_flight.to_string(),
            "upstreamEndpointStats": [
                {
                    "address": {"socketAddress": {"address": "10.0.0.1", "portValue": port}},
                    "totalIssuedRequests": issued.to_string(), "totalErrorRequests": "1",
                    "totalRequestsInProgress": in_flight.to_string(),
                },
                {"address": {"pipe": {"path": "/somewhere"}}, "totalIssuedRequests": "1"},
            ],
        }],
    }))
    .expect("a report")
}

#[test]
fn a_report_becomes_rates() {
    let (loads, now) = loads();
    let place = loads.begin("gw-1", now).expect("room");
    assert!(loads.of_node("gw-1", now).iter().all(|load| load.clusters.is_empty()));
    place.report(
        &[stats("checkout", 80, 50, 3), ClusterStats { cluster_name: "idle".into(), ..Default::default() }],
        now,
    );
    let told = loads.of_node("gw-1", now + seconds(2));
    let rates = Rates { requests_per_second: 10.0, errors_per_second: 0.2, in_flight: 3 };
    let address = "10.0.0.1:80".parse().expect("an address");
    let locality = LocalityLoad {
        region: "eu".into(),
        zone: "a".into(),
        priority: 1,
        rates,
        endpoints: vec![EndpointLoad { address, rates }],
    };
    let cluster =
        ClusterLoad { cluster: "checkout".into(), rates, dropped_per_second: 1.0, localities: vec![locality] };
    assert_eq!(told, [NodeLoad { ago_ms: 2_000, clusters: [cluster].into() }]);
    assert!(loads.of_node("gw-2", now).is_empty());
}

#[test]
fn what_several_nodes_send_to_an_endpoint_is_added_up() {
    let (loads, now) = loads();
    let places = ["gw-1", "gw-2"].map(|node| loads.begin(node, now).expect("room"));
    places[0].report(&[stats("a", 80, 50, 3), stats("b", 80, 1, 1)], now);
    places[1].report(&[stats("a", 80, 25, 4), stats("a", 81, 25, 1)], now);
    let told = loads.of_cluster("a", now);
    let in_flight: Vec<(u16, u64)> = told.iter().map(|(address, rates)| (address.port(), rates.in_flight)).collect();
    assert_eq!(in_flight, [(80, 7), (81, 1)]);
    assert_eq!(told.values().map(|rates| rates.requests_per_second).collect::<Vec<_>>(), [15.0, 5.0]);
}

#[test]
fn a_report_goes_with_its_stream_and_after_three_intervals() {
    let (loads, now) = loads();
    let place = loads.begin("gw-1", now).expect("room");
    place.report(&[stats("a", 80, 50, 3)], now);
    assert_eq!(
        (loads.of_node("gw-1", now + seconds(30)).len(), loads.of_cluster("a", now + seconds(30)).len()),
        (1, 1)
    );
    assert_eq!(
        (loads.of_node("gw-1", now + seconds(31)).len(), loads.of_cluster("a", now + seconds(31)).len()),
        (0, 0)
    );
    place.report(&[], now + seconds(40));
    assert!(loads.of_cluster("a", now + seconds(40)).is_empty(), "the new report takes its place");
    place.report(&[stats("a", 80, 50, 3)], now);
    assert_eq!(loads.lock().rows, 3, "a cluster, a locality, an endpoint");
    drop(place);
    assert!(loads.of_node("gw-1", now).is_empty());
    assert_eq!(loads.lock().rows, 0);
}

#[test]
fn there_is_a_bound() {
    let (loads, now) = loads();
    let (one, two) = (loads.begin("a", now).expect("room"), loads.begin("b", now).expect("room"));
    let many = vec![stats("a", 80, 1, 1); MAX_ROWS / 3];
    one.report(&many, now);
    two.report(&[stats("b", 80, 1, 1)], now);
    assert!(loads.of_cluster("b", now).is_empty());
    assert_eq!(loads.metrics.forgotten.load(std::sync::atomic::Ordering::Relaxed), 1);
    one.report(&[], now);
    two.report(&[stats("b", 80, 1, 1)], now);
    assert_eq!(loads.of_cluster("b", now).len(), 1);
    let places: Vec<Place> = (2..MAX_STREAMS).filter_map(|_| loads.begin("c", now)).collect();
    assert_eq!(places.len(), MAX_STREAMS - 2);
    assert!(loads.begin("c", now).is_none());
}

#[test]
fn a_client_cannot_make_anything_infinite() {
    let (loads, now) = loads();
    let place = loads.begin("a", now).expect("room");
    for interval in [json!(null), json!({}), json!({"seconds": -5}), json!({"nanos": 1}), json!({"nanos": -1})] {
        let mut stats = stats("a", 80, u64::MAX, u64::MAX);
        stats.load_report_interval = serde_json::from_value(interval).expect("a duration");
        place.report(&[stats.clone(), stats], now);
        assert!(loads.of_cluster("a", now).values().all(|rates| rates.requests_per_second.is_finite()));
    }
}
