//! From a kubeconfig to a client of its API server.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use secrecy::ExposeSecret;

use k8s_openapi::api::core::v1::Namespace;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// A credential that lives longer than this is a risk where many may read it.
const LONG_LIVED: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why there is no connection, in the words of a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Refused {
    /// In CamelCase, for machines.
    pub reason: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Refused {
    pub(super) fn new(reason: &'static str, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason, message: message.into(), remedy }
    }
}

/// What a kubeconfig says, checked.
#[derive(Clone)]
pub struct Credential {
    kubeconfig: Kubeconfig,
    /// When it ends, where it says so.
    pub expires_at: Option<Timestamp>,
    /// Why it should not lie where many may read it, if there is a reason.
    pub long_lived: Option<&'static str>,
}

/// Secrets are not shown.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kubeconfig: _, expires_at, long_lived } = self;
        let mut shown = f.debug_struct("Credential");
        shown.field("expires_at", expires_at).field("long_lived", long_lived).finish_non_exhaustive()
    }
}

impl Credential {
    /// Checks a kubeconfig that somebody else wrote: it must hold everything itself. Programs to run and files to read
    /// are refused, because they would be ours.
    ///
    /// # Errors
    /// [`Refused`], naming the field.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| {
            Refused::new(
                "InvalidKubeconfig",
                format!("the kubeconfig cannot be read: {}", unreadable(&error)),
                "write one as `kubectl config view --raw --minify --flatten` prints it",
            )
        })?;
        let Some(context) = kubeconfig.current_context.clone() else {
            let message = "the kubeconfig has no current-context";
            return Err(Refused::new("InvalidKubeconfig", message, "set it by `kubectl config use-context`"));
        };
        let missing = |what: &str, name: &str| {
            let message = format!("the kubeconfig has no {what} `{name}`");
            Refused::new(
                "InvalidKubeconfig",
                message,
                "write one as `kubectl config view --raw --minify --flatten` prints it",
            )
        };
        let named = kubeconfig.contexts.iter().find(|named| named.name == context);
        let chosen = named.and_then(|named| named.context.as_ref()).ok_or_else(|| missing("context", &context))?;
        let cluster = kubeconfig.clusters.iter().find(|named| named.name == chosen.cluster);
        let cluster =
            cluster.and_then(|named| named.cluster.as_ref()).ok_or_else(|| missing("cluster", &chosen.cluster))?;
        if cluster.certificate_authority.is_some() {
            return Err(file_refused("certificate-authority", "put its content into certificate-authority-data"));
        }
        let user = chosen.user.clone().unwrap_or_default();
        let found = kubeconfig.auth_infos.iter().find(|named| named.name == user);
        let auth = found.and_then(|named| named.auth_info.clone()).ok_or_else(|| missing("user", &user))?;
        check_user(&auth)?;
        let (expires_at, long_lived) = lifetime(&auth);
        Ok(Self { kubeconfig, expires_at, long_lived })
    }

    /// A client that uses it. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Refused`] where certificates, keys or addresses make no sense.
    pub async fn client(&self) -> Result<Client, Refused> {
        let remedy = "correct the kubeconfig";
        let config = Config::from_custom_kubeconfig(self.kubeconfig.clone(), &KubeConfigOptions::default())
            .await
            .map_err(|error| Refused::new("InvalidKubeconfig", error.to_string(), remedy))?;
        // A port that is none would be left out quietly, and whoever listens at the scheme's own port be asked.
        let has_wrong_port = config.cluster_url.authority().is_some_and(|authority| {
            let address = authority.as_str().rsplit('@').next().unwrap_or_default();
            authority.port_u16().is_none() && address != authority.host()
        });
        if has_wrong_port {
            let message = format!("the server {} has a port that is no number from 1 to 65535", config.cluster_url);
            return Err(Refused::new("InvalidKubeconfig", message, remedy));
        }
        client_of(config).map_err(|error| Refused::new("InvalidKubeconfig", error.to_string(), remedy))
    }
}

