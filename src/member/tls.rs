//! Mutual TLS between members and the primary. Files that were replaced are taken up with the next connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::authority::{self, Authority, AuthorityError, Place, SERVER, SERVER_NAME};
use crate::trust::Identity;

/// HTTP/2, as gRPC needs it.
const ALPN: &[u8] = b"h2";
/// How long a handshake may take: a few exchanges, over a slow line too.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time. Whoever connects may begin one, before it has proved anything.
const HANDSHAKES: usize = 64;
/// How often files are read again at most.
const LOOK: Duration = Duration::from_secs(1);

/// Who is at a connection's other end, as an extension of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// Who.
    pub identity: Identity,
    /// When the certificate that proves it ends.
    pub expires_at: Option<Timestamp>,
}

/// A connection whose other end has proved to be a member.
pub struct Proved {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for Proved {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Proved {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Proved {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Certificates and keys that do not go together.
    #[error("{what}: {why}")]
    Material {
        /// Which.
        what: String,
        /// What is wrong.
        why: String,
    },
}

impl TlsError {
    fn material(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Material { what: what.to_owned(), why: why.to_string() }
    }
}

/// What is in use at the primary, and of which files.
struct InUse {
    texts: (String, String),
    config: Arc<ServerConfig>,
    looked: Instant,
    made: Instant,
}

/// The primary's end.
pub struct Door {
    place: Place,
    trust_domain: String,
    in_use: Mutex<InUse>,
}

impl Door {
    /// A door that whoever has a certificate of the authority there passes.
    ///
    /// # Errors
    /// An authority that cannot be read.
    pub fn open(place: Place, trust_domain: &str) -> Result<Self, TlsError> {
        let texts = place.read()?;
        let authority = Authority::of(&place, &texts.0, &texts.1, trust_domain)?;
        let now = Instant::now();
        let in_use = InUse { texts, config: Arc::new(server(&authority)?), looked: now, made: now };
        Ok(Self { place, trust_domain: trust_domain.to_owned(), in_use: Mutex::new(in_use) })
    }

    /// The configuration, by the files as they are now.
    fn config(&self) -> Arc<ServerConfig> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.looked.elapsed() >= LOOK {
            in_use.looked = Instant::now();
            if let Err(error) = self.look(&mut in_use) {
                tracing::error!(%error, "the members' authority cannot be taken up anew; the one before stays in use");
            }
        }
        in_use.config.clone()
    }

    fn look(&self, in_use: &mut InUse) -> Result<(), TlsError> {
        let texts = self.place.read()?;
        let is_old = in_use.made.elapsed() >= SERVER / 2;
        if in_use.texts == texts && !is_old {
            return Ok(());
        }
        let authority = Authority::of(&self.place, &texts.0, &texts.1, &self.trust_domain)?;
        in_use.config = Arc::new(server(&authority)?);
        if in_use.texts != texts {
            tracing::info!("another authority of members is in use");
        }
        (in_use.texts, in_use.made) = (texts, Instant::now());
        Ok(())
    }

    async fn admit(&self, tcp: TcpStream, address: SocketAddr) -> Option<Proved> {
        // Small messages should not wait for each other; one that is gone already says so when it is read.
        tcp.set_nodelay(true).ok();
        let accepted = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(self.config()).accept(tcp)).await;
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let (reason, remedy) = explain(&error);
                tracing::warn!(%address, remedy, "a member is refused: {reason}");
                return None;
            }
            Err(_) => {
                tracing::warn!(%address, "a member is refused: its handshake took longer than {HANDSHAKE:?}");
                return None;
            }
        };
        let certs = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let cluster = certs.first().and_then(|cert| authority::cluster_of(cert, &self.trust_domain));
        let Some(cluster) = cluster else {
            let domain = &self.trust_domain;
            let remedy = "give it the certificate that `causeway cluster join --push` makes";
            tracing::warn!(%address, remedy, "a member is refused: its certificate names no spiffe://{domain}/cluster/NAME");
            return None;
        };
        let expires_at = certs.first().and_then(authority::ends_at).and_then(|at| Timestamp::from_second(at).ok());
        let identity = Identity::Member { cluster: cluster.into() };
        Some(Proved { peer: Peer { address, identity, expires_at }, stream })
    }
}

