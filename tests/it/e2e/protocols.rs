//! More than requests of HTTP/1.1: HTTP/2 to the pods, trailers, upgrades, and connections that last.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{POD_PORT, Setup, clusterset, resolve};
use crate::support::fleet::{Gateway, Speaks};
use crate::support::manifests::{Backend, Service, access_yaml};
use crate::support::{eventually, traffic};

const WITHIN: Duration = Duration::from_secs(10);

/// A pod that speaks HTTP/2 alone, without TLS, and answers as gRPC servers do: the status is a trailer.
async fn start_h2c_pod(address: IpAddr, name: &'static str) {
    let listener = TcpListener::bind((address, POD_PORT)).await.expect("the pod's address is free");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| async move {
                assert_eq!(request.version(), Version::HTTP_2);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "7".parse().expect("a header"));
                let frames = [Frame::data(Bytes::from(name)), Frame::trailers(trailers)];
                let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
                let response = Response::builder().header("content-type", "application/grpc").body(body);
                Ok::<_, Infallible>(response.expect("a response"))
            });
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let _ =
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
            });
        }
    });
}

/// Body and `grpc-status` of a request by HTTP/2.
async fn call(to: SocketAddr, host: &str) -> (String, Option<String>) {
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
    // By HTTP/2 the URI is where the name stands, so the address has to be told otherwise than by it.
    let request = Request::post(format!("http://{to}/shop.Checkout/Pay"))
        .header("host", host)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(Empty::new())
        .expect("a request");
    let response = timeout(WITHIN, client.request(request)).await.expect("in time").expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    let whole = response.into_body().collect().await.expect("a body");
    let status = whole.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let status = status.map(|status| status.to_str().expect("text").to_owned());
    (String::from_utf8_lossy(&whole.to_bytes()).into_owned(), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_speak_h2c_or_grpc_are_reached_by_http2() {
    let setup = Setup::new();
    for (index, (name, protocol)) in [("plain", "kubernetes.io/h2c"), ("calls", "grpc")].into_iter().enumerate() {
        let address = setup.pod_address("east", index as u8);
        start_h2c_pod(address, name).await;
        setup.clusters.service("east", &Setup::service(name, protocol), &[Backend::ready(name, address)]);
        setup.clusters.write("east", &format!("{name}-access.yaml"), &access_yaml(name, "edge", 1));
    }
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    for name in ["plain", "calls"] {
        let to = resolve(&plane, name);
        assert_eq!(call(to, &clusterset(name)).await, (name.to_owned(), Some("7".to_owned())));
        // A client of HTTP/1.1 is served by the same pods.
        let tally = traffic::send(to, &clusterset(name), 5).await;
        assert_eq!(tally.answered.get(name), Some(&5), "{tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_changes_its_protocol_while_requests_run() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "tcp"), 0..2, "edge").await;
    let plane = setup.control_plane();
    let mut gateways =
        [Speaks::Delta, Speaks::Sotw].map(|speaks| setup.gateway(&format!("gw-{speaks:?}"), &plane, speaks));
    for gateway in &mut gateways {
        gateway.start_envoy().start_agent();
    }
    let to = resolve(&plane, "checkout");
    let stream = traffic::Stream::start(to, &clusterset("checkout"), 200);
    for (before, after) in [("tcp", "http"), ("http", "tcp"), ("tcp", "http")] {
        for cluster in ["east", "west"] {
            let text = setup.clusters.read(cluster, "checkout.yaml");
            let edited = text.replace(&format!("appProtocol: {before}"), &format!("appProtocol: {after}"));
            assert_ne!(text, edited);
            setup.clusters.write(cluster, "checkout.yaml", &edited);
        }
        let wanted = format!("main:8080/{}", if after == "tcp" { "Tcp" } else { "Http" });
        eventually("the new protocol", WITHIN, || {
            let row = plane.row("/api/v1/services", "name", "checkout")?;
            (row["ports"][0].as_str()? == wanted).then_some(())
        });
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let tally = stream.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(plane.wait_vip("shop/checkout", "Published")["bound"], "2/2");
    for gateway in &gateways {
        assert_eq!(gateway.stat("listener_manager.lds.update_rejected"), Some(0));
        assert_eq!(gateway.stat("cluster_manager.cds.update_rejected"), Some(0));
    }
}

/// A pod of bytes: it says its name, then sends back what it gets. It takes the place of HTTP pods, so
/// that a request for an upgrade is granted, as by a WebSocket server.
async fn start_echo_pod(address: IpAddr, name: &'static str, greeting: Greeting) {
    let listener = TcpListener::bind((address, POD_PORT)).await.expect("the pod's address is free");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream, name, greeting));
        }
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Name,
    Upgrade,
}

async fn echo(mut stream: TcpStream, name: &str, greeting: Greeting) -> std::io::Result<()> {
    if greeting == Greeting::Upgrade {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket"), "{head}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
            .await?;
    }
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return Ok(()),
            count => stream.write_all(&bytes[..count]).await?,
        }
    }
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = timeout(WITHIN, stream.read_u8()).await.expect("in time");
        text.push(byte.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&text))));
    }
    String::from_utf8(text).expect("text")
}

