use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::manifests::yaml;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Thing {
    name: String,
    count: Option<u16>,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    colours: Vec<Colour>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    inner: Option<Box<Thing>>,
    anything: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Colour {
    Red,
    None,
    True,
}

fn read(text: &str) -> Result<Thing, TypeError> {
    let documents = yaml::parse(text).unwrap();
    from_node(&documents[0])
}

#[test]
fn types_are_read() {
    let thing = read(
        "name: a\ncount: 3\non: true\ncolours: [Red, None, 'True']\nlabels: {a: b}\ninner: {name: c}\nanything: {x: [1, -2, 1.5, null, yes]}\n",
    )
    .unwrap();
    assert_eq!(thing.count, Some(3));
    assert_eq!(thing.colours, [Colour::Red, Colour::None, Colour::True]);
    assert_eq!(thing.anything, Some(serde_json::json!({"x": [1, -2, 1.5, null, "yes"]})));
    assert_eq!(thing.inner.unwrap().name, "c");
    assert_eq!(read("name: a\ncount: null\ninner: ~\nanything:\n").unwrap().inner, None);
}

#[test]
fn errors_say_where_and_what_to_do() {
    for (text, line, field, message, remedy) in [
        ("on: true\n", 1, "name", "`name` is missing", "add `name`"),
        ("name: a\ninner:\n  count: 1\n", 3, "inner.name", "missing", "add"),
        ("name:\n  1\n", 2, "name", "the number 1 stands where a text", "quotes: \"1\""),
        ("name: 1.10\n", 1, "name", "a text is wanted", "\"1.10\""),
        ("name: true\n", 1, "name", "the truth value `true`", "\"true\""),
        ("name:\n", 1, "name", "nothing stands", "`\"\"`"),
        ("name: a\nlabels:\n  a: b\n  c.d: 1\n", 4, "labels[c.d]", "a text is wanted", "quotes"),
        ("name: a\ncount: x\n", 2, "count", "the text `x`", "without quotes"),
        ("name: a\ncount: 70000\n", 2, "count", "70000", "whole number"),
        ("name: a\ncount: -1\n", 2, "count", "-1", "whole number"),
        ("name: a\ncount: 1.5\n", 2, "count", "1.5", "whole number"),
        ("name: a\non: yes\n", 2, "on", "the text `yes`", "`true` or `false`"),
        ("name: a\ncolours:\n- Red\n- Reed\n", 4, "colours[1]", "`Reed`", "did you mean `Red`?"),
        ("name: a\ncolours: Red\n", 2, "colours", "where a list", "begin each entry"),
        ("name: a\ncolours: [{Red: 1}]\n", 2, "colours[0]", "a mapping", ""),
        ("name: a\nlabels: [a]\n", 2, "labels", "a list stands where a mapping", "name: value"),
        ("name: a\ncoont: 1\n", 2, "coont", "no field `coont`", "did you mean `count`?"),
        ("name: a\nwhatever: 1\n", 2, "whatever", "no field", "the fields here are"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.line, line, "{text}{error:?}");
        assert_eq!(error.field, field, "{text}");
        assert!(error.message.contains(message), "{text}{error:?}");
        assert!(error.remedy.contains(remedy), "{text}{error:?}");
    }
}
