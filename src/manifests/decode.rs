//! A file's bytes into objects and findings. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::api::discovery::v1 as discovery_v1;

use super::de::{TypeError, from_node};
use super::tree::{Node, SyntaxError, Value};
use super::{json, yaml};
use crate::kube::convert::{self, Converted};
use crate::kube::field::{Invalid, closest, one_of};
use crate::kube::kinds;
use crate::model::object::{Object, ObjectKey};

/// How a file is written, by its name's ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.json`.
    Json,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The objects, as far as they are valid. Where `findings` says anything, the file is broken
    /// and these must not be used.
    pub objects: Vec<Loaded>,
    /// What is wrong; at most [`MAX_FINDINGS`], the last of which then says how many more.
    pub findings: Vec<Finding>,
    /// What is wrong in places that do not spoil the file: a default stands in.
    pub warnings: Vec<Finding>,
    /// What the file holds that Causeway does not serve.
    pub left_out: LeftOut,
}

/// An object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The object.
    pub object: Arc<Object>,
    /// The line at which it begins, counted from 1.
    pub line: u32,
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line, counted from 1; 0 where no line is meant.
    pub line: u32,
    /// The object, as `Kind namespace/name`; empty where the file cannot be read at all.
    pub object: String,
    /// The field's path; empty where none.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What was left out on purpose: by sort, how many, and the first few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(pub BTreeMap<Arc<str>, (usize, Vec<String>)>);

/// How many examples of a sort are kept.
const MAX_EXAMPLES: usize = 3;

/// How many findings of a file are told: who has more mends these first.
pub const MAX_FINDINGS: usize = 50;

impl LeftOut {
    fn note(&mut self, sort: &str, example: impl FnOnce() -> String) {
        // Avoids a new text for each of thousands of ports.
        if !self.0.contains_key(sort) {
            self.0.insert(Arc::from(sort), (0, Vec::new()));
        }
        if let Some((count, examples)) = self.0.get_mut(sort) {
            *count += 1;
            if examples.len() < MAX_EXAMPLES {
                examples.push(example());
            }
        }
    }

    /// Adds another file's.
    pub fn add(&mut self, other: &LeftOut) {
        for (sort, (count, examples)) in &other.0 {
            let sum = self.0.entry(sort.clone()).or_default();
            sum.0 += count;
            let room = MAX_EXAMPLES.saturating_sub(sum.1.len());
            sum.1.extend(examples.iter().take(room).cloned());
        }
    }
}

/// Decodes a file. Never fails: what is wrong is in the findings.
pub fn decode(format: Format, bytes: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let documents = text_of(bytes).and_then(|text| documents(format, text));
    match documents {
        Ok(documents) => {
            for (i, document) in documents.into_iter().enumerate() {
                decoded.item(document, None, &format!("document {}", i + 1));
            }
            decoded.refuse_doubles();
        }
        Err(SyntaxError { line, message, remedy }) => {
            decoded.findings.push(Finding { line, object: String::new(), field: String::new(), message, remedy });
        }
    }
    // Parsers take the end of a file for a line of its own, where nobody could look for anything.
    let last = lines(bytes);
    decoded.findings.iter_mut().chain(&mut decoded.warnings).for_each(|finding| finding.line = finding.line.min(last));
    if decoded.findings.len() > MAX_FINDINGS {
        let more = decoded.findings.len() - MAX_FINDINGS + 1;
        decoded.findings.truncate(MAX_FINDINGS);
        if let Some(last) = decoded.findings.last_mut() {
            last.message = format!("{} (and {more} more findings in this file)", last.message);
        }
    }
    decoded
}

/// How many lines a file has, of which an empty one has one.
fn lines(bytes: &[u8]) -> u32 {
    let ends = |(at, byte): &(usize, &u8)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    let before_last = bytes.iter().enumerate().take(bytes.len().saturating_sub(1)).filter(ends).count();
    u32::try_from(before_last).unwrap_or(u32::MAX).saturating_add(1)
}

fn text_of(bytes: &[u8]) -> Result<&str, SyntaxError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(SyntaxError::new(1, "the file is UTF-16", "save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        SyntaxError::new(line, "the file is not UTF-8 from here on", "save it as UTF-8; is it a text file at all?")
    })
}

fn documents(format: Format, text: &str) -> Result<Vec<Node<'_>>, SyntaxError> {
    if format == Format::Json {
        return json::parse(text);
    }
    // A dump by `-o json` under a YAML name: JSON's own reader is right more often and faster.
    if text.trim_start().starts_with('{')
        && let Ok(documents) = json::parse(text)
    {
        return Ok(documents);
    }
    yaml::parse(text)
}

/// What a document says that it is.
struct Identity {
    api_version: String,
    kind: String,
    /// `Kind namespace/name`, as far as it is said.
    object: String,
}

