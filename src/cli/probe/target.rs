//! What is probed.

use hyper::Uri;

use crate::cli::Usage;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What goes into the `Host` header: as it was written.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `http://HOST[:PORT][/PATH]`, `HOST:PORT[/PATH]` or `HOST`.
    pub fn parse(text: &str) -> Result<Self, Usage> {
        let wrong = |why: &str| Usage(format!("`{text}`: {why}; write http://HOST[:PORT]/PATH or HOST:PORT"));
        let url = match text.split_once("://") {
            None => format!("http://{text}"),
            Some(("http", _)) => text.to_owned(),
            Some(("https", _)) => return Err(wrong("TLS cannot be probed yet")),
            Some((scheme, _)) => return Err(wrong(&format!("`{scheme}` cannot be probed"))),
        };
        let uri: Uri = url.parse().map_err(|e| wrong(&format!("is not a URL ({e})")))?;
        let authority = uri.authority().ok_or_else(|| wrong("the host is missing"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("user names are not sent"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match (authority.port_u16(), after_host) {
            (Some(0), _) => return Err(wrong("port 0 cannot be connected to")),
            (Some(port), _) => port,
            (None, "" | ":") => 80,
            (None, _) => return Err(wrong("the port is not a number from 1 to 65535")),
        };
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.to_owned(), port, authority: authority.as_str().to_owned(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_target() {
        let cases = [
            ("checkout.shop:8080", "checkout.shop", 8080, "/"),
            ("checkout.shop", "checkout.shop", 80, "/"),
            ("checkout.shop.", "checkout.shop", 80, "/"),
            ("http://checkout.shop/a?b=c", "checkout.shop", 80, "/a?b=c"),
            ("http://checkout.shop?b=c", "checkout.shop", 80, "/?b=c"),
            ("http://[fd00::1]:81/x", "fd00::1", 81, "/x"),
            ("240.11.0.7:80", "240.11.0.7", 80, "/"),
        ];
        for (text, host, port, path) in cases {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host.as_str(), target.port, target.path.as_str()), (host, port, path), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_probed_is_refused_with_what_to_write() {
        for text in ["", "https://x", "ftp://x", "http://", "x:0", "x:99999", "u@x", "http:///p", "a b"] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{text}: {error}");
        }
    }
}
