//! Who vouches for members: a certificate authority of the primary's own, or one that it is given. Certificates name
//! their cluster by a SPIFFE id.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::name;
use crate::trust;

/// The name that the primary's certificate has, whatever the address by which it is reached.
pub const SERVER_NAME: &str = "primary.causeway.internal";
/// The trust domain of ids, unless told otherwise.
pub const TRUST_DOMAIN: &str = crate::config::DEFAULT_TRUST_DOMAIN;
/// In the data directory.
const FILE: &str = "member-ca.pem";
/// Clocks differ.
const EARLIER: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the authority that is made here lasts.
const AUTHORITY: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How long the primary's own certificate lasts; it is made anew before that.
pub(super) const SERVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate for {of} cannot be made: {why}")]
    Issue {
        /// For whom.
        of: String,
        /// Why not.
        why: String,
    },
}

/// Where an authority lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the primary's data directory, where it is made when it is not there.
    DataDir(PathBuf),
    /// In files that somebody gave, in PEM. The first certificate is that of the key; members of all are let in, so
    /// that one can follow the other.
    Files {
        /// Certificates of authorities.
        cert: PathBuf,
        /// The key of the first.
        key: PathBuf,
    },
}

/// A certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The certificate.
    pub cert: String,
    /// Its key, a secret.
    pub key: String,
}

/// A certificate authority with its key.
pub struct Authority {
    trust_domain: String,
    certs: Vec<CertificateDer<'static>>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Place {
    /// What lies there, as it is; made where it is to be made. By it one is told from another later.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn read(&self) -> Result<(String, String), AuthorityError> {
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })
        };
        match self {
            Place::Files { cert, key } => Ok((text(cert)?, text(key)?)),
            Place::DataDir(dir) => {
                let path = dir.join(FILE);
                if !path.exists() {
                    make(dir, &path)?;
                }
                let both = text(&path)?;
                Ok((both.clone(), both))
            }
        }
    }

    fn key_path(&self) -> PathBuf {
        match self {
            Place::DataDir(dir) => dir.join(FILE),
            Place::Files { key, .. } => key.clone(),
        }
    }

    fn cert_path(&self) -> PathBuf {
        match self {
            Place::DataDir(dir) => dir.join(FILE),
            Place::Files { cert, .. } => cert.clone(),
        }
    }
}

