//! A document as a tree that remembers where each part stood.

use std::borrow::Cow;

/// A part of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    /// Where it begins, counted from 1.
    pub line: u32,
    /// What it is.
    pub value: Value<'a>,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// A text without quotes, whose type shows when it is read: null, a truth value, a number, else
    /// text.
    Plain(Cow<'a, str>),
    /// A text.
    Text(Cow<'a, str>),
    /// A sequence.
    Sequence(Vec<Node<'a>>),
    /// A mapping in the order of the document; a key may be there twice until that is refused.
    Mapping(Vec<Entry<'a>>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    /// The key.
    pub key: Cow<'a, str>,
    /// Where the key stands, counted from 1.
    pub line: u32,
    /// The value.
    pub node: Node<'a>,
}

/// What a plain text means (YAML 1.2's core schema, as Kubernetes' JSON has it).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    /// Empty, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction that is below zero.
    Negative(i64),
    /// A number without a fraction.
    Whole(u64),
    /// Another number.
    Float(f64),
    /// None of these.
    Text,
}

/// A syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Where, counted from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl SyntaxError {
    pub(super) fn new(line: u32, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line, message: message.into(), remedy: remedy.into() }
    }
}

/// How deep a document may be nested. Kubernetes' objects stay below 30.
pub(super) const MAX_DEPTH: usize = 100;

/// A key whose content is bookkeeping of the API server, large, and read by nobody here. It is
/// checked for syntax and dropped, which halves the work for a dump of a real cluster.
pub(super) const DROPPED_KEY: &str = "managedFields";

impl<'a> Node<'a> {
    /// The value of a key, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of a key, where this is a mapping that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text, where this is one (or a plain one that reads as one).
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Plain(text) if matches!(plain(text), Plain::Text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is null.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if matches!(plain(text), Plain::Null))
    }

    /// Keeps only some keys of a mapping.
    pub(super) fn retain(&mut self, keys: &[&str]) {
        if let Value::Mapping(entries) = &mut self.value {
            entries.retain(|entry| keys.contains(&entry.key.as_ref()));
        }
    }

    /// The value of a key to change.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>> {
        match &mut self.value {
            Value::Mapping(entries) => entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node),
            _ => None,
        }
    }

    /// How many nodes there are in this one, itself counted.
    pub(super) fn size(&self) -> usize {
        match &self.value {
            Value::Plain(_) | Value::Text(_) => 1,
            Value::Sequence(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Value::Mapping(entries) => 1 + entries.iter().map(|entry| entry.node.size()).sum::<usize>(),
        }
    }

    /// The line of the field at a path such as `spec.ports[0].name` or
    /// `metadata.annotations[causeway.dev/weight]`; where the path leads past what is there, the
    /// line of the last part that is.
    pub(super) fn line_of(&self, path: &str) -> u32 {
        let mut node = self;
        let mut line = self.line;
        for step in steps(path) {
            let next = match &node.value {
                Value::Mapping(_) => node.entry(step).map(|entry| (entry.line, &entry.node)),
                Value::Sequence(items) => {
                    step.parse::<usize>().ok().and_then(|i| items.get(i)).map(|item| (item.line, item))
                }
                _ => None,
            };
            match next {
                Some((at, found)) => (line, node) = (at, found),
                None => break,
            }
        }
        line
    }

    /// A key that this very mapping has twice, if any: its step of a path, both lines.
    pub(super) fn own_repeated_key(&self) -> Option<(String, u32, u32)> {
        match &self.value {
            Value::Mapping(entries) => repeated(entries),
            _ => None,
        }
    }

    /// A key that a mapping anywhere within has twice, if any: its path, both lines.
    pub(super) fn repeated_key(&self) -> Option<(String, u32, u32)> {
        match &self.value {
            Value::Plain(_) | Value::Text(_) => None,
            Value::Sequence(items) => items.iter().enumerate().find_map(|(i, item)| {
                item.repeated_key().map(|(path, first, second)| (join(&format!("[{i}]"), &path), first, second))
            }),
            Value::Mapping(entries) => repeated(entries).or_else(|| {
                entries.iter().find_map(|entry| {
                    let found = entry.node.repeated_key();
                    found.map(|(path, first, second)| (join(&key_step(&entry.key), &path), first, second))
                })
            }),
        }
    }
}

