//! On what Envoy 1.40 said: of five listeners of its last update one was good, one waited for its
//! route, one could not be changed to an address that is not local, one found its port in use, and
//! one was removed.

use super::*;

const DUMP_JSON: &[u8] = include_bytes!("../../../tests/golden/agent/config_dump.json");
const LISTENERS_JSON: &[u8] = include_bytes!("../../../tests/golden/agent/listeners.json");
const SERVER_INFO_JSON: &[u8] = include_bytes!("../../../tests/golden/agent/server_info.json");

fn socket(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

fn seen(state: ListenerState, address: Option<SocketAddr>, error: &str) -> Seen {
    Seen { state, address, error: error.into() }
}

#[test]
fn listeners_in_every_state_are_read() {
    let active = active_addresses(LISTENERS_JSON).unwrap();
    let listeners = dynamic_listeners(DUMP_JSON, &active).unwrap();
    let expected = BTreeMap::from([
        ("vip/127.0.0.1:19910".to_owned(), seen(ListenerState::Active, socket("127.0.0.1:19910"), "")),
        (
            "vip/[::1]:19912".to_owned(),
            seen(
                ListenerState::Active,
                socket("[::1]:19912"),
                "cannot bind '240.11.0.9:19912': Cannot assign requested address",
            ),
        ),
        ("vip/127.0.0.1:19913".to_owned(), seen(ListenerState::Warming, socket("127.0.0.1:19913"), "")),
        ("vip/127.0.0.1:0".to_owned(), seen(ListenerState::Draining, socket("127.0.0.1:0"), "")),
        (
            "vip/127.0.0.1:19901".to_owned(),
            seen(
                ListenerState::Failed,
                socket("127.0.0.1:19901"),
                "cannot bind '127.0.0.1:19901': Address already in use",
            ),
        ),
    ]);
    assert_eq!(listeners, expected);
}

#[test]
fn a_failure_that_has_no_name_is_still_known_by_its_configuration() {
    let mut dump: serde_json::Value = serde_json::from_slice(DUMP_JSON).unwrap();
    let configs = dump["configs"].as_array_mut().unwrap();
    configs.retain(|config| config.get("name").is_none());
    assert_eq!(configs.len(), 2);
    let listeners = dynamic_listeners(dump.to_string().as_bytes(), &BTreeMap::new()).unwrap();
    assert_eq!(listeners.keys().collect::<Vec<_>>(), ["vip/127.0.0.1:19901", "vip/[::1]:19912"]);
    assert!(listeners.values().all(|l| l.state == ListenerState::Failed && !l.error.is_empty()));
}

#[test]
fn an_active_listener_that_is_not_listed_any_more_is_not_active() {
    let listeners = dynamic_listeners(DUMP_JSON, &BTreeMap::new()).unwrap();
    assert!(!listeners.contains_key("vip/127.0.0.1:19910"), "it went between the two questions");
    // With a failed update beside it that is what is left to say.
    assert_eq!(listeners["vip/[::1]:19912"].state, ListenerState::Failed);
}

#[test]
fn an_envoy_without_listeners_says_almost_nothing() {
    assert!(active_addresses(b"{}").unwrap().is_empty());
    assert!(dynamic_listeners(b"{}", &BTreeMap::new()).unwrap().is_empty());
}

#[test]
fn addresses_that_are_no_sockets_are_left_out() {
    let listeners = br#"{"listener_statuses": [
        {"name": "pipe", "local_address": {"pipe": {"path": "/run/x"}}},
        {"name": "internal", "local_address": {"envoy_internal_address": {"server_listener_name": "x"}}},
        {"name": "none"}]}"#;
    assert!(active_addresses(listeners).unwrap().values().all(Option::is_none));
}

#[test]
fn the_servers_identity_is_read() {
    assert_eq!(server_info(SERVER_INFO_JSON).unwrap(), ServerInfo { node_id: "gw-1".into(), uptime_s: 3 });
    assert_eq!(server_info(b"{}").unwrap(), ServerInfo::default());
    let days = br#"{"uptime_current_epoch": "172800.250s"}"#;
    assert_eq!(server_info(days).unwrap().uptime_s, 172_800);
}

#[test]
fn phases_are_read() {
    for (body, expected) in [
        ("LIVE\n", Phase::Live),
        ("DRAINING\n", Phase::Draining),
        ("PRE_INITIALIZING\n", Phase::Initializing),
        ("INITIALIZING\n", Phase::Initializing),
        ("", Phase::Initializing),
    ] {
        assert_eq!(phase(body.as_bytes()), expected, "{body:?}");
    }
}

#[test]
fn counters_are_read_among_others() {
    let stats = br#"{"stats":[{"name":"listener_manager.lds.update_attempt","value":2},
        {"name":"listener_manager.lds.update_rejected","value":1},{"name":"listener_manager.lds.version_text","value":""},
        {"name":"listener_manager.listener_create_failure","value":3},{"name":"listener_manager.listener_stopped","value":4},
        {"histograms":{"supported_quantiles":[0,25],"computed_quantiles":[]}}]}"#;
    let expected = Counters { stopped: 4, create_failure: 3, update_rejected: 1, update_attempt: 2 };
    assert_eq!(counters(stats).unwrap(), expected);
    assert_eq!(counters(br#"{"stats":[]}"#).unwrap(), Counters::default());
}

#[test]
fn what_is_no_answer_of_an_envoy_is_told_with_its_path() {
    for body in ["", "<html>", "null", r#"{"configs": 1}"#, r#"{"configs": [{"active_state": 1}]}"#] {
        let error = dynamic_listeners(body.as_bytes(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("/config_dump"), "{body}: {error}");
    }
    assert!(server_info(b"nothing").unwrap_err().to_string().contains("/server_info"));
    assert!(
        active_addresses(br#"{"listener_statuses": [{"local_address": {"socket_address": {"port_value": 70000}}}]}"#)
            .is_err()
    );
}
