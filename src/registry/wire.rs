//! HTTP, as registries speak it (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).

use std::error::Error;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::credentials::{self, Credentials, is_docker_hub};
use super::manifest::MANIFESTS;
use super::{Options, Reference, RegistryError};
use crate::policy::Digest;

/// Blobs of large registries lie elsewhere, most often one step away.
const MOST_REDIRECTS: usize = 5;
/// The largest answer with a token that is read, in bytes.
const MOST_TOKEN: u64 = 64 << 10;
/// The largest explanation of a failure that is read, in bytes.
const MOST_EXPLANATION: u64 = 8 << 10;
/// Characters of an explanation that are told.
const MOST_TOLD: usize = 200;

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// What connects.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// To registries elsewhere, by the proxies of the environment; where not, why.
    remote: Result<Client, String>,
    /// To registries on this machine.
    local: Client,
}

impl Clients {
    pub(super) fn new(options: &Options) -> Result<Self, RegistryError> {
        // Whoever came first has chosen; it is one for the whole process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let extra = match &options.ca {
            None => Vec::new(),
            Some(path) => {
                let refused = |detail: String| RegistryError::File { path: path.clone(), detail };
                let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
                let found = Certificate::from_pem_bundle(&pem).map_err(|error| refused(innermost(&error)))?;
                if found.is_empty() {
                    return Err(refused("it has no certificate in PEM (`-----BEGIN CERTIFICATE-----`)".to_owned()));
                }
                found
            }
        };
        let with_roots = || builder(options).tls_certs_merge(extra.clone());
        let remote = with_roots().build().map_err(|error| innermost(&error));
        let local = match with_roots().no_proxy().build() {
            Ok(local) => local,
            // A system without certificates can still speak to itself.
            Err(_) => builder(options)
                .tls_certs_only(extra)
                .no_proxy()
                .build()
                .map_err(|error| RegistryError::NoCertificates { detail: innermost(&error) })?,
        };
        Ok(Self { remote, local })
    }

    fn of(&self, reference: &Reference) -> Result<&Client, RegistryError> {
        if reference.is_loopback() {
            return Ok(&self.local);
        }
        self.remote.as_ref().map_err(|detail| RegistryError::NoCertificates { detail: detail.clone() })
    }
}