fn repeated(entries: &[Entry<'_>]) -> Option<(String, u32, u32)> {
    let twice = |first: &Entry<'_>, second: &Entry<'_>| (key_step(&second.key), first.line, second.line);
    // Most mappings are small, and then comparing all pairs is cheaper than a table.
    if entries.len() <= 16 {
        let mut pairs = entries.iter().enumerate();
        return pairs.find_map(|(i, second)| {
            entries[..i].iter().find(|first| first.key == second.key).map(|first| twice(first, second))
        });
    }
    let mut seen: std::collections::HashMap<&str, &Entry<'_>> = std::collections::HashMap::new();
    entries.iter().find_map(|entry| seen.insert(&entry.key, entry).map(|first| twice(first, entry)))
}

/// A key as a part of a path: in brackets where it would not read as one word.
pub(super) fn key_step(key: &str) -> String {
    if key.contains(['.', '[', ']']) || key.is_empty() { format!("[{key}]") } else { key.to_owned() }
}

/// Joins two parts of a path.
pub(super) fn join(path: &str, rest: &str) -> String {
    match (path.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => path.to_owned(),
        _ if rest.starts_with('[') => format!("{path}{rest}"),
        _ => format!("{path}.{rest}"),
    }
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, tail) = inner.split_once(']').unwrap_or((inner, ""));
            rest = tail;
            return Some(step);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (step, tail) = rest.split_at(end);
        rest = tail;
        Some(step)
    })
}

/// What a plain text means. `yes`, `no`, `on` and `off` are text, and so is a number with leading
/// zeros: YAML 1.1 and 1.2 read both differently, so neither reading is taken.
pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    let radix = |prefix: &str, base: u32| {
        text.strip_prefix(prefix).filter(|t| !t.starts_with(['+', '-'])).and_then(|t| u64::from_str_radix(t, base).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Plain::Whole(number);
    }
    if unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.as_bytes()[1].is_ascii_digit() {
        return Plain::Text;
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(number) = text.strip_prefix('+').unwrap_or(text).parse() {
            return Plain::Whole(number);
        }
        if let Ok(number) = text.parse() {
            return Plain::Negative(number);
        }
    }
    let numeric = unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(number) if numeric => Plain::Float(number),
        _ => Plain::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_texts_mean_what_kubernetes_takes_them_for() {
        for (text, meaning) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("null", Plain::Null),
            ("true", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("0", Plain::Whole(0)),
            ("8080", Plain::Whole(8080)),
            ("+7", Plain::Whole(7)),
            ("-7", Plain::Negative(-7)),
            ("0x10", Plain::Whole(16)),
            ("0o17", Plain::Whole(15)),
            ("017", Plain::Text),
            ("1.5", Plain::Float(1.5)),
            ("1e3", Plain::Float(1000.0)),
            ("10.0.0.1", Plain::Text),
            ("100m", Plain::Text),
            ("2024-01-01T00:00:00Z", Plain::Text),
            ("1-2", Plain::Text),
            ("-", Plain::Text),
            (".", Plain::Text),
            ("99999999999999999999999", Plain::Float(1e23)),
        ] {
            assert_eq!(plain(text), meaning, "{text}");
        }
    }

    #[test]
    fn paths_are_walked_in_steps() {
        let all: Vec<&str> = steps("spec.ports[0].name").collect();
        assert_eq!(all, ["spec", "ports", "0", "name"]);
        let all: Vec<&str> = steps("metadata.annotations[causeway.dev/weight]").collect();
        assert_eq!(all, ["metadata", "annotations", "causeway.dev/weight"]);
        assert_eq!(steps("").count(), 0);
        assert_eq!(join("a", "[0].b"), "a[0].b");
        assert_eq!(join("a", "b"), "a.b");
    }
}