/// Makes an authority. Where another process makes one at the same time, one of both is kept.
fn make(dir: &Path, path: &Path) -> Result<(), AuthorityError> {
    let failed = |source| AuthorityError::File { path: path.to_owned(), source };
    let (params, key) = of_own().map_err(|error| issue("the authority", &error))?;
    let cert = params.self_signed(&key).map_err(|error| issue("the authority", &error))?;
    fs::create_dir_all(dir).map_err(failed)?;
    let draft = dir.join(format!(".{FILE}.{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
    let written = write!(file, "{}{}", cert.pem(), key.serialize_pem()).and_then(|()| file.sync_all());
    // A link, and no renaming, keeps what another process has made meanwhile.
    let kept = written.and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    match kept {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

fn of_own() -> Result<(CertificateParams, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Causeway members");
    let mut params = valid_for(AUTHORITY);
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params, key))
}

fn valid_for(span: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + span).into();
    params
}

fn issue(of: &str, why: &dyn std::fmt::Display) -> AuthorityError {
    AuthorityError::Issue { of: of.to_owned(), why: why.to_string() }
}

impl Authority {
    /// The authority that lies there.
    ///
    /// # Errors
    /// Files that cannot be read, or are no certificate and key of an authority.
    pub fn open(place: &Place, trust_domain: &str) -> Result<Self, AuthorityError> {
        let (cert, key) = place.read()?;
        Self::of(place, &cert, &key, trust_domain)
    }

    /// The authority of these texts, which lie there.
    pub(super) fn of(place: &Place, cert: &str, key: &str, trust_domain: &str) -> Result<Self, AuthorityError> {
        let of_key = |why: String| AuthorityError::Content { path: place.key_path(), why };
        let of_cert = |why: String| AuthorityError::Content { path: place.cert_path(), why };
        let key_pem = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| of_key(format!("there is no private key in PEM: {error}")))?;
        let key = KeyPair::try_from(&key_pem).map_err(|error| {
            of_key(format!("the key cannot be used ({error}); use ECDSA P-256 or Ed25519 in PKCS #8"))
        })?;
        let certs: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| of_cert(format!("the certificates cannot be read: {error}")))?;
        let Some(first) = certs.first() else { return Err(of_cert("there is no certificate in PEM".to_owned())) };
        let parsed = EndEntityCert::try_from(first)
            .map_err(|error| of_cert(format!("the certificate cannot be read: {error}")))?;
        let name = name::read(parsed.subject())
            .ok_or_else(|| of_cert("the subject of the certificate has a form that is not understood".to_owned()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        let issuer = Issuer::new(params, key);
        let pem = certs.iter().map(|cert| pem::encode(&pem::Pem::new("CERTIFICATE", cert.to_vec()))).collect();
        let authority = Self { trust_domain: trust_domain.to_owned(), certs, pem, issuer };
        // What it issues must be accepted by whoever trusts the certificate: the key is of another one, or it is no
        // authority, else.
        let probe = authority.member("probe", DAY)?;
        let probe =
            CertificateDer::from_pem_slice(probe.cert.as_bytes()).map_err(|error| of_cert(error.to_string()))?;
        authority.verify(&probe).map_err(|error| {
            of_cert(format!(
                "what the key in {} signs is not accepted by the first certificate ({error}); give an authority's \
                 certificate and its own key",
                place.key_path().display()
            ))
        })?;
        Ok(authority)
    }

    /// Certificates of authorities whose members are let in.
    pub(super) fn certs(&self) -> &[CertificateDer<'static>] {
        &self.certs
    }

    /// The same in PEM, for those who are to trust them.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn verify(&self, cert: &CertificateDer<'_>) -> Result<(), webpki::Error> {
        let anchors = self.certs.iter().take(1).map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>()?;
        let cert = EndEntityCert::try_from(cert)?;
        let now = UnixTime::now();
        cert.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &[], now, KeyUsage::client_auth(), None, None)
            .map(|_| ())
    }

    /// A certificate for the member of a cluster, from now for so long.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate, or a span that leads out of the calendar.
    pub fn member(&self, cluster: &str, span: Duration) -> Result<Credential, AuthorityError> {
        let id = trust::id_of_cluster(cluster, &self.trust_domain);
        let uri = id.try_into().map_err(|error: rcgen::Error| issue(cluster, &error))?;
        self.issue(cluster, SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth, span)
    }

    /// A certificate for the primary.
    pub(super) fn server(&self) -> Result<Credential, AuthorityError> {
        let name = SERVER_NAME.try_into().map_err(|error: rcgen::Error| issue(SERVER_NAME, &error))?;
        self.issue(SERVER_NAME, SanType::DnsName(name), ExtendedKeyUsagePurpose::ServerAuth, SERVER)
    }

    fn issue(
        &self,
        of: &str,
        name: SanType,
        usage: ExtendedKeyUsagePurpose,
        span: Duration,
    ) -> Result<Credential, AuthorityError> {
        let key = KeyPair::generate().map_err(|error| issue(of, &error))?;
        let mut params = valid_for(span);
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, of);
        params.distinguished_name = subject;
        params.subject_alt_names = vec![name];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let cert = params.signed_by(&key, &self.issuer).map_err(|error| issue(of, &error))?;
        Ok(Credential { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// When a certificate ends, in seconds since the Unix epoch; `None` where that is not to be found out.
pub(super) fn ends_at(cert: &CertificateDer<'_>) -> Option<i64> {
    let parsed = EndEntityCert::try_from(cert).ok()?;
    // Nothing else says it: at a time after all, what is wrong with it is that it has ended then.
    let late = UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX) * 64));
    let usage = KeyUsage::client_auth();
    match parsed.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], late, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => i64::try_from(not_after.as_secs()).ok(),
        _ => None,
    }
}

/// The cluster that a certificate of a member names.
pub(super) fn cluster_of(cert: &CertificateDer<'_>, trust_domain: &str) -> Option<String> {
    let parsed = EndEntityCert::try_from(cert).ok()?;
    trust::cluster_of(parsed.valid_uri_names(), trust_domain).map(str::to_owned)
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
