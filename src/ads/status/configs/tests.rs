use xds_api::pb::envoy::admin::v3::ClientResourceStatus::{self as Client, Acked, DoesNotExist, Nacked, Requested};
use xds_api::pb::envoy::service::status::v3::ConfigStatus::{self as Config, Error, NotSent, Stale, Synced};

use super::*;
use crate::ads::stream::{Request, Stream};
use crate::ads::{DiscoveryService, Limits, Protocol, StreamId};
use crate::snapshot::SnapshotBuilder;
use xds_api::pb::envoy::config::core::v3::Node;
use xds_api::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_api::pb::google::rpc;

const LISTENER: ResourceType = ResourceType::Listener;

/// A node's stream of listeners, step by step.
struct Rig {
    stream: Stream,
    builder: SnapshotBuilder,
    now: Millis,
}

impl Rig {
    fn new() -> Self {
        let node = Node {
            id: "gw-1".into(),
            cluster: "gateway".into(),
            user_agent_name: "envoy".into(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("1.40.0".into())),
            ..Node::default()
        };
        let info = NodeInfo::read(Some(&node)).expect("it has an id");
        let mut stream = Stream::new(StreamId(1), Protocol::Delta, info, Limits::default().into());
        stream.came_by(DiscoveryService::Listener);
        Self { stream, builder: SnapshotBuilder::new(), now: 5_250 }
    }

    fn set(&mut self, resources: &[(&str, &str)], removed: &[&str]) {
        self.builder.update(|edit| {
            for (name, body) in resources {
                edit.set(Resource::from_encoded(LISTENER, *name, body.as_bytes().to_vec().into()));
            }
            for name in removed {
                edit.remove(LISTENER, name);
            }
        });
        self.stream.snapshot_changed(Some(self.builder.latest()));
    }

    fn ask(&mut self, names: &[&str]) {
        let resource_names_subscribe = names.iter().map(|&name| name.to_owned()).collect();
        let request = DeltaDiscoveryRequest { resource_names_subscribe, ..DeltaDiscoveryRequest::default() };
        self.stream.request(&Request::from(request), self.now).expect("a subscription");
    }

    fn send(&mut self) -> String {
        self.stream.next(self.now).expect("a response").nonce
    }

    fn answer(&mut self, nonce: String, error: Option<&str>) {
        let error_detail = error.map(|text| rpc::Status { code: 13, message: text.into(), ..rpc::Status::default() });
        let request = DeltaDiscoveryRequest { response_nonce: nonce, error_detail, ..DeltaDiscoveryRequest::default() };
        self.stream.request(&Request::from(request), self.now).expect("an answer");
    }

    fn told(&self, contents: Contents) -> ClientConfig {
        of_client([(self.stream.debug(), self.stream.snapshot().cloned())].into_iter(), contents).expect("a client")
    }

    /// Name, what the client and the server say, and the content.
    fn rows(&self) -> Vec<(String, Client, Config, String)> {
        let row = |config: GenericXdsConfig| {
            assert_eq!(config.type_url, LISTENER.type_url());
            let (client, status) = (config.client_status(), config.config_status());
            let body = config.xds_config.map(|any| String::from_utf8(any.value).expect("text")).unwrap_or_default();
            (config.name, client, status, body)
        };
        self.told(Contents::Shown).generic_xds_configs.into_iter().map(row).collect()
    }
}

fn row(name: &str, client: Client, config: Config, body: &str) -> (String, Client, Config, String) {
    (name.to_owned(), client, config, body.to_owned())
}

#[test]
fn a_resource_goes_through_its_states() {
    let mut rig = Rig::new();
    rig.set(&[("a", "1")], &[]);
    rig.ask(&["*", "absent"]);
    let absent = row("absent", DoesNotExist, NotSent, "");
    assert_eq!(rig.rows(), [row("a", Requested, NotSent, "1"), absent.clone()]);
    let nonce = rig.send();
    assert_eq!(rig.rows(), [row("a", Requested, Stale, "1"), absent.clone()]);
    rig.answer(nonce, None);
    assert_eq!(rig.rows(), [row("a", Acked, Synced, "1"), absent.clone()]);
    rig.set(&[("a", "2")], &[]);
    assert_eq!(rig.rows(), [row("a", Acked, NotSent, "2"), absent.clone()]);
    let nonce = rig.send();
    assert_eq!(rig.rows(), [row("a", Acked, Stale, "2"), absent.clone()]);
    rig.answer(nonce, Some("Error adding/updating listener(s) a: cannot bind"));
    assert_eq!(rig.rows(), [row("a", Nacked, Error, "2"), absent.clone()]);
    let told = rig.told(Contents::Shown);
    let error = told.generic_xds_configs[0].error_state.clone().expect("why");
    assert!(error.details.contains("cannot bind"), "{}", error.details);
    assert_eq!(error.version_info, told.generic_xds_configs[0].version_info);
    assert_eq!(error.failed_configuration, told.generic_xds_configs[0].xds_config);
    assert_eq!(error.last_update_attempt, Some(Timestamp { seconds: 5, nanos: 250_000_000 }));
    rig.set(&[("a", "3")], &[]);
    let nonce = rig.send();
    rig.answer(nonce, None);
    assert_eq!(rig.rows(), [row("a", Acked, Synced, "3"), absent.clone()]);
    assert_eq!(rig.told(Contents::Shown).generic_xds_configs[0].error_state, None);
    rig.set(&[], &["a"]);
    assert_eq!(rig.rows(), [row("a", Acked, Stale, ""), absent.clone()]);
    let nonce = rig.send();
    rig.answer(nonce, None);
    assert_eq!(rig.rows(), [absent]);
}

#[test]
fn what_was_never_accepted_is_told_with_its_refusal() {
    let mut rig = Rig::new();
    rig.set(&[("a", "1")], &[]);
    rig.ask(&["*"]);
    let nonce = rig.send();
    rig.answer(nonce, Some("no"));
    assert_eq!(rig.rows(), [row("a", Nacked, Error, "1")]);
}

#[test]
fn contents_are_left_out_when_they_are_not_wanted() {
    let mut rig = Rig::new();
    rig.set(&[("a", "1")], &[]);
    rig.ask(&["*"]);
    let nonce = rig.send();
    rig.answer(nonce, Some("no"));
    let told = rig.told(Contents::LeftOut);
    let config = &told.generic_xds_configs[0];
    assert_eq!((config.xds_config.as_ref(), config.client_status()), (None, Nacked));
    assert_eq!(config.error_state.as_ref().and_then(|error| error.failed_configuration.as_ref()), None);
    assert!(!config.version_info.is_empty());
    let node = told.node.expect("who it is");
    assert_eq!((&*node.id, &*node.cluster, &*node.user_agent_name), ("gw-1", "gateway", "envoy"));
    assert_eq!(node.user_agent_version_type, Some(UserAgentVersionType::UserAgentVersion("1.40.0".into())));
}
