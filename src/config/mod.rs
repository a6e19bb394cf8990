//! What `causeway serve` is told: flags, then the environment, then a file, then defaults, merged
//! once into a [`ServeConfig`]. Every error names the origin of the value that it is about.

mod address;
pub(crate) mod file;
mod layer;
mod store;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub(crate) use address::unix_path;
pub use address::{ListenAddr, check_addr, parse_duration};
pub use layer::{Origin, SETTINGS, Setting, Settings};
pub use store::{PostgresUrl, StoreUrl};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("write text or json".to_owned()),
        }
    }
}

/// Where clusters are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clusters {
    /// From a folder whose subfolders are clusters.
    Manifests(PathBuf),
    /// From API servers: the primary's, and those that its ClusterInfos name.
    Kubernetes {
        /// The primary's kubeconfig; as a pod of the primary where there is none.
        kubeconfig: Option<PathBuf>,
    },
}

impl Clusters {
    /// The manifests' folder, if that is it.
    pub fn manifests(&self) -> Option<&Path> {
        match self {
            Clusters::Manifests(folder) => Some(folder),
            Clusters::Kubernetes { .. } => None,
        }
    }
}

/// Everything that `causeway serve` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Where clusters are read from.
    pub clusters: Clusters,
    /// The folder of what is kept on this machine; made when it is not there.
    pub data_dir: PathBuf,
    /// Where the store is; where nobody says, in `data_dir`.
    pub store: StoreUrl,
    /// Where xDS and the agents' reports are served; at least one.
    pub xds_addrs: Vec<ListenAddr>,
    /// Where the HTTP API, metrics and debug pages are served.
    pub admin_addr: SocketAddr,
    /// Where DNS is served, over UDP and TCP; `None` serves none.
    pub dns_addr: Option<SocketAddr>,
    /// Where managers of sub-clusters are let in; `None` lets none in.
    pub members: Option<MemberListener>,
    /// Callers that prove nothing are served, whoever they are.
    pub insecure: bool,
    /// The primary cluster's name, where the manifests should not decide; `primary` where API servers are read.
    pub primary: Option<String>,
    /// How long a withdrawn VIP's listeners stay up for requests in flight.
    pub drain: Duration,
    /// How long a node may be gone before a VIP's release no longer waits for it.
    pub grace: Duration,
    /// How often Envoys tell of the requests that they send: 1 s to 1 h; `None` asks for nothing.
    pub load_report_interval: Option<Duration>,
    /// CPU time that compiling a policy may take: 1 s to 1 h, in whole seconds.
    pub policy_compile_cpu: Duration,
    /// Memory that compiling a policy may take, in MiB: 256 to 65536.
    pub policy_compile_memory_mib: u64,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Where policies come from, and whose are taken.
    pub policies: PolicySources,
}

/// Where managers of sub-clusters are let in, always by certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberListener {
    /// The address.
    pub addr: SocketAddr,
    /// Certificate and key of the authority that vouches for members; one of the data directory's own where there are none.
    pub ca: Option<(PathBuf, PathBuf)>,
    /// The trust domain of members' SPIFFE ids.
    pub trust_domain: String,
}

/// Where policies come from beside uploads, and whose are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySources {
    /// The folder beneath which the files of `Policy` objects lie; none are read where there is none.
    pub folder: Option<PathBuf>,
    /// Files of public keys, in PEM. Where there are any, each component must be signed by one of them.
    pub keys: Vec<PathBuf>,
    /// Credentials of registries, as `docker login` writes them.
    pub registry_config: Option<PathBuf>,
    /// Registries that are spoken to without TLS, as `host` or `host:port`; loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// Certificates, in PEM, that registries may have beside those that the system trusts.
    pub registry_ca: Option<PathBuf>,
}

