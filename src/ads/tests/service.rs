//! Rule 22: all streams go through one set of checks, and nothing is served beside them.

use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::{Service, http};
use tonic::service::Routes;

use crate::ads::service::AdsServer;
use crate::ads::{DiscoveryService, Limits};

fn server() -> AdsServer {
    AdsServer::new(mpsc::channel(1).0, Limits::default())
}

async fn code(routes: &mut Routes, path: &str) -> (Option<Code>, String) {
    let request = http::Request::builder().uri(path).body(tonic::body::Body::empty()).expect("a request");
    let answer = routes.call(request).await.expect("an answer");
    let status = tonic::Status::from_header_map(answer.headers());
    let message = status.as_ref().map(|status| status.message().to_owned()).unwrap_or_default();
    (status.map(|status| status.code()), message)
}

#[tokio::test]
async fn rule_22_only_streams_are_served() {
    let mut routes = server().services(Ok::<_, tonic::Status>);
    let mut ready = Context::from_waker(Waker::noop());
    assert!(matches!(
        Service::<http::Request<tonic::body::Body>>::poll_ready(&mut routes, &mut ready),
        Poll::Ready(Ok(()))
    ));
    let methods = [
        ["StreamAggregatedResources", "DeltaAggregatedResources", "FetchAggregatedResources"],
        ["StreamClusters", "DeltaClusters", "FetchClusters"],
        ["StreamEndpoints", "DeltaEndpoints", "FetchEndpoints"],
        ["StreamListeners", "DeltaListeners", "FetchListeners"],
        ["StreamRoutes", "DeltaRoutes", "FetchRoutes"],
        ["StreamSecrets", "DeltaSecrets", "FetchSecrets"],
    ];
    for (service, own) in DiscoveryService::ALL.into_iter().zip(methods) {
        for method in methods.into_iter().flatten().chain(["", "stream", "StreamClusters2"]) {
            let path = format!("/{}/{method}", service.name());
            let (code, message) = code(&mut routes, &path).await;
            let is_served = own[..2].contains(&method);
            // A stream begins without a status.
            assert_eq!(code, (!is_served).then_some(Code::Unimplemented), "{path}");
            assert!(is_served || message.is_empty() || message.contains(own[0]), "{path}: {message}");
        }
    }
    let elsewhere = "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime";
    assert_eq!(code(&mut routes, elsewhere).await.0, Some(Code::Unimplemented));
}

#[tokio::test]
async fn rule_22_each_service_asks_the_same_check() {
    let refuse = |_| Err::<tonic::Request<()>, _>(tonic::Status::permission_denied("not you"));
    let mut routes = server().services(refuse);
    for (service, method) in DiscoveryService::ALL.into_iter().zip([
        "StreamAggregatedResources",
        "DeltaClusters",
        "StreamEndpoints",
        "DeltaListeners",
        "StreamRoutes",
        "DeltaSecrets",
    ]) {
        let path = format!("/{}/{method}", service.name());
        assert_eq!(code(&mut routes, &path).await, (Some(Code::PermissionDenied), "not you".to_owned()), "{path}");
    }
}
