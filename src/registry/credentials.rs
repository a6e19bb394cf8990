//! As whom a registry is asked: docker's `config.json`, which is also what a Secret of the type
//! `kubernetes.io/dockerconfigjson` holds.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Reference, RegistryError};

/// Far above any such file, so that a mistaken path ends soon.
const MOST_BYTES: u64 = 1 << 20;

/// As whom a registry is asked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// By name and password.
    Basic { user: String, password: String },
    /// By a token that the registry itself takes.
    Token(String),
}

/// Secrets are not shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    registrytoken: Option<String>,
    identitytoken: Option<String>,
}

/// Whether the file can be read.
pub(super) fn check(path: &Path) -> Result<(), RegistryError> {
    let bytes = std::fs::File::open(path).and_then(|file| {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    config(path, bytes).map(|_| ())
}

/// What the file holds for a reference's registry, where it holds something.
pub(super) async fn read(path: &Path, reference: &Reference) -> Result<Option<Credentials>, RegistryError> {
    use tokio::io::AsyncReadExt as _;
    let read = async {
        let mut bytes = Vec::new();
        tokio::fs::File::open(path).await?.take(MOST_BYTES + 1).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let config = config(path, read.await)?;
    find(config, reference).map_err(|detail| RegistryError::File { path: path.to_owned(), detail })
}

fn config(path: &Path, bytes: std::io::Result<Vec<u8>>) -> Result<Config, RegistryError> {
    let refused = |detail| RegistryError::File { path: path.to_owned(), detail };
    let bytes = bytes.map_err(|error| refused(error.to_string()))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refused(format!("it is larger than {MOST_BYTES} bytes; is it the right file?")));
    }
    parse(&bytes).map_err(refused)
}

fn parse(bytes: &[u8]) -> Result<Config, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The text itself is secret.
        format!("it is no file like docker's config.json (line {}, column {})", error.line(), error.column())
    })
}

fn find(mut config: Config, reference: &Reference) -> Result<Option<Credentials>, String> {
    let registry = reference.registry();
    let best = config.auths.keys().filter_map(|key| Some((fit(key, reference)?, key.clone()))).max();
    let Some((_, key)) = best else {
        return match config.cred_helpers.get(registry) {
            Some(helper) => Err(helped(registry, helper)),
            None => Ok(None),
        };
    };
    let entry = config.auths.remove(&key).unwrap_or_default();
    match entry {
        Entry { registrytoken: Some(token), .. } if !token.is_empty() => Ok(Some(Credentials::Token(token))),
        Entry { identitytoken: Some(token), .. } if !token.is_empty() => {
            Err(format!("`auths.{key}` holds an `identitytoken`, which is not used: write `auth` with a name and a password, such as those of a service account"))
        }
        Entry { auth: Some(auth), .. } if !auth.is_empty() => pair(&auth).map(Some).ok_or_else(|| {
            format!("`auths.{key}.auth` is not the base64 of `name:password`: write it with `docker login`, or `printf name:password | base64 -w0`")
        }),
        Entry { username: Some(user), password: Some(password), .. } => Ok(Some(Credentials::Basic { user, password })),
        _ => match config.cred_helpers.get(registry).or(config.creds_store.as_ref()) {
            Some(helper) => Err(helped(registry, helper)),
            None => Ok(None),
        },
    }
}

fn helped(registry: &str, helper: &str) -> String {
    format!(
        "it leaves {registry} to docker-credential-{helper}, which is not run here: write `auths` with a name and a password, as \
         `docker login` does without `credsStore` and `credHelpers`"
    )
}

fn pair(auth: &str) -> Option<Credentials> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker pads old entries.
    Some(Credentials::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// How much of a reference a key names, in bytes: the registry (perhaps as a URL), or the beginning of a name in it.
fn fit(key: &str, reference: &Reference) -> Option<usize> {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (registry, name) = key.split_once('/').unwrap_or((key, ""));
    let same = registry.eq_ignore_ascii_case(reference.registry())
        || (is_docker_hub(registry) && is_docker_hub(reference.registry()));
    let within = name.is_empty()
        || reference.name().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (same && within).then_some(key.len())
}

/// Docker's own registry, which goes by several names.
pub(super) fn is_docker_hub(registry: &str) -> bool {
    matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// What a file's text holds for a reference's registry.
pub(crate) fn of_text(text: &str, reference: &Reference) -> Result<Option<Credentials>, String> {
    find(parse(text.as_bytes())?, reference)
}
