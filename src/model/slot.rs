//! What a VIP is for: the key that an address is held under.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{NamespacedName, NodeId};
use super::object::Family;

/// What a VIP is for. Each slot holds at most one address, and each address at most one slot.
///
/// Its text is `<access>|<service>|<pod or nothing>|<family>` and, for an address that a gateway's
/// agent assigned, `|<node id>`. In the parts before the node's id, `%`, `|` and `/` are written
/// as `%25`, `%7C` and `%2F`, so that the text leads back to the slot whatever the names are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The access.
    pub access: NamespacedName,
    /// The service.
    pub service: NamespacedName,
    /// The pod, where VIPs are per pod.
    pub pod: Option<Arc<str>>,
    /// The family of the address.
    pub family: Family,
    /// The gateway whose agent assigns the address; `None` where the control plane does.
    pub node: Option<NodeId>,
}

impl Slot {
    /// The same slot on one gateway, whose agent assigns the address.
    pub fn on(&self, node: &NodeId) -> Self {
        Self { node: Some(node.clone()), ..self.clone() }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in [&self.access, &self.service] {
            write_escaped(f, &name.namespace)?;
            f.write_char('/')?;
            write_escaped(f, &name.name)?;
            f.write_char('|')?;
        }
        write_escaped(f, self.pod.as_deref().unwrap_or_default())?;
        f.write_str(match self.family {
            Family::V4 => "|IPv4",
            Family::V6 => "|IPv6",
        })?;
        match &self.node {
            Some(node) => write!(f, "|{}", node.as_str()),
            None => Ok(()),
        }
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    for c in part.chars() {
        match c {
            '%' => f.write_str("%25")?,
            '|' => f.write_str("%7C")?,
            '/' => f.write_str("%2F")?,
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

/// The text is not a slot's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a slot: expected access|service|pod|family, and |node where an agent assigns")]
pub struct NotASlot(String);

impl FromStr for Slot {
    type Err = NotASlot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| NotASlot(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Slot> {
    // The node's id comes last and as it is, so it may contain anything.
    let mut parts = text.splitn(5, '|');
    let access = parse_name(parts.next()?)?;
    let service = parse_name(parts.next()?)?;
    let pod = unescape(parts.next()?)?;
    let family = match parts.next()? {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        _ => return None,
    };
    let node = parts.next().map(NodeId::from);
    Some(Slot { access, service, pod: (!pod.is_empty()).then(|| pod.into()), family, node })
}

fn parse_name(text: &str) -> Option<NamespacedName> {
    let (namespace, name) = text.split_once('/')?;
    Some(NamespacedName::new(unescape(namespace)?, unescape(name)?))
}

fn unescape(part: &str) -> Option<String> {
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find(['%', '/']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, code) =
            [('%', "%25"), ('|', "%7C"), ('/', "%2F")].into_iter().find(|(_, code)| rest.starts_with(code))?;
        out.push(c);
        rest = &rest[code.len()..];
    }
    out.push_str(rest);
    Some(out)
}

impl Serialize for Slot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leads_back_to_the_slot() {
        for (pod, node) in [(None, None), (Some("web-0"), None), (Some("a|b%/c"), Some("gw|1/x")), (None, Some(""))] {
            let slot = Slot {
                access: NamespacedName::new("shop", "check|out"),
                service: NamespacedName::new("shop", "100%"),
                pod: pod.map(Arc::from),
                family: Family::V6,
                node: node.map(NodeId::from),
            };
            assert_eq!(slot.to_string().parse(), Ok(slot));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "a/b|a/b||IPv5", "a|a/b||IPv4", "a/b|a/b|IPv4", "a/b|a/b|%zz|IPv4", "a/b/c|a/b||IPv4"] {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
    }
}