/// A client of the primary's API server: by a kubeconfig of the operator, or as a pod of that cluster.
///
/// # Errors
/// Where the file cannot be read or makes no sense, or this is no pod.
pub async fn primary(kubeconfig: Option<&std::path::Path>) -> anyhow::Result<Client> {
    use anyhow::Context;
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| anyhow::anyhow!(unreadable(&error)));
            let file = file.with_context(|| format!("--kubeconfig {}", path.display()))?;
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            config.with_context(|| format!("--kubeconfig {}", path.display()))?
        }
        None => Config::incluster().context("--in-cluster: this is no pod with a service account")?,
    };
    Ok(client_of(config)?)
}

fn client_of(mut config: Config) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config)
}

/// Which cluster answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.uid` of the namespace `kube-system`.
    pub uid: String,
    /// The API server's version.
    pub version: String,
}

/// Asks which cluster answers, and waits for `patience`. The API server has to ask its etcd for that, so the answer says that both work.
///
/// # Errors
/// [`Refused`]: the reason tells credentials from addresses from silence.
pub async fn identity(client: &Client, known: &Identity, patience: Duration) -> Result<Identity, Refused> {
    let ask = async {
        let namespace = kube::Api::<Namespace>::all(client.clone()).get("kube-system").await?;
        let version = match known.version.as_str() {
            "" => client.apiserver_version().await?.git_version,
            version => version.to_owned(),
        };
        Ok(Identity { uid: namespace.uid().unwrap_or_default(), version })
    };
    match tokio::time::timeout(patience, ask).await {
        Ok(answer) => answer.map_err(|error| explain(&error)),
        Err(_) => {
            let message = format!("the API server has not answered within {:.1} s", patience.as_secs_f32());
            Err(Refused::new("Unreachable", message, "check the network to it, and whether its etcd works"))
        }
    }
}

/// Says why a request failed.
pub fn explain(error: &kube::Error) -> Refused {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            let message = format!("the API server does not accept the credential: {}", status.message);
            Refused::new("Unauthorized", message, "write a kubeconfig with a new one: `causeway cluster join`")
        }
        kube::Error::Api(status) if status.code == 403 => Refused::new(
            "Forbidden",
            status.message.clone(),
            "give the credential the rights that `causeway rbac sub-cluster` prints",
        ),
        kube::Error::Api(status) => {
            let message = format!("the API server answers {}: {}", status.code, status.message);
            Refused::new("ServerError", message, "see the API server's log")
        }
        other => {
            // What went wrong with a connection stands at the end of the chain.
            let mut deepest: &dyn std::error::Error = other;
            while let Some(source) = deepest.source() {
                deepest = source;
            }
            let message = match deepest.to_string() {
                inner if inner == other.to_string() => inner,
                inner => format!("{other}: {inner}"),
            };
            Refused::new("Unreachable", message, "check the server's address, its certificate and the network to it")
        }
    }
}

/// Why a watch fails.
pub(super) fn explain_watch(error: &watcher::Error) -> Refused {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => explain(error),
        watcher::Error::WatchError(status) => explain(&kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => {
            Refused::new("ServerError", error.to_string(), "is this a Kubernetes API server?")
        }
    }
}

/// What is wrong with a kubeconfig, where its text is: the parser's own words quote it, with the secrets that stand there.
fn unreadable(error: &KubeconfigError) -> String {
    let KubeconfigError::Parse(error) = error else { return error.to_string() };
    let place =
        error.location().map_or_else(String::new, |at| format!(" at line {}, column {}", at.line(), at.column()));
    format!("it is no YAML, or has another form than a kubeconfig's{place}")
}

/// Which file is not said: who mistakes the field writes the secret itself there.
fn file_refused(field: &str, remedy: &'static str) -> Refused {
    let message = format!("the kubeconfig's {field} names a file, which would be read from Causeway's own disk");
    Refused::new("FileRefused", message, remedy)
}

