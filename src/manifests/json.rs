//! JSON (RFC 8259) into the same trees as YAML. YAML's parser would read most JSON, but not all:
//! escapes of surrogate pairs, for one.

use std::borrow::Cow;

use super::tree::{DROPPED_KEY, Entry, MAX_DEPTH, Node, SyntaxError, Value};

/// Reads JSON documents, one after the other.
///
/// # Errors
/// The first place at which the text is not JSON.
pub(crate) fn parse(text: &str) -> Result<Vec<Node<'_>>, SyntaxError> {
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut documents = Vec::new();
    loop {
        reader.space();
        if reader.at == text.len() {
            return Ok(documents);
        }
        let document = reader.value(0)?;
        if !document.is_null() {
            documents.push(document);
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.line = self.line.saturating_add(u32::from(byte == b'\n'));
            self.at += 1;
        }
    }

    fn error<T>(&self, message: &str, remedy: &str) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(self.line, format!("this is no JSON: {message}"), remedy))
    }

    fn unexpected<T>(&self, wanted: &str, remedy: &str) -> Result<T, SyntaxError> {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => self
                .error(&format!("it ends where {wanted} should stand"), "is the file whole? Close every `{` and `[`"),
            Some(found) => {
                self.error(&format!("found `{}` where {wanted} should stand", found.escape_default()), remedy)
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        if depth >= MAX_DEPTH {
            let remedy = "no Kubernetes object is; look for brackets never closed";
            return self.error(&format!("nested deeper than {MAX_DEPTH} levels"), remedy);
        }
        let line = self.line;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9' | b'a'..=b'z') => self.word()?,
            _ => {
                return self
                    .unexpected("a value", "write a text in double quotes, a number, `true`, `false` or `null`");
            }
        };
        Ok(Node { line, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let mut entries = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Mapping(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.unexpected("a key", "write keys in double quotes, and no comma after the last entry");
            }
            let line = self.line;
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return self.unexpected("`:`", "put `:` between a key and its value");
            }
            self.at += 1;
            self.space();
            let node = self.value(depth + 1)?;
            if key != DROPPED_KEY {
                entries.push(Entry { key, line, node });
            }
            if self.after_entry(b'}')? {
                return Ok(Value::Mapping(entries));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Sequence(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            if self.after_entry(b']')? {
                return Ok(Value::Sequence(items));
            }
        }
    }

    /// Reads what follows an entry; true at the collection's end.
    fn after_entry(&mut self, end: u8) -> Result<bool, SyntaxError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(true)
            }
            _ => {
                let wanted = format!("`,` or `{}`", char::from(end));
                self.unexpected(&wanted, "put `,` between entries and close what was opened")
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value<'a>, SyntaxError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
        let word = &rest[..end.unwrap_or(rest.len())];
        let known = matches!(word, "true" | "false" | "null");
        if !known && serde_json::from_str::<serde_json::Number>(word).is_err() {
            let remedy = "write a text in double quotes, a number, `true`, `false` or `null`";
            return self.error(&format!("`{word}` is no value"), remedy);
        }
        self.at += word.len();
        Ok(Value::Plain(Cow::Borrowed(word)))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                None => return self.error("a text is not closed", "close the double quotes"),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(0..=0x1f) => {
                    return self
                        .error("a text holds a line break or control character", "write it as an escape (`\\n`)");
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        if !escaped {
            return Ok(Cow::Borrowed(&self.text[start + 1..self.at - 1]));
        }
        // The bounds are ASCII quotes, so they are bounds of characters too.
        match serde_json::from_str::<String>(&self.text[start..self.at]) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => self.error("a text holds an escape that is none", "write `\\` as `\\\\`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_their_lines() {
        let text = "{\n  \"a\": [1, \"x\\n\\ud83d\\ude00\", null],\n  \"b\": {}}\n{\"c\": -1.5e3}";
        let documents = parse(text).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].line_of("b"), 3);
        assert_eq!(documents[0].get("a").unwrap().line, 2);
        let Value::Sequence(items) = &documents[0].get("a").unwrap().value else { panic!("no sequence") };
        assert_eq!(items[1].text(), Some("x\n😀"));
        assert!(items[2].is_null());
        assert_eq!(documents[1].line, 4);
    }

    #[test]
    fn what_is_not_json_is_refused_at_its_line() {
        for (text, line) in [
            ("{", 1),
            ("{\n\"a\"", 2),
            ("{\"a\": 1,}", 1),
            ("{\"a\":\n tru}", 2),
            ("[1\n2]", 2),
            ("[01]", 1),
            ("[\"a\nb\"]", 1),
            ("[\"\\q\"]", 1),
            ("[\"\\", 1),
            ("[\"\\é\"]", 1),
            ("é", 1),
            ("[-]", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error:?}");
            assert!(!error.remedy.is_empty());
        }
        assert!(parse(&"[".repeat(1_000_000)).is_err());
    }
}
