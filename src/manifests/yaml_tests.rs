use proptest::prelude::*;

use super::*;

fn text<'n>(node: &'n Node<'_>, path: &str) -> Option<&'n str> {
    path.split('.').try_fold(node, |node, key| node.get(key)).and_then(Node::text)
}

#[test]
fn documents_are_read_with_their_lines() {
    let documents =
        parse("# remark\n---\na: 1\nb:\n  c: x\n---\n---\n- y\n- z: |\n    more\n    lines\n...\n").unwrap();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].line, 3);
    assert_eq!(documents[0].line_of("b.c"), 5);
    assert_eq!(documents[0].line_of("b.missing"), 4);
    assert_eq!(documents[1].line_of("[1].z"), 9);
    assert_eq!(text(&documents[0], "b.c"), Some("x"));
    assert_eq!(parse("").unwrap(), []);
    assert_eq!(parse("# only a remark\n").unwrap(), []);
    assert_eq!(parse("---\n---\n").unwrap(), []);
}

#[test]
fn windows_line_ends_count_once() {
    let documents = parse("a: 1\r\nb: x\r\n").unwrap();
    assert_eq!(documents[0].line_of("b"), 2);
    assert_eq!(text(&documents[0], "b"), Some("x"));
}

#[test]
fn quotes_make_texts() {
    let documents = parse("a: '1'\nb: \"true\"\nc: !!str 1\nd: 1\ne: !!int \"1\"\n").unwrap();
    let is_text: Vec<bool> = ["a", "b", "c", "d", "e"].iter().map(|key| text(&documents[0], key).is_some()).collect();
    assert_eq!(is_text, [true, true, true, false, false]);
}

#[test]
fn anchors_and_merges_are_written_out() {
    let documents = parse(
        "base: &base\n  a: one\n  b: two\nlist: [&x three, *x]\nown:\n  <<: *base\n  b: mine\nboth:\n  <<: [*base, {c: four}]\n",
    )
    .unwrap();
    for (path, wanted) in [("own.a", "one"), ("own.b", "mine"), ("both.b", "two"), ("both.c", "four")] {
        assert_eq!(text(&documents[0], path), Some(wanted), "{path}");
    }
    assert_eq!(documents[0].get("list").map(Node::size), Some(3));
    // An anchor ends with its document, and does not reach into itself.
    assert!(parse("a: &x 1\n---\nb: *x\n").is_err());
    assert!(parse("a: &x [*x]\n").is_err());
}

#[test]
fn many_keys_are_merged_into_many_others() {
    let keys = |of: &str, indent: &str| (0..30_000).map(|n| format!("{indent}{of}{n}: 1\n")).collect::<String>();
    let text = format!("base: &base\n{}own:\n  <<: *base\n{}", keys("a", "  "), keys("b", "  "));
    let documents = parse(&text).unwrap();
    assert_eq!(documents[0].get("own").map(Node::size), Some(60_001));
}

#[test]
fn managed_fields_are_dropped_whatever_they_hold() {
    for inner in ["[]", "x", "{a: [b, {c: d}], e: {}}", "[[], {}]", "&x 1", "null"] {
        let yaml = format!("a: before\nmanagedFields: {inner}\nz: after\n");
        let documents = parse(&yaml).unwrap();
        assert_eq!(text(&documents[0], "a"), Some("before"), "{inner}");
        assert_eq!(text(&documents[0], "z"), Some("after"), "{inner}");
        assert!(documents[0].get("managedFields").is_none(), "{inner}");
    }
    assert!(parse("managedFields: [").is_err());
}

#[test]
fn a_few_lines_never_become_gigabytes() {
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..30).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "))))
        .collect();
    assert!(parse(&bomb).unwrap_err().message.contains("repeat more than"));
    let nested = (0..90).map(|i| format!("&a{i} [")).collect::<String>() + &"x, ".repeat(20_000) + &"]".repeat(90);
    assert!(parse(&nested).unwrap_err().message.contains("repeat more than"));
    assert!(parse(&"[".repeat(200_000)).is_err());
    assert!(parse(&"- ".repeat(50_000)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is read, there is an answer, and errors lie within the text.
    #[test]
    fn nothing_panics(text in "([ \\n\\t:\\-#&*!|>'\"%@`{}\\[\\],?~a-c0-9é\u{feff}]|<<|---|\\.\\.\\.|\\\\x4|%YAML 1.2|%TAG ! b){0,60}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.line >= 1 && error.line as usize <= text.lines().count().max(1));
            prop_assert!(!error.message.is_empty() && !error.remedy.is_empty());
        }
    }

    /// A tree that is written as JSON is read as it was, by both readers.
    #[test]
    fn json_is_yaml(value in json_value()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let yaml = parse(&text).unwrap();
        let json = crate::manifests::json::parse(&text).unwrap();
        prop_assert_eq!(&yaml, &json);
        if let Some(node) = json.first() {
            let read: serde_json::Value = crate::manifests::de::from_node(node).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        "[ -~é\\n]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-z.]{1,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
