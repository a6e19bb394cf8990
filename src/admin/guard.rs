//! The door of every HTTP and gRPC entry: who is calling, and may they.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};

use super::ApiError;
use crate::trust::{Action, Decision, Identity, Mode, authorize};

/// What the HTTP door needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    mode: Mode,
    loopback: bool,
}

impl Guard {
    /// A door for an interface served at `bound`.
    pub fn new(mode: Mode, bound: SocketAddr) -> Self {
        Self { mode, loopback: bound.ip().to_canonical().is_loopback() }
    }
}

/// The middleware in front of every path, those that do not exist included.
pub async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match admit(guard, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn admit(guard: Guard, request: &Request) -> Result<(), ApiError> {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        return Err(ApiError::Forbidden("the connection's other end is not known".to_owned()));
    };
    let identity = Identity::of_tcp_peer(*peer, guard.mode);
    let action = action_of(request.method(), request.uri().path());
    if let Decision::Deny { reason } = authorize(&identity, action) {
        tracing::warn!(%identity, %action, "refused");
        return Err(ApiError::Forbidden(reason));
    }
    check_origin(request.method(), request.headers())?;
    if guard.loopback { check_host(request.uri(), request.headers()) } else { Ok(()) }
}

/// What a request is about. A path that does not exist counts as reading the state, so that it
/// tells a stranger nothing either.
fn action_of(method: &Method, path: &str) -> Action {
    if path == "/api/v1/policies" || path.starts_with("/api/v1/policies/") {
        return match *method {
            Method::GET | Method::HEAD => Action::ReadPolicies,
            Method::PUT => Action::UploadPolicy,
            Method::DELETE => Action::DeletePolicy,
            _ => Action::ActivatePolicy,
        };
    }
    // gRPC's calls are POSTs of any purpose.
    if path.starts_with("/envoy.service.status.") {
        return Action::ReadXdsDebug;
    }
    if method == Method::DELETE {
        return Action::ForgetCluster;
    }
    match path {
        "/healthz" | "/readyz" => Action::ReadHealth,
        "/metrics" => Action::ReadMetrics,
        _ if path.starts_with("/debug/xds") => Action::ReadXdsDebug,
        _ => Action::ReadState,
    }
}

/// Refuses changes that a page of another site asks for. A browser sends a page's plain POST anywhere without asking the
/// server first, and says from where it comes (fetch.spec.whatwg.org, "Origin header").
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Ok(());
    }
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let own = text(header::HOST).is_some_and(|host| origin.strip_prefix("http://") == Some(host));
    let why = || ApiError::Forbidden(format!("a page of `{origin}` may change nothing here; use `causeway` or curl"));
    if own { Ok(()) } else { Err(why()) }
}

/// Refuses names of other sites. A page in a browser of this machine may point its own name at
/// 127.0.0.1 and so read a loopback server as its own origin; the `Host` that it then sends gives it
/// away. Numbers are let through: a page cannot own them.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    // RFC 9112, 3.2.2: an absolute target's authority stands instead of Host; neither may be foreign.
    let in_target = uri.authority().map(|a| a.as_str().to_owned());
    let mut in_headers = Vec::new();
    for value in headers.get_all(header::HOST) {
        let text = value.to_str().map_err(|_| ApiError::BadRequest("the Host header is not text".to_owned()))?;
        in_headers.push(text.to_owned());
    }
    for authority in in_target.into_iter().chain(in_headers) {
        if !is_this_machine(&authority) {
            return Err(ApiError::Misdirected(format!(
                "Host `{authority}` is not this machine: a loopback address answers localhost and literal IP addresses only"
            )));
        }
    }
    Ok(())
}

fn is_this_machine(authority: &str) -> bool {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // RFC 6761, 6.3: `localhost` and the names below it are always this machine.
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok()
}

