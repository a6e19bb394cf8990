//! Trees into Rust types, by serde, with errors that say which field, on which line, and what to
//! do about it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Unexpected, Visitor};

use super::tree::{Entry, Node, Plain, Value, join, key_step, plain};
use crate::kube::field::{closest, one_of};

/// A value does not have the type that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}; {remedy}")]
pub(crate) struct TypeError {
    /// Where, counted from 1; 0 until a node with a position passes the error on.
    pub line: u32,
    /// The field's path.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The value is a number or truth value where a text is wanted: its words would do in quotes.
    wants_quotes: bool,
}

impl TypeError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { line: 0, field: String::new(), message, remedy, wants_quotes: false }
    }

    /// Puts the error below a step of the path.
    fn below(mut self, step: &str, line: u32) -> Self {
        self.field = join(step, &self.field);
        self.at(line)
    }

    fn at(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// Quotes the scalar's own words in the remedy, where these are known.
    fn quoting(mut self, node: &Node<'_>) -> Self {
        if let (true, Value::Plain(text)) = (self.wants_quotes, &node.value) {
            self.remedy = format!("put it into quotes: \"{text}\"");
            self.wants_quotes = false;
        }
        self.at(node.line)
    }
}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), "compare the value with the field's documentation")
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        let wanted = wanted_in_words(&wanted.to_string());
        let mut error = Self::new(format!("{} stands where {wanted} is wanted", found_in_words(found)), "");
        error.wants_quotes = wanted == "a text"
            && matches!(
                found,
                Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_)
            );
        error.remedy = match found {
            Unexpected::Unit if wanted == "a text" => "write the text; an empty one is `\"\"`".to_owned(),
            Unexpected::Str(_) if wanted.contains("number") => {
                "write the number without quotes and leading zeros".to_owned()
            }
            Unexpected::Str(_) if wanted.contains("`true`") => "write `true` or `false` without quotes".to_owned(),
            Unexpected::Unit => "write a value, or remove the field".to_owned(),
            _ if wanted.contains("list") => "begin each entry with `- `, on a line of its own".to_owned(),
            _ if wanted.contains("mapping") => "write fields as `name: value`, indented below this one".to_owned(),
            _ => format!("write {wanted}"),
        };
        error
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        let wanted = wanted_in_words(&wanted.to_string());
        Self::new(format!("{} is not {wanted}", found_in_words(found)), format!("write {wanted}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let remedy = match closest(field, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => "remove it; nothing can be set here".to_owned(),
            None => format!("remove it; the fields here are {}", one_of(known)),
        };
        Self::new(format!("there is no field `{field}`"), remedy)
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let remedy = match closest(variant, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("use {}", one_of(known)),
        };
        Self::new(format!("`{variant}` is not one of the choices"), remedy)
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = Self::new(format!("the field `{field}` is missing"), format!("add `{field}`"));
        error.field = field.to_owned();
        error
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("the field `{field}` is there twice"), "remove one of the two")
    }
}

fn found_in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("the truth value `{value}`"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text `{}`", text.chars().take(80).collect::<String>()),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

fn wanted_in_words(wanted: &str) -> String {
    match wanted {
        "a string" | "string" | "str" | "Quantity" => "a text".to_owned(),
        "a boolean" | "bool" => "`true` or `false`".to_owned(),
        "i32" | "a 32-bit integer" => "a whole number of 32 bits".to_owned(),
        "i64" | "u64" | "u32" | "u16" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "IntOrString" => "a number or a name".to_owned(),
        "Time" => "a time such as `2026-01-31T12:00:00Z`".to_owned(),
        other if other.starts_with("variant ") || other.starts_with("enum ") => "one of the choices".to_owned(),
        other if other.starts_with("struct ") || other.starts_with(|c: char| c.is_ascii_uppercase()) => {
            "a mapping".to_owned()
        }
        other => other.to_owned(),
    }
}

/// Makes a type of a tree.
///
/// # Errors
/// The first value that does not have the wanted type.
pub(crate) fn from_node<'de, T: de::Deserialize<'de>>(node: &'de Node<'de>) -> Result<T, TypeError> {
    T::deserialize(node)
}

impl<'de> Node<'de> {
    fn visit<V: Visitor<'de>>(&'de self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Text(text) => visit_text(text, visitor),
            Value::Plain(text) => match plain(text) {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Negative(value) => visitor.visit_i64(value),
                Plain::Whole(value) => visitor.visit_u64(value),
                Plain::Float(value) => visitor.visit_f64(value),
                Plain::Text => visit_text(text, visitor),
            },
            Value::Sequence(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Mapping(entries) => visitor.visit_map(Entries { entries, next: 0 }),
        }
        .map_err(|error: TypeError| error.quoting(self))
    }
}

fn visit_text<'de, V: Visitor<'de>>(text: &'de Cow<'de, str>, visitor: V) -> Result<V::Value, TypeError> {
    visitor.visit_borrowed_str(text)
}

impl<'de> Deserializer<'de> for &'de Node<'de> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self).map_err(|error: TypeError| match (name, self.text()) {
            // Kubernetes' times; the error of whoever reads them speaks of its parser.
            ("Time" | "MicroTime", Some(text)) => TypeError::new(
                format!("`{text}` is no time"),
                "write it as `2026-01-31T12:00:00Z`, or remove the field",
            )
            .at(self.line),
            _ => error.quoting(self),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let result = match &self.value {
            Value::Text(text) => visitor.visit_enum(Choice(text)),
            // A choice may be spelt as what would else be null or a truth value.
            Value::Plain(text) if matches!(plain(text), Plain::Null | Plain::Text) && !text.is_empty() => {
                visitor.visit_enum(Choice(text))
            }
            Value::Sequence(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"a string")),
            Value::Mapping(_) => Err(de::Error::invalid_type(Unexpected::Map, &"a string")),
            Value::Plain(text) => Err(de::Error::invalid_type(Unexpected::Other(&format!("`{text}`")), &"a string")),
        };
        result.map_err(|error: TypeError| error.at(self.line))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

struct Items<'de> {
    items: &'de [Node<'de>],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TypeError> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let step = self.next;
        self.next += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.quoting(item).below(&format!("[{step}]"), item.line))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'de> {
    entries: &'de [Entry<'de>],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypeError> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        let key = seed.deserialize(Key(&entry.key));
        key.map(Some).map_err(|error| error.below(&key_step(&entry.key), entry.line))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, TypeError> {
        let Some(entry) = self.entries.get(self.next) else {
            return Err(de::Error::custom("a value was asked for that is not there"));
        };
        self.next += 1;
        let value = seed.deserialize(&entry.node);
        value.map_err(|error| error.quoting(&entry.node).below(&key_step(&entry.key), entry.line))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len() - self.next)
    }
}

/// A mapping's key.
struct Key<'de>(&'de str);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_borrowed_str(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A variant without content, by its name.
struct Choice<'de>(&'de str);

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = TypeError;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), TypeError> {
        seed.deserialize(Key(self.0)).map(|value| (value, Unit))
    }
}

struct Unit;

impl<'de> de::VariantAccess<'de> for Unit {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, TypeError> {
        Err(de::Error::invalid_type(Unexpected::UnitVariant, &"a choice with content"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, TypeError> {
        Err(de::Error::invalid_type(Unexpected::UnitVariant, &"a choice with content"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, TypeError> {
        Err(de::Error::invalid_type(Unexpected::UnitVariant, &"a choice with content"))
    }
}

#[cfg(test)]
#[path = "de_tests.rs"]
mod tests;
