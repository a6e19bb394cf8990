//! Which nodes are meant: `envoy.type.matcher.v3.NodeMatcher`.

use regex::{Regex, RegexBuilder};
use xds_api::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};

/// Bytes that a compiled expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Why matchers are refused.
#[derive(Debug, thiserror::Error)]
#[error("node_matchers[{index}].{field}: {why}")]
pub(super) struct MatcherError {
    index: usize,
    field: &'static str,
    why: String,
}

/// Matchers of which one is enough.
pub(super) struct Matchers(Vec<Text>);

/// A matcher of a text.
struct Text {
    pattern: Pattern,
    case: Case,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Matters,
    /// Of ASCII's letters.
    Ignored,
}

enum Pattern {
    Anything,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl Matchers {
    /// # Errors
    /// When a field is not understood: nobody is told of nodes that were not meant.
    pub(super) fn read(matchers: &[NodeMatcher]) -> Result<Self, MatcherError> {
        matchers
            .iter()
            .enumerate()
            .map(|(index, matcher)| Text::read(index, matcher))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Without matchers all are.
    pub(super) fn is_meant(&self, node: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|matcher| matcher.is_meant(node))
    }
}

impl Text {
    fn read(index: usize, matcher: &NodeMatcher) -> Result<Self, MatcherError> {
        let refuse = |field, why: &str| MatcherError { index, field, why: why.to_owned() };
        if !matcher.node_metadatas.is_empty() {
            return Err(refuse("node_metadatas", "nodes are chosen by node_id only"));
        }
        let Some(StringMatcher { ignore_case, match_pattern }) = matcher.node_id.clone() else {
            return Ok(Self { pattern: Pattern::Anything, case: Case::Matters });
        };
        let case = if ignore_case { Case::Ignored } else { Case::Matters };
        let text = |text: String| if ignore_case { text.to_ascii_lowercase() } else { text };
        let pattern = match match_pattern {
            None => {
                return Err(refuse("node_id", "has no pattern: give exact, prefix, suffix, contains or safe_regex"));
            }
            Some(MatchPattern::Exact(it)) => Pattern::Exact(text(it)),
            Some(MatchPattern::Prefix(it)) => Pattern::Prefix(text(it)),
            Some(MatchPattern::Suffix(it)) => Pattern::Suffix(text(it)),
            Some(MatchPattern::Contains(it)) => Pattern::Contains(text(it)),
            // As with Envoy the whole text has to match, and `ignore_case` says nothing.
            Some(MatchPattern::SafeRegex(it)) => {
                let compiled = |text: &str| RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
                // Alone first, so that its parentheses are known to be pairs.
                let regex = compiled(&it.regex).and_then(|_| compiled(&format!(r"\A(?:{})\z", it.regex)));
                Pattern::Regex(regex.map_err(|error| refuse("node_id.safe_regex", &error.to_string()))?)
            }
            Some(MatchPattern::Custom(_)) => {
                return Err(refuse(
                    "node_id.custom",
                    "is not understood: give exact, prefix, suffix, contains or safe_regex",
                ));
            }
        };
        Ok(Self { pattern, case })
    }

    fn is_meant(&self, node: &str) -> bool {
        let folded;
        let text = match self.case {
            Case::Matters => node,
            Case::Ignored => {
                folded = node.to_ascii_lowercase();
                &folded
            }
        };
        match &self.pattern {
            Pattern::Anything => true,
            Pattern::Exact(it) => text == it,
            Pattern::Prefix(it) => text.starts_with(it),
            Pattern::Suffix(it) => text.ends_with(it),
            Pattern::Contains(it) => text.contains(it),
            Pattern::Regex(it) => it.is_match(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use xds_api::pb::envoy::r#type::matcher::v3::{RegexMatcher, StructMatcher};
    use xds_api::pb::xds::core::v3::TypedExtensionConfig;

    use super::*;

    fn by_id(pattern: Option<MatchPattern>, ignore_case: bool) -> NodeMatcher {
        NodeMatcher { node_id: Some(StringMatcher { ignore_case, match_pattern: pattern }), node_metadatas: Vec::new() }
    }

    fn regex(text: &str) -> MatchPattern {
        MatchPattern::SafeRegex(RegexMatcher { regex: text.to_owned(), ..RegexMatcher::default() })
    }

    #[test]
    fn nodes_are_chosen_by_their_ids() {
        let of = |text: &str| text.to_owned();
        let cases = [
            (MatchPattern::Exact(of("gw-1")), false, [true, false, false]),
            (MatchPattern::Exact(of("GW-1")), true, [true, false, false]),
            (MatchPattern::Prefix(of("gw")), false, [true, true, false]),
            (MatchPattern::Suffix(of("-1")), false, [true, false, true]),
            (MatchPattern::Contains(of("W-")), true, [true, true, false]),
            (MatchPattern::Contains(of("W-")), false, [false, false, false]),
            (regex("gw|side-[0-9]"), false, [false, false, true]),
            (regex("gw.*"), false, [true, true, false]),
            (regex("w-1"), false, [false, false, false]),
        ];
        for (pattern, ignore_case, expected) in cases {
            let shown = format!("{pattern:?}");
            let matchers = Matchers::read(&[by_id(Some(pattern), ignore_case)]).expect("it is understood");
            assert_eq!(["gw-1", "gw-2", "side-1"].map(|id| matchers.is_meant(id)), expected, "{shown}");
        }
        let any = Matchers::read(&[by_id(Some(MatchPattern::Exact(of("a"))), false), NodeMatcher::default()]);
        assert!(any.expect("it is understood").is_meant("b"), "one of them is enough");
        assert!(Matchers::read(&[]).expect("none").is_meant("b"));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_field() {
        let metadata = NodeMatcher { node_id: None, node_metadatas: vec![StructMatcher::default()] };
        let cases = [
            (metadata, "node_matchers[1].node_metadatas"),
            (by_id(None, false), "node_matchers[1].node_id:"),
            (by_id(Some(regex("a)|(?:b")), false), "node_matchers[1].node_id.safe_regex"),
            (by_id(Some(regex("(")), false), "node_matchers[1].node_id.safe_regex"),
            (by_id(Some(regex(r"\w{1000}{1000}")), false), "node_matchers[1].node_id.safe_regex"),
            (
                by_id(Some(MatchPattern::Custom(TypedExtensionConfig::default())), false),
                "node_matchers[1].node_id.custom",
            ),
        ];
        for (matcher, field) in cases {
            let refused = Matchers::read(&[NodeMatcher::default(), matcher]).err().expect("refused");
            assert!(refused.to_string().starts_with(field), "{refused}");
        }
    }
}