/// Why a configuration is refused. The command ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML of the right shape.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// A value cannot be read.
    #[error("{origin}: `{value}` is not {expected}: {why}")]
    Value {
        /// Where the value comes from.
        origin: Box<Origin>,
        /// The value.
        value: String,
        /// What it should be, with its article.
        expected: &'static str,
        /// What is wrong, and what to write.
        why: String,
    },
    /// A setting has no value and no default.
    #[error("--{0} is missing: {1}")]
    Missing(&'static str, &'static str),
    /// Settings that exclude each other.
    #[error("--{0} cannot be used together with {1}: clusters are read in one way; keep one of them")]
    Exclusive(&'static str, &'static str),
    /// An address that others can reach is refused.
    #[error(
        "--{flag} {address} can be reached from other machines, and callers prove nothing yet: \
         use a loopback address such as 127.0.0.1:{}, or add --insecure to serve anyone who can connect",
        address.port()
    )]
    NotLoopback {
        /// The setting's flag, without dashes.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Two settings want the same address.
    #[error("--{one} and --{other} are both {address}: give each its own")]
    Twice {
        /// One setting.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// The address.
        address: String,
    },
    /// A folder cannot be used.
    #[error("--{flag} {}: {why}", path.display())]
    Folder {
        /// The setting's flag, without dashes.
        flag: &'static str,
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl ServeConfig {
    /// Merges flags with the environment, the file that they name, and the defaults.
    ///
    /// `flags` are what the command line gave; `env` looks up an environment variable. The file is
    /// the one of `--config`, or else of `CAUSEWAY_CONFIG`; there is no file by default. Addresses
    /// are checked; folders are not ([`ServeConfig::check_folders`]).
    pub fn resolve(flags: Settings, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = flags.over(Settings::from_env(env));
        let settings = match given.first("config") {
            Some(path) => {
                let path = PathBuf::from(path);
                given.over(file::read(&path)?)
            }
            None => given,
        };
        let config = Self::from_settings(&settings)?;
        config.check_addresses()?;
        Ok(config)
    }

    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let is_pod = settings.one("in-cluster", "true or false", layer::parse_bool)?.unwrap_or(false);
        let kubeconfig = settings.first("kubeconfig").map(PathBuf::from);
        let manifests = settings.first("manifests").map(PathBuf::from);
        let clusters = match (manifests, kubeconfig, is_pod) {
            (Some(folder), None, false) => Clusters::Manifests(folder),
            (None, Some(path), false) => Clusters::Kubernetes { kubeconfig: Some(path) },
            (None, None, true) => Clusters::Kubernetes { kubeconfig: None },
            (None, None, false) => {
                let what = "name the folder that has one subfolder of Kubernetes YAML for each cluster; or read clusters from API \
                            servers, with --kubeconfig or --in-cluster";
                return Err(ConfigError::Missing("manifests", what));
            }
            (Some(_), _, _) => return Err(ConfigError::Exclusive("manifests", "--kubeconfig and --in-cluster")),
            (None, Some(_), true) => return Err(ConfigError::Exclusive("kubeconfig", "--in-cluster")),
        };
        let path = |key| settings.first(key).map(PathBuf::from);
        let policies = PolicySources {
            // Beside the objects that name them, where objects are files.
            folder: path("policy-dir").or_else(|| clusters.manifests().map(Path::to_owned)),
            keys: settings.all("policy-key", "a file", |file| Ok(PathBuf::from(file)))?.unwrap_or_default(),
            registry_config: path("registry-config"),
            insecure_registries: settings
                .all("insecure-registry", "a registry's host", |host| Ok(host.to_owned()))?
                .unwrap_or_default(),
            registry_ca: path("registry-ca"),
        };
        let data_dir = PathBuf::from(settings.first("data-dir").unwrap_or("causeway-data"));
        let store =
            settings.one("store", "a store", StoreUrl::parse)?.unwrap_or_else(|| StoreUrl::Sqlite(data_dir.clone()));
        let members = member_listener(settings)?;
        if members.is_some() && clusters.manifests().is_some() {
            return Err(ConfigError::Exclusive("member-addr", "--manifests"));
        }
        Ok(Self {
            clusters,
            data_dir,
            store,
            xds_addrs: settings
                .all("xds-addr", "a listening address", ListenAddr::from_str)?
                .unwrap_or_else(|| vec![ListenAddr::Tcp(DEFAULT_XDS_ADDR)]),
            admin_addr: settings
                .one("admin-addr", "a listening address", address::parse_socket)?
                .unwrap_or(DEFAULT_ADMIN_ADDR),
            dns_addr: settings
                .one("dns-addr", "a listening address", address::parse_socket_or_none)?
                .unwrap_or(Some(DEFAULT_DNS_ADDR)),
            insecure: settings.one("insecure", "true or false", layer::parse_bool)?.unwrap_or(false),
            primary: settings.one("primary", "a cluster's name", layer::parse_name)?,
            drain: settings.one("drain", "a duration", parse_duration)?.unwrap_or(Duration::from_secs(5)),
            grace: settings.one("grace", "a duration", parse_duration)?.unwrap_or(Duration::from_secs(60)),
            load_report_interval: settings
                .one("load-report-interval", "a duration or none", parse_interval)?
                .unwrap_or(Some(Duration::from_secs(10))),
            policy_compile_cpu: settings
                .one("policy-compile-cpu", "a duration", parse_cpu_time)?
                .unwrap_or(Duration::from_secs(60)),
            policy_compile_memory_mib: settings
                .one("policy-compile-memory-mib", "a number of MiB", parse_memory_mib)?
                .unwrap_or(2048),
            log_format: settings.one("log-format", "a log format", LogFormat::from_str)?.unwrap_or_default(),
            policies,
            members,
        })
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let mut taken: Vec<(&'static str, String)> = Vec::new();
        let mut tcp: Vec<(&'static str, SocketAddr)> = Vec::new();
        let mut claim = |flag: &'static str, address: String| {
            if let Some((one, _)) = taken.iter().find(|(_, other)| *other == address) {
                return Err(ConfigError::Twice { one, other: flag, address });
            }
            taken.push((flag, address));
            Ok(())
        };
        for address in &self.xds_addrs {
            match address {
                ListenAddr::Tcp(socket) => tcp.push(("xds-addr", *socket)),
                ListenAddr::Unix(_) => claim("xds-addr", address.to_string())?,
            }
        }
        tcp.push(("admin-addr", self.admin_addr));
        tcp.extend(self.dns_addr.map(|socket| ("dns-addr", socket)));
        // Whoever connects there has to prove who it is.
        let proved = self.members.as_ref().map(|members| ("member-addr", members.addr));
        for (flag, socket) in &tcp {
            check_addr(flag, *socket, self.insecure)?;
        }
        for (flag, socket) in tcp.into_iter().chain(proved) {
            // Port 0 is a free port of the system's choice, so two of them never collide.
            if socket.port() != 0 {
                claim(flag, socket.to_string())?;
            }
        }
        Ok(())
    }

    /// Looks whether the folders can be used. The data folder may be missing; it must not lie within
    /// the manifests, where it would be taken for a cluster.
    pub fn check_folders(&self) -> Result<(), ConfigError> {
        let refuse = |flag, path: &Path, why: String| ConfigError::Folder { flag, path: path.to_owned(), why };
        if let Some(folder) = self.clusters.manifests() {
            let kind = std::fs::metadata(folder).map_err(|e| {
                let why = match e.kind() {
                    std::io::ErrorKind::NotFound => "there is no such folder; make it, or correct the path".to_owned(),
                    _ => format!("cannot be read: {e}"),
                };
                refuse("manifests", folder, why)
            })?;
            if !kind.is_dir() {
                let why = "is a file; name the folder that has one subfolder for each cluster".to_owned();
                return Err(refuse("manifests", folder, why));
            }
            if let Err(e) = std::fs::read_dir(folder) {
                return Err(refuse("manifests", folder, format!("cannot be listed: {e}")));
            }
        }
        if self.data_dir.exists() && !self.data_dir.is_dir() {
            return Err(refuse("data-dir", &self.data_dir, "is a file; name a folder".to_owned()));
        }
        if let Some(folder) = self.clusters.manifests()
            && resolved(&self.data_dir).starts_with(resolved(folder))
        {
            let why = format!("lies within --manifests {}; choose a folder elsewhere", folder.display());
            return Err(refuse("data-dir", &self.data_dir, why));
        }
        Ok(())
    }

    /// What a person should be told although it is allowed, in full sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let tcp = self.xds_addrs.iter().filter_map(|a| match a {
            ListenAddr::Tcp(socket) => Some(("xds-addr", *socket)),
            ListenAddr::Unix(_) => None,
        });
        let all = tcp.chain([("admin-addr", self.admin_addr)]).chain(self.dns_addr.map(|a| ("dns-addr", a)));
        for (flag, socket) in all.filter(|(_, socket)| !address::is_loopback(socket.ip())) {
            warnings.push(format!("--insecure: anyone who can reach --{flag} {socket} is served."));
        }
        if let StoreUrl::Postgres(url) = &self.store
            && !url.is_private()
        {
            warnings.push(format!(
                "--store {url}: without sslmode=require or verify-full the password and all rows may travel unencrypted."
            ));
        }
        if let Some(primary) = &self.primary
            && let Some(folder) = self.clusters.manifests()
            && !folder.join(primary).is_dir()
        {
            let folder = folder.display();
            warnings.push(format!(
                "--primary {primary} has no folder in {folder}: no access or pool is read until it has."
            ));
        }
        warnings
    }
}