impl Decoded {
    fn find(&mut self, line: u32, object: &str, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let (message, remedy) = (message.into(), remedy.into());
        self.findings.push(Finding { line, object: object.to_owned(), field: field.to_owned(), message, remedy });
    }

    /// Reads an object, or a list of them. `of_list` is the API version and kind that a typed list
    /// gives its items.
    fn item(&mut self, node: Node<'_>, of_list: Option<(&str, &str)>, place: &str) {
        if !matches!(node.value, Value::Mapping(_)) {
            let remedy = "write `apiVersion:`, `kind:` and `metadata:`";
            return self.find(node.line, place, "", "this is no Kubernetes object", remedy);
        }
        if let Some(repeated) = node.own_repeated_key() {
            return self.repeated_key(place, repeated);
        }
        let identity = match identity(&node, of_list) {
            Ok(identity) => identity,
            Err(field) => {
                let remedy = format!("write `{field}:`, such as `apiVersion: v1` and `kind: Service`");
                return self.find(node.line, place, field, format!("the object does not say its {field}"), remedy);
            }
        };
        if let Some(item_kind) = identity.kind.strip_suffix("List")
            && node.get("items").is_some()
        {
            return self.list(node, &identity.api_version, item_kind, place);
        }
        match node.repeated_key() {
            Some(repeated) => self.repeated_key(&identity.object, repeated),
            None => self.object(node, &identity),
        }
    }

    fn repeated_key(&mut self, object: &str, (field, first, second): (String, u32, u32)) {
        let message = format!("the key is there twice; first on line {first}");
        self.find(second, object, &field, message, "remove one of the two");
    }

    fn list(&mut self, node: Node<'_>, api_version: &str, item_kind: &str, place: &str) {
        let Value::Mapping(entries) = node.value else { return };
        let Some(items) = entries.into_iter().find(|entry| entry.key == "items") else { return };
        let line = items.line;
        match items.node.value {
            Value::Sequence(items) => {
                // `kind: List` of `v1` says nothing of its items; `ServiceList` does.
                let of_list = (!item_kind.is_empty()).then_some((api_version, item_kind));
                for (i, item) in items.into_iter().enumerate() {
                    self.item(item, of_list, &format!("{place}, items[{i}]"));
                }
            }
            _ if items.node.is_null() => {}
            _ => self.find(line, place, "items", "the list's items are no list", "begin each item with `- `"),
        }
    }

