//! The file of `--config`: one YAML mapping whose keys are the flags' names.

use std::path::Path;

use serde_yaml_ng::Value;

use super::ConfigError;
use super::layer::{Arity, Origin, SETTINGS, Setting, Settings};

/// Far above any configuration, so that a mistaken path (a disk image, `/dev/zero`) ends soon.
const MAX_BYTES: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    use std::io::Read;
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        let message = format!("is larger than {MAX_BYTES} bytes; is it the right file?");
        return Err(ConfigError::File { path: path.to_owned(), line: None, message });
    }
    parse(path, &text)
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let refuse = |line, message| ConfigError::File { path: path.to_owned(), line, message };
    let document: Value = serde_yaml_ng::from_str(text)
        .map_err(|e| refuse(e.location().map(|l| l.line()), format!("is not YAML: {e}")))?;
    let entries = match document {
        Value::Null => return Ok(Settings::default()),
        Value::Mapping(entries) => entries,
        _ => return Err(refuse(None, "must be a mapping such as `manifests: ./clusters`".to_owned())),
    };
    let mut settings = Settings::default();
    for (key, value) in entries {
        let Value::String(key) = key else {
            return Err(refuse(None, "every key must be text, the name of a flag".to_owned()));
        };
        let line = line_of(text, &key);
        let setting = find(&key).ok_or_else(|| refuse(line, unknown(&key)))?;
        if settings.first(setting.key).is_some() {
            let message = format!("`{key}` is there twice, as `{}` and `{}`", setting.key, setting.camel());
            return Err(refuse(line, message));
        }
        let values = texts(setting, &key, value).map_err(|message| refuse(line, message))?;
        settings.put(setting.key, values, Origin::File { path: path.to_owned(), line, key });
    }
    Ok(settings)
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.in_file && (s.key == key || s.camel() == key))
}

fn texts(setting: &Setting, key: &str, value: Value) -> Result<Vec<String>, String> {
    match (setting.arity, value) {
        (Arity::Many, Value::Sequence(items)) if items.is_empty() => {
            Err(format!("`{key}` is an empty list; leave it out to use the default"))
        }
        (Arity::Many, Value::Sequence(items)) => items.into_iter().map(|item| scalar(key, item)).collect(),
        (Arity::One, Value::Sequence(_)) => Err(format!("`{key}` takes one value, not a list")),
        (_, value) => Ok(vec![scalar(key, value)?]),
    }
}

fn scalar(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err(format!("`{key}` is empty; leave it out for the default")),
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(format!("`{key}` has no value; leave it out to use the default")),
        Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
            Err(format!("`{key}` must be plain text, a number or true/false"))
        }
    }
}

fn unknown(key: &str) -> String {
    if SETTINGS.iter().any(|s| !s.in_file && s.key == key) {
        return format!("`{key}` cannot be set in the file, only as --{key}");
    }
    let near = SETTINGS
        .iter()
        .filter(|s| s.in_file)
        .map(|s| (distance(&plain(key), &plain(s.key)), s.key))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    match near {
        Some((_, candidate)) => format!("unknown key `{key}`; did you mean `{candidate}`?"),
        None => {
            let known: Vec<&str> = SETTINGS.iter().filter(|s| s.in_file).map(|s| s.key).collect();
            format!("unknown key `{key}`; the keys are {}", known.join(", "))
        }
    }
}

/// A key without the differences between `xds-addr`, `xds_addr` and `xdsAddr`.
fn plain(key: &str) -> Vec<char> {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The edit distance of Levenshtein: insertions, deletions and replacements.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The line of a top-level key. The YAML reader does not say, so this looks for the key at a line's
/// beginning; a file in flow style (`{a: b}`) has no such line.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let spelled = [key.to_owned(), format!("'{key}'"), format!("\"{key}\"")];
    let is_key = |line: &str| {
        spelled.iter().any(|k| line.strip_prefix(k.as_str()).is_some_and(|rest| rest.trim_start().starts_with(':')))
    };
    text.lines().position(is_key).map(|index| index + 1)
}
