//! YAML into trees. The events of a streaming parser are put together without recursion, so the
//! depth of a document costs memory and never the stack.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::tree::{DROPPED_KEY, Entry, MAX_DEPTH, Node, SyntaxError, Value};

/// How many nodes anchors and aliases may add to a file. Without a bound a few lines could become gigabytes.
const MAX_REPEATED_NODES: usize = 100_000;

/// A collection that is being read.
enum Open<'a> {
    Sequence {
        anchor: usize,
        line: u32,
        items: Vec<Node<'a>>,
    },
    Mapping {
        anchor: usize,
        line: u32,
        entries: Vec<Entry<'a>>,
        key: Option<(Cow<'a, str>, u32)>,
    },
    /// Within a dropped key: only the depth counts.
    Dropped(usize),
}

#[derive(Default)]
struct Builder<'a> {
    documents: Vec<Node<'a>>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    repeated: usize,
}

/// Reads a text of YAML documents. Empty documents are left out.
///
/// # Errors
/// The first place at which the text is not YAML, or is YAML that no Kubernetes object needs
/// (unknown tags, keys that are no text, too deep or too much repeated).
pub(super) fn parse(text: &str) -> Result<Vec<Node<'_>>, SyntaxError> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| scan_error(&error, text))?;
        builder.event(event, span)?;
    }
    Ok(builder.documents)
}

fn line_of(span: Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX).max(1)
}

impl<'a> Builder<'a> {
    fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), SyntaxError> {
        let line = line_of(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if self.drops_scalar() {
                    return Ok(());
                }
                let value = scalar(text, style, tag.as_deref(), line)?;
                self.finished(Node { line, value }, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", line)?;
                self.begin(Open::Sequence { anchor, line, items: Vec::new() }, line)
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "map", line)?;
                self.begin(Open::Mapping { anchor, line, entries: Vec::new(), key: None }, line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    /// Whether the value that comes next belongs to a dropped key.
    fn drops(&self) -> bool {
        match self.open.last() {
            Some(Open::Dropped(_)) => true,
            Some(Open::Mapping { key: Some((key, _)), .. }) => key == DROPPED_KEY,
            _ => false,
        }
    }

    fn drops_scalar(&mut self) -> bool {
        let drops = self.drops();
        if let (true, Some(Open::Mapping { key, .. })) = (drops, self.open.last_mut()) {
            *key = None;
        }
        drops
    }

    fn begin(&mut self, collection: Open<'a>, line: u32) -> Result<(), SyntaxError> {
        if self.drops() {
            match self.open.last_mut() {
                Some(Open::Dropped(depth)) => *depth += 1,
                _ => self.open.push(Open::Dropped(1)),
            }
            return Ok(());
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("the document is nested deeper than {MAX_DEPTH} levels");
            return Err(SyntaxError::new(line, message, "no Kubernetes object is; look for brackets never closed"));
        }
        if let Some(Open::Mapping { key: None, .. }) = self.open.last() {
            return Err(key_error(line));
        }
        self.open.push(collection);
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        match self.open.pop() {
            Some(Open::Sequence { anchor, line, items }) => {
                self.finished(Node { line, value: Value::Sequence(items) }, anchor)
            }
            Some(Open::Mapping { anchor, line, entries, .. }) => {
                let value = Value::Mapping(merged(entries)?);
                self.finished(Node { line, value }, anchor)
            }
            Some(Open::Dropped(depth)) if depth > 1 => {
                self.open.push(Open::Dropped(depth - 1));
                Ok(())
            }
            Some(Open::Dropped(_)) => {
                if let Some(Open::Mapping { key, .. }) = self.open.last_mut() {
                    *key = None;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), SyntaxError> {
        if self.drops_scalar() {
            return Ok(());
        }
        let Some(node) = self.anchors.get(&anchor) else {
            let message = "the alias names an anchor that is not finished here";
            return Err(SyntaxError::new(line, message, "write the value out"));
        };
        let node = node.clone();
        self.repeat(&node, line)?;
        self.finished(node, 0)
    }

    /// Counts a copy of a node, made for an anchor or an alias.
    fn repeat(&mut self, node: &Node<'a>, line: u32) -> Result<(), SyntaxError> {
        self.repeated = self.repeated.saturating_add(node.size());
        if self.repeated > MAX_REPEATED_NODES {
            let message = format!("anchors and aliases repeat more than {MAX_REPEATED_NODES} values");
            return Err(SyntaxError::new(line, message, "write the values out, or split the file"));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn finished(&mut self, node: Node<'a>, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.repeat(&node, node.line)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => {
                if !node.is_null() {
                    self.documents.push(node);
                }
                // Anchors end with their document (YAML 1.2.2, 3.2.2.2).
                self.anchors.clear();
            }
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                Some((key, line)) => entries.push(Entry { key, line, node }),
                None => {
                    let line = node.line;
                    match node.value {
                        Value::Text(text) => *key = Some((text, line)),
                        Value::Plain(text) if !text.is_empty() => *key = Some((text, line)),
                        _ => return Err(key_error(line)),
                    }
                }
            },
            Some(Open::Dropped(_)) => {}
        }
        Ok(())
    }
}

fn key_error(line: u32) -> SyntaxError {
    let remedy = "write a name before the `:`; text with `{` or `[` in front, such as a template's, needs quotes";
    SyntaxError::new(line, "a key is not a plain text", remedy)
}

/// Takes in what the merge key `<<` names, as Kubernetes' own tools do: keys that are written out
/// win.
fn merged(entries: Vec<Entry<'_>>) -> Result<Vec<Entry<'_>>, SyntaxError> {
    if entries.iter().all(|entry| entry.key != "<<") {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
    let mut known: HashSet<Cow<'_, str>> = own.iter().map(|entry| entry.key.clone()).collect();
    for merge in merges {
        let line = merge.line;
        let sources = match merge.node.value {
            Value::Sequence(items) => items,
            _ => vec![merge.node],
        };
        for source in sources {
            let Value::Mapping(entries) = source.value else {
                let message = "the merge key `<<` takes a mapping or a list of them";
                return Err(SyntaxError::new(line, message, "name an anchor of a mapping, or write the fields out"));
            };
            for entry in entries {
                if known.insert(entry.key.clone()) {
                    own.push(entry);
                }
            }
        }
    }
    Ok(own)
}

fn scalar<'a>(text: Cow<'a, str>, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Result<Value<'a>, SyntaxError> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(Value::Plain(text)),
        None => Ok(Value::Text(text)),
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => Ok(Value::Text(text)),
            "null" | "bool" | "int" | "float" => Ok(Value::Plain(text)),
            _ => Err(tag_error(tag, line)),
        },
        // The non-specific tag: the text as it is (YAML 1.2.2, 6.9.1).
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Value::Text(text)),
        Some(tag) => Err(tag_error(tag, line)),
    }
}

fn collection_tag(tag: Option<&Tag>, wanted: &str, line: u32) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == wanted) => Err(tag_error(tag, line)),
        _ => Ok(()),
    }
}

