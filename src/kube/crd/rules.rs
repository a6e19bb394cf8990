//! Rules that several kinds have in common.

use serde_json::{Value, json};

use super::draft::Draft;

/// Keywords of a text of at most so many characters. Without a limit the API server counts a rule over the text as if it
/// were as long as a request may be, and refuses the definition.
pub(super) fn at_most(characters: u32) -> Value {
    json!({ "maxLength": characters })
}

/// A DNS label (RFC 1123), in CEL.
pub(super) const LABEL: &str = "self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')";

/// A DNS subdomain as Kubernetes has them, in CEL.
const SUBDOMAIN: &str = r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

/// An address that can be a VIP or a backend, in CEL, of a variable.
pub(super) fn usable(variable: &str) -> String {
    format!(
        "!['0.0.0.0/8', '224.0.0.0/4', '255.255.255.255/32', '::/128', 'fe80::/10', 'ff00::/8'].exists(block, \
         cidr(block).containsIP(ip({variable})))"
    )
}

impl Draft {
    /// A field that is a DNS label.
    pub(super) fn label(self, place: &str, remedy: &str) -> Self {
        let message =
            format!("must be at most 63 of a-z, 0-9 and `-`, and start and end with a letter or digit; {remedy}");
        self.set(place, at_most(63)).rule(place, LABEL, &message)
    }

    /// A field that is a DNS subdomain.
    pub(super) fn subdomain(self, place: &str, remedy: &str) -> Self {
        let message = format!("must be at most 253 of a-z, 0-9, `-` and `.`; {remedy}");
        self.set(place, at_most(253)).rule(place, SUBDOMAIN, &message)
    }

    /// The object's own name is a DNS label.
    pub(super) fn named_by_label(self, why: &str) -> Self {
        let message = format!("metadata.name must have at most 63 characters and no dots; {why}");
        self.rule("", "!self.metadata.name.contains('.') && self.metadata.name.size() <= 63", &message)
    }

    /// Exactly one of the fields of an object is there.
    pub(super) fn exactly_one(self, place: &str, fields: &[&str]) -> Self {
        let there: Vec<String> = fields.iter().map(|field| format!("has(self.{field})")).collect();
        let rule = format!("[{}].exists_one(there, there)", there.join(", "));
        let words = crate::kube::field::one_of(fields);
        self.rule(place, &rule, &format!("write exactly one of {words}"))
    }

    /// A label selector.
    pub(super) fn selector(self, place: &str) -> Self {
        let (labels, expressions) = (format!("{place}.matchLabels"), format!("{place}.matchExpressions"));
        let key = r"matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$')";
        let value = "matches('^([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$')";
        let key_remedy = "a key must be one that a label can have, such as `app.kubernetes.io/name`";
        self.set(&labels, json!({ "maxProperties": 32 }))
            .set(&format!("{labels}{{}}"), at_most(63))
            .rule(&labels, &format!("self.all(key, key.size() <= 317 && key.{key})"), key_remedy)
            .rule(
                &labels,
                &format!("self.all(key, self[key].{value})"),
                "a value must be one that a label can have; no label has this one, so nothing would be chosen",
            )
            .set(&expressions, json!({ "maxItems": 32, "x-kubernetes-list-type": "atomic" }))
            .set(&format!("{expressions}[].key"), at_most(317))
            .rule(&format!("{expressions}[].key"), &format!("self.{key}"), key_remedy)
            .set(&format!("{expressions}[].values"), json!({ "maxItems": 64, "x-kubernetes-list-type": "atomic" }))
            .set(&format!("{expressions}[].values[]"), at_most(63))
            .rule(
                &format!("{expressions}[]"),
                "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
                "`In` and `NotIn` need at least one of values, `Exists` and `DoesNotExist` take none",
            )
    }

    /// A key of a ConfigMap or Secret.
    pub(super) fn key_ref(self, place: &str) -> Self {
        self.label(&format!("{place}.namespace"), "write the namespace's name")
            .subdomain(&format!("{place}.name"), "write the object's name")
            .set(&format!("{place}.key"), at_most(253))
            .rule(
                &format!("{place}.key"),
                "self.matches('^[-._a-zA-Z0-9]+$')",
                "must be a key of letters, digits, `-`, `_` and `.`; write the key within the object's data",
            )
    }
}
