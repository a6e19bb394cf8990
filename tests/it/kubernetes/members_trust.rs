//! Who may speak for a cluster: whoever shows its certificate, and nobody else.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use causeway::member::authority::{Authority, Credential, Place, SERVER_NAME, TRUST_DOMAIN};
use causeway::member::proto::{self, MemberMessage, member_client::MemberClient, member_message::Body};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::members::{Scene, WITHIN};
use super::setup::wait_cluster;
use crate::support::eventually;
use crate::support::fleet::ureq_get;

const DAY: Duration = Duration::from_secs(24 * 3600);

type Tls = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;

/// Gives the connection that is there.
struct Once(Option<Tls>);

impl tonic::codegen::Service<tonic::transport::Uri> for Once {
    type Response = Tls;
    type Error = std::io::Error;
    type Future = std::future::Ready<std::io::Result<Tls>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::transport::Uri) -> Self::Future {
        std::future::ready(self.0.take().ok_or_else(|| std::io::Error::other("there is one connection only")))
    }
}

/// A stream with this credential, whose Hello says this; gives with which status it ends.
async fn hello(to: SocketAddr, ca: &str, shown: Option<&Credential>, cluster: &str, uid: &str) -> Result<(), Status> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(Credential { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(to).await.unwrap();
    let failed = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
    let stream = connector.connect(ServerName::try_from(SERVER_NAME).unwrap(), tcp).await.map_err(|e| failed(&e))?;
    let once = Once(Some(TokioIo::new(stream)));
    let channel = Endpoint::from_static("http://primary").connect_with_connector(once).await.map_err(|e| failed(&e))?;
    let hello = proto::Hello {
        protocol_version: 1,
        cluster: cluster.to_owned(),
        cluster_uid: uid.to_owned(),
        ..proto::Hello::default()
    };
    let messages = tokio_stream::iter([MemberMessage { body: Some(Body::Hello(hello)) }]);
    // The stream of messages stays open.
    let messages = tokio_stream::StreamExt::chain(messages, tokio_stream::pending());
    let mut answers = MemberClient::new(channel).sync(messages).await?.into_inner();
    answers.message().await.map(|_| ())
}

fn self_signed(dir: &Path) -> Credential {
    let path = |name: &str| dir.join(name).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=east", "-addext", "subjectAltName=URI:spiffe://causeway/cluster/east"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("self.key"), "-out", &path("self.crt")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).expect("openssl wrote it");
    Credential { cert: text("self.crt"), key: text("self.key") }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_a_cluster_without_its_certificate() {
    let mut scene = Scene::new(&["primary", "east", "west"]);
    let (file, _) = (scene.join("east"), scene.join("west"));
    scene.start();
    let member = scene.member("east", &file);
    let known = wait_cluster(&scene.plane, "east", "Synced", WITHIN);

    let authority = Authority::open(&Place::DataDir(scene.plane.dir.join("data")), TRUST_DOMAIN).unwrap();
    let door = scene.door;
    let east = authority.member("east", DAY).unwrap();
    let stranger = Place::DataDir(scene.setup.dir.path().join("stranger"));
    let stranger = Authority::open(&stranger, TRUST_DOMAIN).unwrap().member("east", DAY).unwrap();
    let nameless = Authority::open(&Place::DataDir(scene.plane.dir.join("data")), "elsewhere").unwrap();
    let ended = authority.member("east", Duration::ZERO).unwrap();
    // Certificates count in seconds, and are good in the last one.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let by_handshake = [
        (None, "it shows no certificate"),
        (Some(&stranger), "its certificate is of an authority that is not known here"),
        (Some(&self_signed(scene.setup.dir.path())), "its certificate is of an authority that is not known here"),
        (Some(&ended), "its certificate has ended"),
        (Some(&nameless.member("east", DAY).unwrap()), "its certificate names no spiffe://causeway/cluster/NAME"),
    ];
    for (shown, reason) in by_handshake {
        let refused = scene.plane.log().matches(reason).count();
        hello(door, authority.pem(), shown, "east", "u").await.expect_err(reason);
        let log = eventually(reason, WITHIN, || {
            let log = scene.plane.log();
            (log.matches(reason).count() > refused).then_some(log)
        });
        let line = log.lines().rfind(|line| line.contains(reason)).unwrap();
        assert!(line.contains("remedy=") && line.contains("127.0.0.1:"), "{line}");
    }

    // By what it says: another cluster's name, a name that nobody expects, another cluster by the same name.
    let uid =
        scene.setup.server("west").kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
    let nobody = authority.member("nobody", DAY).unwrap();
    let by_word = [
        (&east, "west", Code::PermissionDenied, "may not tell what cluster west has"),
        (&nobody, "nobody", Code::FailedPrecondition, "has no ClusterInfo nobody"),
        (&east, "east", Code::FailedPrecondition, "but east is the one with"),
    ];
    for (shown, cluster, code, reason) in by_word {
        let status = hello(door, authority.pem(), Some(shown), cluster, &uid).await.expect_err(reason);
        assert_eq!((status.code(), status.message().contains(reason)), (code, true), "{status}");
        assert!(scene.plane.log().contains(reason), "{reason} is logged");
    }
    // None of that disturbed the member of east.
    let (_, page) = ureq_get(scene.plane.admin, "/metrics").expect("metrics");
    for line in [
        "causeway_member_connected{cluster=\"east\"} 1.0",
        "causeway_member_streams_total{cluster=\"east\"} 1.0",
        "causeway_member_streams_refused_total 3.0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let row = wait_cluster(&scene.plane, "east", "Synced", WITHIN);
    assert_eq!(row["services"], known["services"]);

    // A second member of the same cluster takes the place of the first, which says why.
    let second = scene.member("east", &file);
    let log = eventually("the first to be told", WITHIN, || {
        Some(scene.member_log("east")).filter(|log| log.contains("another member of the cluster has connected"))
    });
    assert!(log.contains("run one only"), "{log}");
    drop((member, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_replaced_is_taken_up_without_a_restart() {
    let mut scene = Scene::new(&["primary", "east"]);
    let file = scene.join("east");
    scene.start();
    let _member = scene.member("east", &file);
    wait_cluster(&scene.plane, "east", "Synced", WITHIN);
    let ends = |scene: &Scene| {
        let info = scene.setup.get("clusterinfo", "east")?;
        info["status"]["credentialExpiresAt"].as_str().map(str::to_owned)
    };
    let first = eventually("when the certificate ends", WITHIN, || ends(&scene));
    scene.wait_told("east", 1);
    let before = scene.travelled("east");

    // Certificates count in seconds.
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(scene.join("east"), file, "the same file is written anew");
    eventually("the new certificate to be in use", WITHIN, || ends(&scene).filter(|found| *found != first));
    scene.wait_told("east", 2);
    assert_eq!(scene.travelled("east"), before, "nothing travels anew");

    // Another authority: its members are let in once they have its certificates.
    std::fs::remove_file(scene.plane.dir.join("data").join("member-ca.pem")).expect("it was there");
    scene.join("east");
    scene.wait_told("east", 3);
    assert_eq!(scene.travelled("east"), before);
}
