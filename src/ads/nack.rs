//! Who is meant by the text of a NACK (rule 3).
//!
//! Envoy writes `Error adding/updating listener(s) a: reason`, with one line for each further
//! listener; for clusters the entries are separated by `, `. Names hold colons and slashes, and a
//! reason may mention a third resource ("has duplicate address … as existing listener 'b'"), so the
//! text is read with the names of the refused response in hand: those at the head of an entry are
//! meant; only when there are none is a name anywhere in the text taken.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest part of a client's text that is kept.
pub(super) const MAX_DETAIL_BYTES: usize = 8 * 1024;

/// Cuts a text at a character's border.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Which of the names the text blames, each with the part of the text about it. Empty when it cannot
/// be told.
pub(super) fn blamed(text: &str, names: &[Arc<str>]) -> BTreeMap<Arc<str>, String> {
    let sorted = Sorted::new(names);
    let found = |may_be: fn(&str, usize) -> bool, is: fn(&str, usize, usize) -> bool| {
        let mut first: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for (at, _) in text.char_indices().filter(|(at, _)| may_be(text, *at)) {
            for name in sorted.at_start_of(&text[at..]).filter(|name| is(text, at, name.len())) {
                first.entry(name).or_insert(at);
            }
        }
        first
    };
    let mut heads: Vec<(usize, &Arc<str>)> =
        found(may_begin, is_head).into_iter().map(|(name, at)| (at, name)).collect();
    if heads.is_empty() {
        let mentioned = found(may_stand_alone, stands_alone).into_keys();
        return mentioned.map(|name| (name.clone(), text.trim().to_owned())).collect();
    }
    heads.sort_unstable();
    let ends: Vec<usize> = heads.iter().skip(1).map(|(at, _)| *at).chain([text.len()]).collect();
    let entry = |(at, name): &(usize, &Arc<str>), end: usize| {
        let reason = text.get(at + name.len() + 2..end).unwrap_or_default();
        ((*name).clone(), reason.trim_matches([' ', ',', '\n']).to_owned())
    };
    heads.iter().zip(ends).map(|(head, end)| entry(head, end)).collect()
}

/// Names in their order: which of thousands stand at a place of a text is found without looking for each of them.
struct Sorted<'a>(Vec<&'a Arc<str>>);

impl<'a> Sorted<'a> {
    fn new(names: &'a [Arc<str>]) -> Self {
        let mut sorted: Vec<_> = names.iter().filter(|name| !name.is_empty()).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// Those that the text begins with, the longest first.
    fn at_start_of(&self, text: &str) -> impl Iterator<Item = &'a Arc<str>> {
        let mut left = text.as_bytes();
        std::iter::from_fn(move || {
            loop {
                let after = self.0.partition_point(|name| name.as_bytes() <= left);
                let name = *self.0.get(after.checked_sub(1)?)?;
                // What stands between a text and its beginning begins like it, so that any shorter one begins this one.
                let alike = name.bytes().zip(left).take_while(|(a, b)| a == *b).count();
                let is_it = alike == name.len();
                left = &left[..alike.min(name.len() - 1)];
                if is_it {
                    return Some(name);
                }
            }
        })
    }
}

/// `name: ` at the start of the text, of a line, after `(s) ` or after `, `.
pub(super) fn is_head(text: &str, at: usize, len: usize) -> bool {
    let begins = may_begin(text, at);
    begins && text[at + len..].starts_with(": ")
}

/// An entry may begin there.
fn may_begin(text: &str, at: usize) -> bool {
    let before = &text[..at];
    before.is_empty() || [") ", ", ", "\n"].iter().any(|end| before.ends_with(end))
}

/// The name is not part of a longer one.
pub(super) fn stands_alone(text: &str, at: usize, len: usize) -> bool {
    let mut after = text[at + len..].chars();
    // A full stop or colon may end a sentence; followed by more of a name it is part of one.
    let next = match after.next() {
        Some('.' | ':') => after.next(),
        other => other,
    };
    may_stand_alone(text, at) && !next.is_some_and(part_of_name)
}

/// A name that is not part of a longer one may begin there.
fn may_stand_alone(text: &str, at: usize) -> bool {
    !text[..at].chars().next_back().is_some_and(part_of_name)
}

fn part_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, names: &[&str], expected: &[(&str, &str)]) {
        let names: Vec<Arc<str>> = names.iter().map(|n| Arc::from(*n)).collect();
        let expected: BTreeMap<Arc<str>, String> =
            expected.iter().map(|(name, reason)| (Arc::from(*name), (*reason).to_owned())).collect();
        assert_eq!(blamed(text, &names), expected, "{text}");
    }

    #[test]
    fn envoys_texts_are_taken_apart() {
        check(
            "Error adding/updating listener(s) vip/240.11.0.1:80: cannot bind '240.11.0.1:80': Cannot assign requested \
             address\nvip/[fd00::1]:80: cannot bind '[fd00::1]:80': Cannot assign requested address",
            &["vip/240.11.0.1:80", "vip/[fd00::1]:80", "vip/240.11.0.1:8"],
            &[
                ("vip/240.11.0.1:80", "cannot bind '240.11.0.1:80': Cannot assign requested address"),
                ("vip/[fd00::1]:80", "cannot bind '[fd00::1]:80': Cannot assign requested address"),
            ],
        );
        check(
            "Error adding/updating cluster(s) a/b:80: bad, c: worse",
            &["a/b:80", "c", "d"],
            &[("a/b:80", "bad"), ("c", "worse")],
        );
    }

    #[test]
    fn a_third_resource_that_a_reason_mentions_is_not_blamed() {
        let text = "Error adding/updating listener(s) y: error adding listener: 'y' has duplicate address '1.2.3.4:80' as \
                    existing listener 'x'";
        check(
            text,
            &["x", "y"],
            &[("y", "error adding listener: 'y' has duplicate address '1.2.3.4:80' as existing listener 'x'")],
        );
    }

    #[test]
    fn a_name_within_a_longer_one_is_not_blamed() {
        check(
            "Proto constraint validation failed: cluster_name: \"shop/a\"",
            &["shop/a", "shop"],
            &[("shop/a", "Proto constraint validation failed: cluster_name: \"shop/a\"")],
        );
        check("the whole response is bad", &["a", "b"], &[]);
        check("Unknown a-b. Unknown c.", &["a", "b", "c"], &[("c", "Unknown a-b. Unknown c.")]);
    }
}
