//! Rule 22: one door, one set of checks.

use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::{Service, http};

use crate::ads::Limits;
use crate::ads::service::AdsServer;

#[tokio::test]
async fn rule_22_only_the_aggregated_streams_are_served() {
    let mut server = AdsServer::new(mpsc::channel(1).0, Limits::default());
    let mut ready = Context::from_waker(Waker::noop());
    assert!(matches!(
        Service::<http::Request<tonic::body::Body>>::poll_ready(&mut server, &mut ready),
        Poll::Ready(Ok(()))
    ));
    for method in ["FetchClusters", "StreamClusters", "DeltaClusters", "FetchAggregatedResources", ""] {
        let path = format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}");
        let request = http::Request::builder().uri(&path).body(tonic::body::Body::empty()).expect("a request");
        let answer = server.call(request).await.expect("an answer");
        let status = tonic::Status::from_header_map(answer.headers());
        assert_eq!(status.map(|status| status.code()), Some(Code::Unimplemented), "{path}");
    }
}
