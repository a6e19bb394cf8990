//! Settings before they are read: text with its origin, in layers that lie over each other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::ConfigError;

/// Whether a setting takes one value or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// One.
    One,
    /// A list in the file, a repeated flag, commas in the environment.
    Many,
}

/// A setting of `causeway serve`.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag's name without dashes, which is also the file's key.
    pub key: &'static str,
    /// How many values it takes.
    pub arity: Arity,
    /// Whether the file may have it: a file that names a file would be a riddle.
    pub in_file: bool,
}

const fn one(key: &'static str) -> Setting {
    Setting { key, arity: Arity::One, in_file: true }
}

/// Every setting of `causeway serve`.
pub const SETTINGS: &[Setting] = &[
    Setting { key: "config", arity: Arity::One, in_file: false },
    one("manifests"),
    one("kubeconfig"),
    one("in-cluster"),
    one("data-dir"),
    one("store"),
    Setting { key: "xds-addr", arity: Arity::Many, in_file: true },
    one("admin-addr"),
    one("dns-addr"),
    one("member-addr"),
    one("member-ca-cert"),
    one("member-ca-key"),
    one("trust-domain"),
    one("policy-dir"),
    Setting { key: "policy-key", arity: Arity::Many, in_file: true },
    one("registry-config"),
    Setting { key: "insecure-registry", arity: Arity::Many, in_file: true },
    one("registry-ca"),
    one("insecure"),
    one("primary"),
    one("drain"),
    one("grace"),
    one("load-report-interval"),
    one("policy-compile-cpu"),
    one("policy-compile-memory-mib"),
    one("log-format"),
];

impl Setting {
    /// The environment variable, such as `CAUSEWAY_XDS_ADDR`.
    pub fn env(&self) -> String {
        format!("CAUSEWAY_{}", self.key.replace('-', "_").to_ascii_uppercase())
    }

    /// The file's other spelling, such as `xdsAddr`.
    pub fn camel(&self) -> String {
        let mut words = self.key.split('-');
        let mut name = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (head, tail) = word.split_at(1.min(word.len()));
            name.push_str(&head.to_ascii_uppercase());
            name.push_str(tail);
        }
        name
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag(&'static str),
    /// The environment variable.
    Env(String),
    /// The file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// The key as it is written there.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(key) => write!(f, "--{key}"),
            Origin::Env(name) => f.write_str(name),
            Origin::File { path, line: Some(line), key } => write!(f, "{}:{line}: {key}", path.display()),
            Origin::File { path, line: None, key } => write!(f, "{}: {key}", path.display()),
        }
    }
}

/// Settings with their values' text and origin.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (Vec<String>, Origin)>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter().map(|(key, (values, origin))| {
            (key, (values.iter().map(|value| shown(key, value)).collect::<Vec<_>>(), origin))
        });
        f.debug_map().entries(values).finish()
    }
}

/// A value as it may be shown to whoever reads logs.
fn shown(key: &str, value: &str) -> String {
    if key == "store" { super::store::shown(value) } else { value.to_owned() }
}

impl Settings {
    /// Puts a setting that the command line gave; without values it does nothing.
    pub fn flag(mut self, key: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        self.put(key, values.into_iter().collect(), Origin::Flag(key));
        self
    }

    /// Reads the environment. An empty variable counts as unset, as systemd and Compose leave them.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut settings = Self::default();
        for setting in SETTINGS {
            let name = setting.env();
            let Some(text) = env(&name).filter(|text| !text.trim().is_empty()) else { continue };
            let values = match setting.arity {
                Arity::One => vec![text.trim().to_owned()],
                Arity::Many => text.split(',').map(|part| part.trim().to_owned()).collect(),
            };
            settings.put(setting.key, values, Origin::Env(name));
        }
        settings
    }

    pub(super) fn put(&mut self, key: &'static str, values: Vec<String>, origin: Origin) {
        if !values.is_empty() {
            self.values.insert(key, (values, origin));
        }
    }

    /// These settings, and where they say nothing, those below. Lists are replaced, not joined.
    pub fn over(mut self, below: Settings) -> Self {
        for (key, value) in below.values {
            self.values.entry(key).or_insert(value);
        }
        self
    }

    /// The first value's text.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.0.first().map(String::as_str)
    }

    pub(super) fn one<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        Ok(self.all(key, expected, read)?.and_then(|values| values.into_iter().next()))
    }

    pub(super) fn all<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some((values, origin)) = self.values.get(key) else { return Ok(None) };
        let read_one = |value: &String| {
            let refuse =
                |why| ConfigError::Value { origin: Box::new(origin.clone()), value: shown(key, value), expected, why };
            read(value).map_err(refuse)
        };
        values.iter().map(read_one).collect::<Result<_, _>>().map(Some)
    }
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A cluster's name is a folder's name and a DNS label.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.is_empty() || !text.chars().all(fine) || !text.starts_with(edge) || !text.ends_with(edge) {
        return Err("names have lower-case letters, digits, `-` and `.`, as a Kubernetes object's".to_owned());
    }
    Ok(text.to_owned())
}