fn check_user(auth: &AuthInfo) -> Result<(), Refused> {
    const REMEDY: &str = "use a service account's token; `causeway cluster join` makes one";
    if auth.exec.is_some() {
        let message = "the kubeconfig's user wants a program to be run (exec), which Causeway does not do for others";
        return Err(Refused::new("ExecRefused", message, REMEDY));
    }
    if auth.auth_provider.is_some() {
        let message = "the kubeconfig's user wants an auth-provider plugin, which Causeway does not load";
        return Err(Refused::new("AuthProviderRefused", message, REMEDY));
    }
    let files = [
        ("tokenFile", &auth.token_file),
        ("client-certificate", &auth.client_certificate),
        ("client-key", &auth.client_key),
    ];
    for (field, file) in files {
        if file.is_some() {
            return Err(file_refused(field, "put its content into the kubeconfig (`kubectl config view --flatten`)"));
        }
    }
    Ok(())
}

/// When a credential ends, and why it is long-lived, if it is.
fn lifetime(auth: &AuthInfo) -> (Option<Timestamp>, Option<&'static str>) {
    if let Some(token) = &auth.token {
        return match token_claims(token.expose_secret()) {
            Some(claims) => match claims.get("exp").and_then(serde_json::Value::as_i64) {
                Some(seconds) => {
                    let expires_at = Timestamp::from_second(seconds).ok();
                    let lifetime =
                        claims.get("iat").and_then(serde_json::Value::as_i64).map(|iat| seconds.saturating_sub(iat));
                    let is_long = lifetime.is_some_and(|span| span > LONG_LIVED.as_secs() as i64);
                    (expires_at, is_long.then_some("its token lives for more than a year"))
                }
                None => (None, Some("its token never ends")),
            },
            None => (None, Some("its token does not say when it ends")),
        };
    }
    if auth.password.is_some() {
        return (None, Some("a password does not end"));
    }
    if let Some(key) = &auth.client_key_data {
        let is_there = STANDARD.decode(key.expose_secret()).is_ok();
        return (None, is_there.then_some("a client certificate cannot be revoked"));
    }
    (None, None)
}

/// What a JSON Web Token claims (RFC 7519), unverified: the API server verifies it.
fn token_claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        let text = |user: &str| {
            format!(
                "current-context: c\nclusters:\n- {{name: k, cluster: {{server: \"https://a:1\"}}}}\ncontexts:\n- {{name: c, \
                 context: {{cluster: k, user: u}}}}\nusers:\n- name: u\n  user: {user}\n"
            )
        };
        for (user, reason, message) in [
            ("hunter2", "InvalidKubeconfig", "another form than a kubeconfig's at line 8"),
            ("{token: hunter2, token: hunter2}", "InvalidKubeconfig", "cannot be read"),
            ("{token: hunter2", "InvalidKubeconfig", "cannot be read"),
            ("{client-key: hunter2}", "FileRefused", "the kubeconfig's client-key names a file"),
            ("{tokenFile: hunter2}", "FileRefused", "the kubeconfig's tokenFile names a file"),
        ] {
            let refused = Credential::parse(&text(user)).expect_err(user);
            assert_eq!(refused.reason, reason, "{user}: {refused}");
            let shown = format!("{refused} {refused:?}");
            assert!(shown.contains(message) && !shown.contains("hunter2"), "{user}: {shown}");
        }
        let credential = Credential::parse(&text("{token: a, tokn: hunter2}")).expect("it is taken");
        assert!(!format!("{credential:?}").contains("hunter2"));
    }

    #[test]
    fn a_token_may_claim_any_times() {
        let long = Some("its token lives for more than a year");
        for (iat, exp, ends, is_long) in [
            (1_700_000_000, 1_700_003_600, Some(1_700_003_600), None),
            (1, 1_700_003_600, Some(1_700_003_600), long),
            (-2, i64::MAX, None, long),
            (i64::MAX, i64::MIN, None, None),
        ] {
            let claims = URL_SAFE_NO_PAD.encode(serde_json::json!({ "iat": iat, "exp": exp }).to_string());
            let auth = AuthInfo { token: Some(format!("e30.{claims}.c2ln").into()), ..AuthInfo::default() };
            let (expires_at, long_lived) = lifetime(&auth);
            assert_eq!((expires_at.map(Timestamp::as_second), long_lived), (ends, is_long), "{iat} to {exp}");
        }
    }
}