fn tag_error(tag: &Tag, line: u32) -> SyntaxError {
    SyntaxError::new(line, format!("the tag `{tag}` means nothing here"), "remove the tag")
}

fn scan_error(error: &ScanError, text: &str) -> SyntaxError {
    let info = error.info();
    let last = text.lines().count().max(1);
    let line = u32::try_from(error.marker().line().clamp(1, last)).unwrap_or(u32::MAX);
    let shown = text.lines().nth(line as usize - 1).unwrap_or_default();
    SyntaxError::new(line, format!("this is no YAML: {info}"), remedy(info, shown))
}

/// What usually is behind the parser's words.
fn remedy(info: &str, line: &str) -> &'static str {
    let template = line.contains("{{");
    let indented_by_tab = line.trim_start_matches(' ').starts_with('\t');
    match info {
        _ if template => "this looks like a template; render it first (`helm template`, `kustomize build`)",
        _ if indented_by_tab => "indent with spaces; YAML allows no tabs there",
        i if i.contains("tab") => "indent with spaces; YAML allows no tabs there",
        i if i.contains("mapping values are not allowed") => {
            "put text that holds `: ` into quotes, and check the line's indentation"
        }
        i if i.contains("quoted scalar") => "close the quotes, and write `\\` as `\\\\` within double quotes",
        i if i.contains("flow") || i.contains("bracket") => "close every `[` and `{`, and put `,` between entries",
        i if i.contains("anchor") || i.contains("alias") => "define the anchor (`&name`) before its alias (`*name`)",
        i if i.contains("unprintable") => "remove the control character; the file may be binary or not UTF-8",
        i if i.contains("unexpected character") => "put text that begins with a special character into quotes",
        i if i.contains("recursion") => "no Kubernetes object is nested so deep; look for brackets never closed",
        _ => "compare this line's indentation and its `:` and `-` with its neighbours'",
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