/// Where members are let in, if they are.
fn member_listener(settings: &Settings) -> Result<Option<MemberListener>, ConfigError> {
    let path = |key| settings.first(key).map(PathBuf::from);
    let ca = match (path("member-ca-cert"), path("member-ca-key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(ConfigError::Missing("member-ca-key", "name the key of --member-ca-cert as well"));
        }
        (None, Some(_)) => {
            return Err(ConfigError::Missing("member-ca-cert", "name the certificate of --member-ca-key as well"));
        }
    };
    let trust_domain = settings.one("trust-domain", "a trust domain", parse_trust_domain)?;
    let addr = settings.one("member-addr", "a listening address", address::parse_socket_or_none)?.flatten();
    Ok(addr.map(|addr| MemberListener {
        addr,
        ca,
        trust_domain: trust_domain.unwrap_or_else(|| DEFAULT_TRUST_DOMAIN.to_owned()),
    }))
}

/// A trust domain as SPIFFE has it: a host name without a port.
pub fn parse_trust_domain(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    if text.is_empty() || text.len() > 255 || !text.chars().all(fine) {
        return Err("trust domains have lower-case letters, digits, `-`, `.` and `_`".to_owned());
    }
    Ok(text.to_owned())
}

/// Envoy's timers do not count less than a second well, and a report an hour old says nothing.
fn parse_interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" {
        return Ok(None);
    }
    let interval = parse_duration(text)?;
    let fits = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval);
    if fits { Ok(Some(interval)) } else { Err("write 1s to 1h, or none".to_owned()) }
}

/// A time on the CPU. The system counts whole seconds.
fn parse_cpu_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.subsec_nanos() != 0 || !(1..=3600).contains(&time.as_secs()) {
        return Err("write whole seconds, 1s to 1h".to_owned());
    }
    Ok(time)
}

/// Less than a compiler needs for anything would refuse every policy.
fn parse_memory_mib(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|mib| (256..=65_536).contains(mib)).ok_or_else(|| "write 256 to 65536".to_owned())
}

/// Where xDS is served unless told otherwise.
pub const DEFAULT_XDS_ADDR: SocketAddr = loopback(18000);
/// Where the admin interface is served unless told otherwise.
pub const DEFAULT_ADMIN_ADDR: SocketAddr = loopback(18080);
/// The trust domain of members' ids unless told otherwise.
pub const DEFAULT_TRUST_DOMAIN: &str = "causeway";
/// Where DNS is served unless told otherwise.
pub const DEFAULT_DNS_ADDR: SocketAddr = loopback(5353);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// The path with links followed as far as it exists, so that two spellings can be compared.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut there = absolute.as_path();
    loop {
        if let Ok(real) = there.canonicalize() {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                there = parent;
            }
            _ => return absolute,
        }
    }
}