/// The door of a gRPC service, to be mounted as
/// `tonic::service::interceptor::InterceptedService::new(service, guard::grpc(mode, action))`.
/// Works with TCP and Unix listeners of tonic's transport; a connection of any other kind is refused.
pub fn grpc(
    mode: Mode,
    action: Action,
) -> impl Fn(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> + Clone {
    move |request| {
        check_grpc(mode, action, request.extensions())?;
        Ok(request)
    }
}

/// The same door for a caller that has the request's extensions at hand.
pub fn check_grpc(mode: Mode, action: Action, extensions: &tonic::Extensions) -> Result<(), tonic::Status> {
    // xDS connections are guarded ones, which carry their peer in an extension of their own.
    let plain = || extensions.get::<TcpConnectInfo>().and_then(|info| info.remote_addr);
    let tcp = crate::ads::net::peer(extensions).or_else(plain);
    let identity = match (tcp, extensions.get::<UdsConnectInfo>()) {
        (Some(peer), _) => Identity::of_tcp_peer(peer, mode),
        (None, Some(_)) => Identity::of_unix_peer(),
        (None, None) => return Err(tonic::Status::permission_denied("the connection's other end is not known")),
    };
    match authorize(&identity, action) {
        Decision::Allow => Ok(()),
        Decision::Deny { reason } => {
            tracing::warn!(%identity, %action, "refused");
            Err(tonic::Status::permission_denied(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_a_foreign_page_could_own_are_not_this_machine() {
        for fine in [
            "localhost",
            "localhost:18080",
            "LocalHost.",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:18080",
            "[::1]",
            "[::1]:18080",
            "10.0.0.7:18080",
            "user@localhost:1",
        ] {
            assert!(is_this_machine(fine), "{fine}");
        }
        for foreign in [
            "evil.example",
            "evil.example:18080",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.nip.io:18080",
            "",
            "[evil.example]",
            "localhost@evil.example",
            "0x7f.1",
            "[::1",
        ] {
            assert!(!is_this_machine(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_target_and_a_second_host_header_are_checked_too() {
        let headers = |hosts: &[&'static str]| {
            let mut map = HeaderMap::new();
            for host in hosts {
                map.append(header::HOST, host.parse().unwrap());
            }
            map
        };
        let path: Uri = "/metrics".parse().unwrap();
        let foreign: Uri = "http://evil.example/metrics".parse().unwrap();
        assert!(check_host(&path, &headers(&[])).is_ok(), "HTTP/1.0 has no Host, and browsers always send one");
        assert!(check_host(&path, &headers(&["localhost"])).is_ok());
        assert!(check_host(&path, &headers(&["localhost", "evil.example"])).is_err());
        assert!(check_host(&foreign, &headers(&["localhost"])).is_err());
    }

    #[test]
    fn remote_callers_are_refused_on_every_path_unless_insecure() {
        let request = |path: &str, peer: &str| {
            let peer: SocketAddr = peer.parse().unwrap();
            Request::get(path).extension(ConnectInfo(peer)).body(axum::body::Body::empty()).unwrap()
        };
        let everywhere = "0.0.0.0:18080".parse().unwrap();
        let (local, insecure) = (Guard::new(Mode::Local, everywhere), Guard::new(Mode::Insecure, everywhere));
        let status = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus";
        for path in ["/", "/healthz", "/metrics", "/api/v1/vips", "/debug/xds/nodes/a", status, "/nothing"] {
            assert!(matches!(admit(local, &request(path, "10.0.0.1:5")), Err(ApiError::Forbidden(_))), "{path}");
            assert!(admit(local, &request(path, "127.0.0.1:5")).is_ok(), "{path}");
            assert!(admit(insecure, &request(path, "10.0.0.1:5")).is_ok(), "{path}");
        }
    }

    #[test]
    fn each_path_and_method_has_its_action() {
        let cases = [
            (Method::GET, "/healthz", Action::ReadHealth),
            (Method::HEAD, "/readyz", Action::ReadHealth),
            (Method::GET, "/metrics", Action::ReadMetrics),
            (Method::GET, "/debug/xds/nodes/a", Action::ReadXdsDebug),
            (
                Method::POST,
                "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
                Action::ReadXdsDebug,
            ),
            (Method::GET, "/api/v1/vips", Action::ReadState),
            (Method::GET, "/nothing", Action::ReadState),
            (Method::DELETE, "/api/v1/clusters/east", Action::ForgetCluster),
            (Method::GET, "/api/v1/policies", Action::ReadPolicies),
            (Method::GET, "/api/v1/policies/mine/component", Action::ReadPolicies),
            (Method::PUT, "/api/v1/policies/mine", Action::UploadPolicy),
            (Method::POST, "/api/v1/policies/mine/rollback", Action::ActivatePolicy),
            (Method::DELETE, "/api/v1/policies/mine", Action::DeletePolicy),
        ];
        for (method, path, action) in cases {
            assert_eq!(action_of(&method, path), action, "{method} {path}");
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let from = |origin: Option<&'static str>| {
            let mut map = HeaderMap::new();
            map.append(header::HOST, "127.0.0.1:18080".parse().unwrap());
            origin.map(|origin| map.append(header::ORIGIN, origin.parse().unwrap()));
            map
        };
        for fine in [None, Some("http://127.0.0.1:18080")] {
            assert!(check_origin(&Method::POST, &from(fine)).is_ok(), "{fine:?}");
        }
        for foreign in ["https://evil.example", "http://127.0.0.1:1", "null", "https://127.0.0.1:18080"] {
            assert!(check_origin(&Method::POST, &from(Some(foreign))).is_err(), "{foreign}");
            assert!(check_origin(&Method::DELETE, &from(Some(foreign))).is_err(), "{foreign}");
            assert!(check_origin(&Method::GET, &from(Some(foreign))).is_ok(), "{foreign}");
        }
    }

    #[test]
    fn grpc_callers_are_judged_by_their_connection() {
        let tcp = |text: &str| TcpConnectInfo { local_addr: None, remote_addr: Some(text.parse().unwrap()) };
        let with = |info: TcpConnectInfo| {
            let mut request = tonic::Request::new(());
            request.extensions_mut().insert(info);
            request
        };
        let local = grpc(Mode::Local, Action::Discover);
        assert!(local(with(tcp("127.0.0.1:5"))).is_ok());
        assert_eq!(local(with(tcp("10.0.0.1:5"))).unwrap_err().code(), tonic::Code::PermissionDenied);
        assert_eq!(local(tonic::Request::new(())).unwrap_err().code(), tonic::Code::PermissionDenied);
        assert!(grpc(Mode::Insecure, Action::Discover)(with(tcp("10.0.0.1:5"))).is_ok());
        let mut unix = tonic::Request::new(());
        unix.extensions_mut().insert(UdsConnectInfo { peer_addr: None, peer_cred: None });
        assert!(local(unix).is_ok());
    }
}
