//! Where a component is, and which one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::policy::Digest;

/// The longest reference, in bytes: registries have to take names of 255.
const MOST: usize = 1024;

/// A component in a registry: `oci://host[:port]/name[:tag]@sha256:<digest of the manifest>`. The tag is for people alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    name: String,
    tag: Option<String>,
    digest: Digest,
}

/// Why a text is no reference. Each says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReference {
    /// It has another form.
    #[error("`{0}` is no reference of a component: one is `oci://host/name@sha256:<digest of the manifest>`")]
    Form(String),
    /// It has no digest.
    #[error(
        "`{0}` is not pinned, so that it may become another component: append `@` and the digest that the push printed, or that \
         `oras resolve` or `crane digest` prints"
    )]
    NotPinned(String),
    /// Its digest is none.
    #[error("`{0}` ends with no digest: what follows `@` is `sha256:` and 64 hexadecimal digits in lower case")]
    Digest(String),
    /// Its host cannot be one.
    #[error(
        "`{0}` has no host that can be one: after `oci://` follows a name or an address (IPv6 in brackets), and perhaps `:port`; credentials belong into the credentials file"
    )]
    Host(String),
    /// Its name cannot be one.
    #[error(
        "`{0}` has no name that can be one: after the host follow parts of `a-z`, `0-9`, `.`, `_` and `-`, divided by `/`"
    )]
    Name(String),
    /// Its tag cannot be one.
    #[error(
        "`{0}` has a tag that cannot be one: at most 128 of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`; it may be left out"
    )]
    Tag(String),
}

impl Reference {
    /// The registry's host and port, as written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name of the repository in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the registry is on this machine for certain.
    pub(super) fn is_loopback(&self) -> bool {
        let (host, _) = split_port(&self.registry);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, name, tag, digest } = self;
        write!(f, "oci://{registry}/{name}")?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        write!(f, "@{digest}")
    }
}

impl FromStr for Reference {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, NoReference> {
        let shown = || text.chars().take(200).collect::<String>();
        if text.len() > MOST {
            return Err(NoReference::Form(shown()));
        }
        let Some((registry, path)) = text.strip_prefix("oci://").and_then(|rest| rest.split_once('/')) else {
            return Err(NoReference::Form(shown()));
        };
        if !is_host(registry) {
            return Err(NoReference::Host(shown()));
        }
        let Some((image, digest)) = path.split_once('@') else {
            return Err(NoReference::NotPinned(shown()));
        };
        let digest = digest.parse().map_err(|_| NoReference::Digest(shown()))?;
        let (name, tag) = match image.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (image, None),
        };
        if name.len() > 255 || !name.split('/').all(is_part) {
            return Err(NoReference::Name(shown()));
        }
        if !tag.is_none_or(is_tag) {
            return Err(NoReference::Tag(shown()));
        }
        Ok(Self { registry: registry.to_owned(), name: name.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

/// A host, and its port where one follows.
fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    }
}

fn is_host(registry: &str) -> bool {
    let (host, port) = split_port(registry);
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if !port.is_none_or(is_port) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// A part of a name: letters and digits, divided by one `.`, by `_` or `__`, or by any number of `-`.
fn is_part(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [part.bytes().next(), part.bytes().last()];
    let dividers = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends.into_iter().all(|end| end.is_some_and(is_plain))
        && dividers
            .into_iter()
            .all(|divider| matches!(divider, "" | "." | "_" | "__") || divider.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&tag.len()) && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
}
