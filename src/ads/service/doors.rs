//! The services of single types: the same streams by other names.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};

use super::AdsServer;
use crate::ads::DiscoveryService;

/// Says by its type which service is meant, since tonic's router asks types for their names.
trait Door: Send + 'static {
    const SERVICE: DiscoveryService;
}

macro_rules! doors {
    ($($name:ident),*) => {$(
        struct $name;
        impl Door for $name {
            const SERVICE: DiscoveryService = DiscoveryService::$name;
        }
    )*};
}

doors!(Cluster, Endpoint, Listener, Route, Secret);

/// A service of one type.
struct OneType<D> {
    server: AdsServer,
    // Not the door itself, which would have to be shared between threads.
    door: PhantomData<fn() -> D>,
}

impl<D> OneType<D> {
    fn new(server: &AdsServer) -> Self {
        Self { server: server.clone(), door: PhantomData }
    }
}

impl<D> Clone for OneType<D> {
    fn clone(&self) -> Self {
        Self::new(&self.server)
    }
}

impl<D: Door> NamedService for OneType<D> {
    const NAME: &'static str = D::SERVICE.name();
}

impl<D, B> Service<http::Request<B>> for OneType<D>
where
    D: Door,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.server.enter(D::SERVICE, request)
    }
}

impl AdsServer {
    /// This service and those of single types (`ClusterDiscoveryService`, `EndpointDiscoveryService`,
    /// `ListenerDiscoveryService`, `RouteDiscoveryService`, `SecretDiscoveryService`), all behind the same check, to be
    /// mounted with `Server::add_routes`. Streams of all of them have the same limits, registry, metrics and events.
    ///
    /// Between streams nothing is ordered, so that make before break holds on aggregated streams only.
    pub fn services(&self, check: impl Interceptor + Clone + Send + Sync + 'static) -> Routes {
        Routes::new(InterceptedService::new(self.clone(), check.clone()))
            .add_service(InterceptedService::new(OneType::<Cluster>::new(self), check.clone()))
            .add_service(InterceptedService::new(OneType::<Endpoint>::new(self), check.clone()))
            .add_service(InterceptedService::new(OneType::<Listener>::new(self), check.clone()))
            .add_service(InterceptedService::new(OneType::<Route>::new(self), check.clone()))
            .add_service(InterceptedService::new(OneType::<Secret>::new(self), check))
    }
}