/// Accepts connections of members; each makes its handshake beside the others.
pub fn incoming(listener: TcpListener, door: Arc<Door>) -> impl Stream<Item = io::Result<Proved>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES);
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    // Ends when nobody takes connections any more.
    tokio::spawn(async move {
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a member's connection cannot be accepted");
                    // As with too many open files: there is no use in asking at once again.
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            let (door, sender) = (door.clone(), sender.clone());
            tokio::spawn(async move {
                let _permit = permit;
                if let Some(proved) = door.admit(tcp, address).await {
                    let _ = sender.send(Ok(proved)).await;
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

fn roots(certs: &[CertificateDer<'static>], what: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certs {
        roots.add(cert.clone()).map_err(|error| TlsError::material(what, error))?;
    }
    Ok(roots)
}

fn chain(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::material(what, format!("certificates cannot be read: {error}")))?;
    if chain.is_empty() { Err(TlsError::material(what, "there is no certificate in PEM")) } else { Ok(chain) }
}

fn private(pem: &str, what: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::material(what, format!("there is no private key in PEM: {error}")))
}

fn server(authority: &Authority) -> Result<ServerConfig, TlsError> {
    const WHAT: &str = "the primary's own certificate";
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots(authority.certs(), "the members' authority")?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| TlsError::material("the members' authority", error))?;
    let own = authority.server()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::material(WHAT, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&own.cert, WHAT)?, private(&own.key, WHAT)?)
        .map_err(|error| TlsError::material(WHAT, error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session that is resumed would go by a certificate that may have ended since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a member proves itself by.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    /// Whom it trusts, in PEM.
    pub ca: String,
    /// Its certificate, in PEM.
    pub cert: String,
    /// The certificate's key, in PEM.
    pub key: String,
}

/// What a member's certificate says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnCertificate {
    pub cluster: String,
    pub expires_at: Option<Timestamp>,
}

impl Material {
    /// The configuration of a member's end, and what its certificate says.
    pub fn client(&self, trust_domain: &str) -> Result<(Arc<ClientConfig>, OwnCertificate), TlsError> {
        const CERT: &str = "the member's certificate";
        let own = chain(&self.cert, CERT)?;
        let cluster = own.first().and_then(|cert| authority::cluster_of(cert, trust_domain));
        let cluster = cluster.ok_or_else(|| {
            TlsError::material(
                CERT,
                format!(
                    "it names no spiffe://{trust_domain}/cluster/NAME; use what `causeway cluster join --push` makes, \
                     and the same --trust-domain"
                ),
            )
        })?;
        let expires_at = own.first().and_then(authority::ends_at).and_then(|at| Timestamp::from_second(at).ok());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::material(CERT, error))?
            .with_root_certificates(roots(&chain(&self.ca, "the primary's authority")?, "the primary's authority")?)
            .with_client_auth_cert(own, private(&self.key, "the member's key")?)
            .map_err(|error| TlsError::material(CERT, error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok((Arc::new(config), OwnCertificate { cluster, expires_at }))
    }
}

/// The name that the primary proves to have.
pub(super) fn server_name() -> io::Result<ServerName<'static>> {
    ServerName::try_from(SERVER_NAME).map_err(io::Error::other)
}

/// Why a handshake failed, and what to do about it.
pub(super) fn explain(error: &io::Error) -> (String, &'static str) {
    const RENEW: &str = "make another certificate: `causeway cluster join --push`";
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => (
            "it shows no certificate".to_owned(),
            "run `causeway member` with what `causeway cluster join --push` makes",
        ),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => ("its certificate has ended".to_owned(), RENEW),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => ("its certificate is not valid yet".to_owned(), "set the clocks of both sides"),
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            ("its certificate is of an authority that is not known here".to_owned(), RENEW)
        }
        Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA)) => {
            ("it does not know this primary's authority".to_owned(), RENEW)
        }
        Some(tls) => (tls.to_string(), RENEW),
        None => (error.to_string(), "is it a member that connects?"),
    }
}