async fn assert_echoes(stream: &mut TcpStream, text: &str) {
    stream.write_all(format!("{text}\n").as_bytes()).await.expect("the connection is open");
    assert_eq!(read_until(stream, "\n").await, format!("{text}\n"));
}

/// Opens a connection, changes endpoints under it in every way there is, and holds that it stays.
async fn stays_while_endpoints_change(protocol: &'static str, greeting: Greeting) {
    let setup = Setup::new();
    let service: Service = Setup::service("chat", protocol);
    let backends = ["chat-0", "chat-1"].map(|name| {
        let index = if name == "chat-0" { 0 } else { 1 };
        Backend::ready(name, setup.pod_address("east", index))
    });
    start_echo_pod(backends[0].address, "chat-0", greeting).await;
    start_echo_pod(backends[1].address, "chat-1", greeting).await;
    setup.clusters.service("east", &service, &backends[..1]);
    setup.clusters.write("east", "chat-access.yaml", &access_yaml("chat", "edge", 1));
    let mut plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "chat");
    let mut first = connect(to, greeting).await;
    assert_eq!(read_until(&mut first, "\n").await, "chat-0\n");
    assert_echoes(&mut first, "hello").await;

    // Another pod joins; this one drains; it is gone; the control plane is restarted.
    setup.clusters.service("east", &service, &backends);
    wait_members(&gateway, 2);
    assert_echoes(&mut first, "another joined").await;
    let mut draining = backends.clone();
    draining[0].terminating = true;
    setup.clusters.service("east", &service, &draining);
    let mut second = connects_to("chat-1", to, greeting).await;
    assert_echoes(&mut first, "draining").await;
    setup.clusters.service("east", &service, &backends[1..]);
    wait_members(&gateway, 1);
    assert_echoes(&mut first, "gone from the slice").await;
    plane.process().kill();
    plane.restart();
    plane.wait_ready();
    plane.wait_vip("shop/chat", "Published");
    // Other names of the same listener's service.
    let access = format!("{}  hostnames: [chat.example.com]\n", access_yaml("chat", "edge", 1));
    setup.clusters.write("east", "chat-access.yaml", &access);
    eventually("the name", WITHIN, || (plane.resolve("chat.example.com") == [to.ip()]).then_some(()));
    assert_echoes(&mut first, "still here").await;
    assert_echoes(&mut second, "so am I").await;
}

fn wait_members(gateway: &Gateway, count: u64) {
    eventually("Envoy to have the endpoints", WITHIN, || {
        (gateway.stat("cluster.shop/chat/chat_8080.membership_total") == Some(count)).then_some(())
    });
}

async fn connect(to: SocketAddr, greeting: Greeting) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("the VIP listens");
    if greeting == Greeting::Upgrade {
        let head = format!(
            "GET /chat HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: \
             13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            clusterset("chat")
        );
        stream.write_all(head.as_bytes()).await.expect("the connection is open");
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    }
    stream
}

/// New connections go to this pod, soon.
async fn connects_to(pod: &str, to: SocketAddr, greeting: Greeting) -> TcpStream {
    let until = tokio::time::Instant::now() + WITHIN;
    let mut in_a_row = 0;
    loop {
        let mut stream = connect(to, greeting).await;
        let name = read_until(&mut stream, "\n").await;
        in_a_row = if name.trim() == pod { in_a_row + 1 } else { 0 };
        if in_a_row == 5 {
            return stream;
        }
        assert!(tokio::time::Instant::now() < until, "new connections go to {name}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_bytes_stays_while_endpoints_change() {
    stays_while_endpoints_change("tcp", Greeting::Name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_stays_while_endpoints_change() {
    stays_while_endpoints_change("kubernetes.io/ws", Greeting::Upgrade).await;
}