    fn object(&mut self, mut node: Node<'_>, identity: &Identity) {
        let converted = match (identity.api_version.as_str(), identity.kind.as_str()) {
            ("v1", "Service") => convert_as::<core_v1::Service>(&node, convert::service),
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                convert_as::<discovery_v1::EndpointSlice>(&node, convert::endpoint_slice)
            }
            ("v1", "Pod") => {
                prune(&mut node, &["nodeName"], &["podIP", "podIPs", "phase", "conditions"]);
                convert_as::<core_v1::Pod>(&node, convert::pod)
            }
            ("v1", "Node") => {
                prune(&mut node, &[], &[]);
                convert_as::<core_v1::Node>(&node, convert::node)
            }
            (kinds::API_VERSION, "ClusterInfo") => convert_as::<kinds::ClusterInfo>(&node, convert::cluster_info),
            (kinds::API_VERSION, "ClusterAccess") => convert_as::<kinds::ClusterAccess>(&node, convert::cluster_access),
            (kinds::API_VERSION, "VipPool") => convert_as::<kinds::VipPool>(&node, convert::vip_pool),
            (kinds::API_VERSION, "Policy") => convert_as::<kinds::Policy>(&node, convert::policy),
            (kinds::API_VERSION, "EndpointSnapshot") => {
                convert_as::<kinds::EndpointSnapshot>(&node, convert::endpoint_snapshot)
            }
            (version, "ServiceExport") if is_mcs(version) => {
                convert_as::<kinds::ServiceExport>(&node, convert::service_export)
            }
            _ => return self.other_kind(&node, identity),
        };
        match converted {
            Ok(converted) => self.converted(&node, identity, converted),
            Err(TypeError { line, field, message, remedy, .. }) => {
                self.find(line.max(1), &identity.object, &field, message, remedy);
            }
        }
    }

    fn converted(&mut self, node: &Node<'_>, identity: &Identity, converted: Converted) {
        let on = |line: u32, fault: Invalid| Finding {
            line,
            object: identity.object.clone(),
            field: fault.field,
            message: fault.message,
            remedy: fault.remedy,
        };
        let finding = |fault: Invalid| on(node.line_of(&fault.field), fault);
        match converted {
            Ok(conversion) => {
                for sort in conversion.left_out {
                    self.left_out.note(sort, || identity.object.clone());
                }
                self.warnings.extend(conversion.warnings.into_iter().map(finding));
                let line = node.line;
                self.objects.extend(conversion.object.map(|object| Loaded { object: Arc::new(object), line }));
            }
            Err(faults) => {
                // A line is looked for in time by the object's size, and only these are told.
                let told = MAX_FINDINGS.saturating_sub(self.findings.len());
                let mut faults = faults.into_iter();
                self.findings.extend(faults.by_ref().take(told).map(finding));
                self.findings.extend(faults.map(|fault| on(0, fault)));
            }
        }
    }

    /// A kind that is not read. Others' kinds are ordinary in a dump of a cluster; what looks like
    /// one of ours, misspelt, is a mistake that must not pass in silence.
    fn other_kind(&mut self, node: &Node<'_>, identity: &Identity) {
        const OURS: [&str; 5] = ["ClusterInfo", "ClusterAccess", "VipPool", "EndpointSnapshot", "Policy"];
        const LATER: [&str; 1] = ["VirtualIp"];
        let Identity { api_version, kind, object } = identity;
        let line = |field: &str| node.line_of(field);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if OURS.contains(&kind.as_str()) {
            let message = format!("`{kind}` is not a kind of `{api_version}`");
            let remedy = format!("write `apiVersion: {}`", kinds::API_VERSION);
            return self.find(line("apiVersion"), object, "apiVersion", message, remedy);
        }
        if group == "causeway.dev" {
            if LATER.contains(&kind.as_str()) {
                return self
                    .left_out
                    .note(&format!("objects of kind {kind}, which this version does not read"), || object.clone());
            }
            let message = format!("this version has no kind `{kind}`");
            let remedy = match closest(kind, OURS) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("remove the object; the kinds are {}", one_of(&OURS)),
            };
            return self.find(line("kind"), object, "kind", message, remedy);
        }
        if kind == "EndpointSlice" && group == "discovery.k8s.io" {
            let message = format!("`{api_version}` is not read; Kubernetes removed it in 1.25");
            return self.find(line("apiVersion"), object, "apiVersion", message, "use `discovery.k8s.io/v1`");
        }
        let core = ["Service", "Pod", "Node"].into_iter().find(|known| known.eq_ignore_ascii_case(kind));
        if let ("v1", Some(meant)) = (api_version.as_str(), core) {
            let message = format!("there is no kind `{kind}`");
            return self.find(line("kind"), object, "kind", message, format!("did you mean `{meant}`?"));
        }
        self.left_out.note(&format!("objects of kind {kind}"), || object.clone());
    }

    /// An object that a file has twice: which of the two is meant cannot be known.
    fn refuse_doubles(&mut self) {
        let mut first: HashMap<ObjectKey, u32> = HashMap::with_capacity(self.objects.len());
        let mut doubles = Vec::new();
        for loaded in &self.objects {
            let key = loaded.object.key();
            if let Some(line) = first.get(&key) {
                doubles.push((loaded.line, key.to_string(), *line));
            } else {
                first.insert(key, loaded.line);
            }
        }
        for (line, object, first) in doubles {
            let message = format!("the object is in this file twice; first on line {first}");
            self.find(line, &object, "metadata.name", message, "remove one of the two");
        }
    }
}

/// Says what a document is, or which field it would need for that.
fn identity(node: &Node<'_>, of_list: Option<(&str, &str)>) -> Result<Identity, &'static str> {
    let said = |field| node.get(field).and_then(Node::text).filter(|text| !text.is_empty());
    let kind = said("kind").or(of_list.map(|(_, kind)| kind)).ok_or("kind")?;
    let api_version = said("apiVersion").or(of_list.map(|(version, _)| version)).ok_or("apiVersion")?;
    let meta = |field| node.get("metadata").and_then(|meta| meta.get(field)).and_then(Node::text);
    let object = match (meta("namespace"), meta("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => format!("{kind} on line {}", node.line),
    };
    Ok(Identity { api_version: api_version.to_owned(), kind: kind.to_owned(), object })
}

/// Whether it is a version of the Multi-Cluster Services API that is understood.
fn is_mcs(api_version: &str) -> bool {
    api_version
        .split_once('/')
        .is_some_and(|(group, version)| group == kinds::MCS_GROUP && kinds::MCS_VERSIONS.contains(&version))
}

/// Drops what is not read of large objects, so that neither time nor doubt is spent on it.
fn prune(node: &mut Node<'_>, spec: &[&str], status: &[&str]) {
    for (part, kept) in [("spec", spec), ("status", status)] {
        if let Some(part) = node.get_mut(part) {
            part.retain(kept);
        }
    }
}

fn convert_as<'n, T: serde::de::Deserialize<'n>>(
    node: &'n Node<'n>,
    convert: impl FnOnce(&T) -> Converted,
) -> Result<Converted, TypeError> {
    Ok(convert(&from_node::<T>(node)?))
}
