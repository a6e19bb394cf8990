//! Frames are what prost would have written, and are read back by it.

use std::sync::Arc;

use bytes::BytesMut;
use prost013::Message;
use xds_api::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

use super::client::*;
use crate::ads::Protocol;
use crate::ads::stream::Response;

fn response(protocol: Protocol, bodies: &[usize]) -> Response {
    let resource = |size: &usize| Arc::new(res(Cluster, &format!("c{size}"), &"x".repeat(*size)));
    Response {
        protocol,
        ty: Some(Cluster),
        type_url: Arc::from(Cluster.type_url()),
        version: "v".to_owned(),
        nonce: "1.2".to_owned(),
        resources: bodies.iter().map(resource).collect(),
        removed: if protocol == Protocol::Delta { vec![Arc::from("gone"), Arc::from("")] } else { Vec::new() },
    }
}

fn encoded(response: &Response) -> BytesMut {
    let mut out = BytesMut::new();
    response.encode(&mut out);
    assert_eq!(out.len(), response.encoded_len());
    out
}

#[test]
fn frames_are_those_of_prost() {
    let sizes = [0, 1, 100, 127, 128, 129, 16_383, 16_384, 70_000];
    let bytes = encoded(&response(Protocol::Sotw, &sizes));
    let sotw = DiscoveryResponse::decode(&bytes[..]).expect("a DiscoveryResponse");
    assert_eq!(sotw.encode_to_vec(), bytes);
    assert_eq!((sotw.version_info.as_str(), sotw.nonce.as_str()), ("v", "1.2"));
    assert!(sotw.resources.iter().zip(sizes).all(|(any, size)| any.value.len() == size));

    let bytes = encoded(&response(Protocol::Delta, &sizes));
    let delta = DeltaDiscoveryResponse::decode(&bytes[..]).expect("a DeltaDiscoveryResponse");
    assert_eq!(delta.encoded_len(), bytes.len());
    assert_eq!(delta.removed_resources, ["gone", ""]);
    assert!(delta.resources.iter().all(|r| r.resource.as_ref().is_some_and(|any| any.type_url == Cluster.type_url())));
    assert!(delta.resources.iter().zip(sizes).all(|(r, size)| r.name == format!("c{size}")));
}

/// TTLs are for clients that say they support them; none is ever sent, and no alias either.
#[test]
fn rule_15_no_ttl_is_sent() {
    let bytes = encoded(&response(Protocol::Delta, &[3]));
    let delta = DeltaDiscoveryResponse::decode(&bytes[..]).expect("a DeltaDiscoveryResponse");
    assert!(delta.resources.iter().all(|r| r.ttl.is_none() && r.aliases.is_empty() && r.cache_control.is_none()));
}
