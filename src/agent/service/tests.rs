use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::agent::proto::agent_message::Body;
use crate::agent::proto::control_message::Body as Asked;
use crate::agent::proto::feedback_client::FeedbackClient;
use crate::model::id::NamespacedName;
use crate::model::object::{Family, Protocol, ServicePort};

struct Shell {
    url: String,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shell {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, events) = mpsc::channel(4);
        let router = Server::builder().add_service(FeedbackServer::new(sender).into_service());
        let task =
            tokio::spawn(async move { router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        Self { url, events, task }
    }

    async fn dial(&self, first: Vec<Body>) -> (mpsc::Sender<AgentMessage>, Streaming<ControlMessage>) {
        let channel = Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        let (sender, messages) = mpsc::channel(64);
        for body in first {
            sender.send(AgentMessage { body: Some(body) }).await.unwrap();
        }
        let response = FeedbackClient::new(channel).report(ReceiverStream::new(messages)).await.unwrap();
        (sender, response.into_inner())
    }

    async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await;
        event.expect("an event comes").expect("the service runs")
    }

    async fn connected(&mut self) -> (AgentId, mpsc::Sender<Control>) {
        match self.event().await {
            Event::Connected { agent, control, .. } => (agent, control),
            other => panic!("{other:?}"),
        }
    }

    async fn gone(&mut self, expected: AgentId) {
        match self.event().await {
            Event::Gone { agent } => assert_eq!(agent, expected),
            other => panic!("{other:?}"),
        }
    }
}

fn hello(protocol_version: u32, node: &str) -> Body {
    Body::Hello(proto::Hello { protocol_version, node_id: node.into(), ranges: Vec::new(), agent_version: "t".into() })
}

async fn asked(inbound: &mut Streaming<ControlMessage>) -> Asked {
    inbound.message().await.unwrap().unwrap().body.unwrap()
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_stream_with_a_reason() {
    let mut shell = Shell::start().await;
    let heartbeat = || Body::Heartbeat(proto::Heartbeat {});
    let (_open, mut inbound) = shell.dial(vec![heartbeat()]).await;
    assert_eq!(inbound.message().await.unwrap_err().code(), Code::InvalidArgument);
    let (_open, mut inbound) = shell.dial(vec![hello(2, "gw")]).await;
    assert_eq!(inbound.message().await.unwrap_err().code(), Code::FailedPrecondition);

    let (open, mut inbound) = shell.dial(vec![hello(1, "gw")]).await;
    let (agent, _control) = shell.connected().await;
    assert!(matches!(asked(&mut inbound).await, Asked::Welcome(welcome) if welcome.silence_ms == 15_000));
    open.send(AgentMessage { body: Some(hello(1, "other")) }).await.unwrap();
    assert_eq!(inbound.message().await.unwrap_err().code(), Code::InvalidArgument);
    shell.gone(agent).await;
}

#[tokio::test]
async fn a_lost_connection_is_gone_at_once() {
    let mut shell = Shell::start().await;
    let (open, inbound) = shell.dial(vec![hello(1, "gw")]).await;
    let (agent, _control) = shell.connected().await;
    drop((open, inbound));
    shell.gone(agent).await;
}

#[tokio::test]
async fn the_newer_agent_of_a_node_takes_its_place() {
    let mut shell = Shell::start().await;
    let (_open, mut first) = shell.dial(vec![hello(1, "gw")]).await;
    let (first_id, _control) = shell.connected().await;
    asked(&mut first).await;
    let (_other, _inbound) = shell.dial(vec![hello(1, "other")]).await;
    shell.connected().await;
    let (_open, mut second) = shell.dial(vec![hello(1, "gw")]).await;
    shell.gone(first_id).await;
    let (second_id, _control) = shell.connected().await;
    assert_ne!(first_id, second_id);
    assert!(matches!(asked(&mut second).await, Asked::Welcome(_)));
    assert_eq!(first.message().await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn streams_end_with_the_owner() {
    let mut shell = Shell::start().await;
    let (_open, mut inbound) = shell.dial(vec![hello(1, "gw")]).await;
    shell.connected().await;
    asked(&mut inbound).await;
    shell.events.close();
    assert_eq!(inbound.message().await.unwrap_err().code(), Code::Unavailable);
    let (_open, mut inbound) = shell.dial(vec![hello(1, "gw")]).await;
    assert_eq!(inbound.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn an_owner_that_is_slow_loses_nothing_and_asks_in_order() {
    let mut shell = Shell::start().await;
    let reports = (0..50).map(|n| Body::Assigned(proto::Assigned { slot: n.to_string(), address: "10.0.0.1".into() }));
    let (_open, mut inbound) = shell.dial([hello(1, "gw")].into_iter().chain(reports).collect()).await;
    let (_, control) = shell.connected().await;
    let request = AssignRequest {
        slot: "s".into(),
        access: NamespacedName::new("shop", "checkout"),
        service: NamespacedName::new("shop", "cart"),
        pod: Some("checkout-0".into()),
        ports: vec![ServicePort { name: "http".into(), port: 80, protocol: Protocol::H2c }],
        hostnames: vec!["checkout.example.com".into()],
        family: Family::V6,
        current: Some("fd00::7".parse().unwrap()),
        rules_json: r#"{"reserved": []}"#.into(),
    };
    control.send(Control::Assign(request.clone())).await.unwrap();
    control.send(Control::Release { slot: "r".into(), address: "10.0.0.2".parse().unwrap() }).await.unwrap();
    drop(control);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for n in 0..50 {
        assert!(matches!(shell.event().await, Event::Assigned { slot, .. } if slot == n.to_string()));
    }
    assert!(matches!(asked(&mut inbound).await, Asked::Welcome(_)));
    let Asked::Assign(assign) = asked(&mut inbound).await else { panic!("not an assign") };
    assert_eq!(wire::assign_from(assign).unwrap(), request, "nothing is lost on the way");
    let expected = proto::Release { slot: "r".into(), address: "10.0.0.2".into() };
    assert_eq!(asked(&mut inbound).await, Asked::Release(expected));
}

#[test]
fn requests_that_cannot_be_understood_name_the_field() {
    let good = proto::Assign {
        slot: "s".into(),
        access: "shop/checkout".into(),
        service: "shop/checkout".into(),
        family: proto::Family::Ipv4.into(),
        ..proto::Assign::default()
    };
    assert!(wire::assign_from(good.clone()).is_ok());
    let port = |number| vec![proto::Port { name: String::new(), number, protocol: 0 }];
    for (bad, field) in [
        (proto::Assign { access: "checkout".into(), ..good.clone() }, "access"),
        (proto::Assign { service: String::new(), ..good.clone() }, "service"),
        (proto::Assign { family: 0, ..good.clone() }, "family"),
        (proto::Assign { current: Some("x".into()), ..good.clone() }, "current"),
        (proto::Assign { ports: port(0), ..good.clone() }, "ports.number"),
        (proto::Assign { ports: port(65_536), ..good.clone() }, "ports.number"),
    ] {
        assert!(wire::assign_from(bad).unwrap_err().to_string().contains(field), "{field}");
    }
}
