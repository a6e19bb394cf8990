//! Asks a running server over its admin interface.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Usage;
use super::args::Server;
use super::http::{self, Asked};

/// More than the largest fleet's rows: a wrong server cannot fill the memory.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A server's admin interface.
#[derive(Debug)]
pub(super) struct Admin {
    authority: String,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    message: String,
}

impl Admin {
    /// The server that the flags name, as `host:port` or `http://host:port`.
    pub fn new(server: &Server) -> anyhow::Result<Self> {
        let given = server.admin_addr.trim();
        let wrong = |why: &str| Usage(format!("--admin-addr `{given}`: {why}; write it as 127.0.0.1:18001"));
        if given.starts_with("https://") {
            bail!(wrong("the admin interface does not speak TLS"));
        }
        let authority = given.strip_prefix("http://").unwrap_or(given).trim_end_matches('/');
        let parsed: hyper::http::uri::Authority = authority.parse().map_err(|_| wrong("is not an address"))?;
        match parsed.port_u16() {
            Some(_) if !parsed.host().is_empty() && !authority.contains('@') => {}
            Some(_) => bail!(wrong("is not a host and a port")),
            None => bail!(wrong("the port is missing")),
        }
        Ok(Self { authority: authority.to_owned(), timeout: server.request_timeout })
    }

    /// Asks for a path and reads the answer as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(&Asked::of(Method::GET, path)).await
    }

    /// Asks for something and reads the answer as JSON.
    pub async fn ask<T: DeserializeOwned>(&self, asked: &Asked<'_>) -> anyhow::Result<T> {
        let path = asked.path;
        let late = |_| anyhow!("no answer from {} within {:?}", self.authority, self.timeout);
        let reply = tokio::time::timeout(self.timeout, self.fetch(asked)).await.map_err(late)??;
        if reply.status != 200 {
            let text = String::from_utf8_lossy(&reply.body);
            let told = serde_json::from_str::<Refusal>(&text).map(|refusal| refusal.error.message);
            let first = text.lines().next().unwrap_or_default();
            bail!("{}", told.unwrap_or_else(|_| format!("{} answered {} {first}", self.authority, reply.status)));
        }
        serde_json::from_slice(&reply.body).with_context(|| {
            format!("{} answered {path} with something else than this command knows; is it a Causeway server of version {}?",
                self.authority, env!("CARGO_PKG_VERSION"))
        })
    }

    async fn fetch(&self, asked: &Asked<'_>) -> anyhow::Result<http::Reply> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.authority)
            .await
            .with_context(|| format!("cannot find the host of --admin-addr {}", self.authority))?
            .collect();
        let mut last = None;
        for address in addresses {
            match http::send(address, &self.authority, asked, MAX_ANSWER_BYTES).await {
                Ok(reply) => return Ok(reply),
                // The name's next address may have the server: localhost is often ::1 first.
                Err(error @ http::HttpError::Connect(_)) => last = Some(error),
                Err(error) => return Err(anyhow!(error).context(format!("no answer from {}", self.authority))),
            }
        }
        let why = last.map_or_else(|| "the name has no address".to_owned(), |error| error.to_string());
        bail!(
            "cannot reach the server at {} ({why}); is `causeway serve` running there? \
             Name another with --admin-addr or CAUSEWAY_ADMIN_ADDR",
            self.authority
        )
    }
}

/// A path segment with everything but RFC 3986's unreserved characters percent-encoded.
pub(super) fn encode_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