fn builder(options: &Options) -> ClientBuilder {
    let follow = redirect::Policy::custom(|attempt| {
        let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > MOST_REDIRECTS {
            attempt.error("it redirects too often")
        } else if from_tls && attempt.url().scheme() != "https" {
            attempt.error("it redirects to a place without TLS")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .user_agent(concat!("causeway/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.patience)
        .read_timeout(options.patience)
        .timeout(options.most_time)
        .redirect(follow)
        .referer(false)
}

/// The questions about one reference.
pub(super) struct Session<'a> {
    client: &'a Client,
    options: &'a Options,
    reference: &'a Reference,
    scheme: Scheme,
    /// Where names begin.
    base: Url,
    credentials: Option<Credentials>,
    /// What the registry is shown once it asked for it.
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    pub(super) async fn new(
        clients: &'a Clients,
        options: &'a Options,
        reference: &'a Reference,
        scheme: Scheme,
    ) -> Result<Self, RegistryError> {
        let client = clients.of(reference)?;
        let credentials = match &options.credentials {
            Some(path) => credentials::read(path, reference).await?,
            None => None,
        };
        let registry = reference.registry();
        let host = if is_docker_hub(registry) { "registry-1.docker.io" } else { registry };
        let prefix = if scheme == Scheme::Https { "https" } else { "http" };
        let base = Url::parse(&format!("{prefix}://{host}/v2/{}/", reference.name()))
            .map_err(|error| no_registry(reference, format!("it has no such address ({error})")))?;
        Ok(Self { client, options, reference, scheme, base, credentials, authorization: None })
    }

    /// A manifest, by its digest or its tag.
    pub(super) async fn manifest(&mut self, which: &str, most: u64) -> Result<Vec<u8>, RegistryError> {
        let response = self.get("manifest", &format!("manifests/{which}"), MANIFESTS).await?;
        self.body(response, "the manifest", most).await
    }

    /// A blob, which has to have this size.
    pub(super) async fn blob(
        &mut self,
        what: &'static str,
        digest: Digest,
        size: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let response = self.get("blob", &format!("blobs/{digest}"), "*/*").await?;
        self.body(response, what, size).await
    }

    async fn get(&mut self, what: &'static str, path: &str, accept: &'static str) -> Result<Response, RegistryError> {
        let url = self.base.join(path).map_err(|error| no_registry(self.reference, error.to_string()))?;
        let mut response = self.send(url.clone(), accept).await?;
        // Another place than the registry has no claim to its credentials.
        let is_registry = response.url().origin() == url.origin();
        if response.status() == StatusCode::UNAUTHORIZED && is_registry && self.authorization.is_none() {
            self.authorization = Some(self.authorize(&response).await?);
            response = self.send(url, accept).await?;
        }
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound { reference: self.reference.to_string(), what }),
            _ => Err(self.refused(self.reference.registry().to_owned(), response).await),
        }
    }

    async fn send(&self, url: Url, accept: &'static str) -> Result<Response, RegistryError> {
        let mut request = self.client.get(url).header(ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| self.broken(self.reference.registry(), &error))
    }

    /// What the registry wants to be shown.
    async fn authorize(&self, response: &Response) -> Result<HeaderValue, RegistryError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let offered: Vec<Challenge> =
            headers.iter().filter_map(|header| header.to_str().ok()).flat_map(challenge::parse).collect();
        let bearer = offered.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service.as_deref())),
            Challenge::Basic => None,
        });
        match (&self.credentials, bearer) {
            (Some(Credentials::Token(token)), _) => self.header(format!("Bearer {token}")),
            (_, Some((realm, service))) => {
                let token = self.token(realm, service).await?;
                self.header(format!("Bearer {token}"))
            }
            (Some(Credentials::Basic { user, password }), None) if offered.contains(&Challenge::Basic) => {
                self.header(basic(user, password))
            }
            _ => Err(self.unauthorized(self.reference.registry())),
        }
    }

    /// A token of the place that the registry trusts. It is for reading this name, whatever the registry suggests.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, RegistryError> {
        let refused = |detail| no_registry(self.reference, detail);
        let mut url =
            Url::parse(realm).map_err(|error| refused(format!("its tokens come from `{realm:.200}`: {error}")))?;
        if url.scheme() != "https" && (url.scheme() != "http" || self.scheme == Scheme::Https) {
            return Err(refused(format!("its tokens come from `{realm:.200}`, which is no place with TLS")));
        }
        let scope = format!("repository:{}:pull", self.reference.name());
        url.query_pairs_mut().extend_pairs(service.map(|service| ("service", service))).append_pair("scope", &scope);
        let place = url.host_str().unwrap_or_default().to_owned();
        let mut request = self.client.get(url);
        if let Some(Credentials::Basic { user, password }) = &self.credentials {
            request = request.header(AUTHORIZATION, self.header(basic(user, password))?);
        }
        let response = request.send().await.map_err(|error| self.broken(&place, &error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(place, response).await);
        }
        let body = self.body(response, "the token", MOST_TOKEN).await?;
        let token = serde_json::from_slice(&body).ok().and_then(|Token { token, access_token }| token.or(access_token));
        token.ok_or_else(|| refused(format!("{place} gives no token in JSON")))
    }

    fn header(&self, text: String) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            no_registry(self.reference, "what it wants to be shown has forbidden characters".to_owned())
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// At most so many bytes of an answer.
    async fn body(&self, mut response: Response, what: &'static str, most: u64) -> Result<Vec<u8>, RegistryError> {
        let too_large = |size| RegistryError::TooLarge { reference: self.reference.to_string(), what, size, most };
        let told = response.content_length();
        if told.is_some_and(|size| size > most) {
            return Err(too_large(told));
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > most => return Err(too_large(None)),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.broken(self.reference.registry(), &error)),
            }
        }
    }

    /// Why an answer is no success.
    async fn refused(&self, place: String, response: Response) -> RegistryError {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return self.unauthorized(&place);
        }
        let explanation = self.body(response, "its explanation", MOST_EXPLANATION).await.unwrap_or_default();
        let detail = format!("it answers {status}{}", told(&explanation));
        let is_passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if is_passing {
            return RegistryError::Failed { registry: place, detail };
        }
        RegistryError::NoRegistry { registry: place, detail }
    }

    fn unauthorized(&self, place: &str) -> RegistryError {
        let registry = self.reference.registry();
        let from = match &self.options.credentials {
            Some(path) => path.display().to_string(),
            None => "the file of registry credentials, of which none is given".to_owned(),
        };
        let (caller, remedy) = match &self.credentials {
            Some(Credentials::Basic { user, .. }) => (
                format!("`{user}`"),
                format!(
                    "correct the password of {registry} in {from}, or let that user read `{}`",
                    self.reference.name()
                ),
            ),
            Some(Credentials::Token(_)) => ("the token".to_owned(), format!("renew the token of {registry} in {from}")),
            None => (
                "whoever has no credentials".to_owned(),
                format!("write a name and a password for {registry} into {from}"),
            ),
        };
        RegistryError::Unauthorized { registry: place.to_owned(), caller, remedy }
    }

    /// Why there is no answer, or only a part of one.
    fn broken(&self, place: &str, error: &reqwest::Error) -> RegistryError {
        let registry = place.to_owned();
        match tls(error) {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                return RegistryError::Untrusted { registry, detail: format!("{reason:?}") };
            }
            Some(rustls::Error::InvalidMessage(_)) => return RegistryError::NoTls { registry },
            _ => {}
        }
        if error.is_redirect() || error.is_builder() {
            return RegistryError::NoRegistry { registry, detail: innermost(error) };
        }
        if error.is_timeout() {
            let Options { patience, most_time, .. } = self.options;
            let detail = format!("it said nothing for {patience:?}, or did not end within {most_time:?}");
            return RegistryError::Unreachable { registry, detail };
        }
        RegistryError::Unreachable { registry, detail: innermost(error) }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Explanations {
    errors: Vec<Explanation>,
}

#[derive(Deserialize)]
struct Explanation {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says about a failure, as far as it can be told.
fn told(explanation: &[u8]) -> String {
    let Ok(Explanations { errors }) = serde_json::from_slice(explanation) else {
        return String::new();
    };
    let words = errors.first().map_or_else(String::new, |first| format!(" ({}: {})", first.code, first.message));
    words.chars().filter(|c| !c.is_control()).take(MOST_TOLD).collect()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn no_registry(reference: &Reference, detail: String) -> RegistryError {
    RegistryError::NoRegistry { registry: reference.registry().to_owned(), detail }
}

/// What went wrong in TLS, where that is the cause.
fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        // An I/O error's source is the source of what is in it, not that itself.
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    None
}

/// The words of the cause of causes, which are not about our own layers.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
