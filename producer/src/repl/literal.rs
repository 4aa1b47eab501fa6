//! Values as a call writes them: JSON, and what people write out of habit from Python and JavaScript
//! (single quotes, `True`, `None`, keys without quotes, a comma before the end).

use serde_json::{Map, Number, Value};
use std::fmt;

/// How deep lists and objects may lie in each other.
const DEPTH_MAX: u32 = 64;

/// Why a text is no call, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    pub(super) what: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 1 {
            write!(f, "line {} of the call, ", self.line)?;
        }
        write!(f, "column {}: {}", self.column, self.what)
    }
}

/// Reads a text from its beginning on.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// In bytes, always between two characters.
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn space(&mut self) {
        self.word(char::is_whitespace);
    }

    /// Takes `wanted` if it comes next, after space.
    pub(super) fn takes(&mut self, wanted: char) -> bool {
        self.space();
        let comes = self.peek() == Some(wanted);
        if comes {
            self.bump();
        }
        comes
    }

    /// The characters that come next and fit.
    pub(super) fn word(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|letter| !fits(letter)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// An error at the place that is read next.
    pub(super) fn error(&self, what: impl Into<String>) -> SyntaxError {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        SyntaxError { line, column, what: what.into() }
    }

    /// What comes next, in the words of an error.
    pub(super) fn found(&self) -> String {
        self.peek().map_or_else(|| "the end".to_owned(), |next| format!("`{next}`"))
    }

    /// A value, after space.
    pub(super) fn value(&mut self) -> Result<Value, SyntaxError> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: u32) -> Result<Value, SyntaxError> {
        self.space();
        if depth > DEPTH_MAX {
            return Err(self.error(format!("lists and objects lie more than {DEPTH_MAX} deep")));
        }
        match self.peek() {
            Some('"' | '\'') => self.string().map(Value::String),
            Some('[') => self.list(depth),
            Some('{') => self.object(depth).map(Value::Object),
            Some(letter) if letter.is_ascii_digit() || letter == '-' => self.number(),
            Some(letter) if is_name(letter) => self.constant(),
            _ => Err(self.error(format!("a value is missing before {}", self.found()))),
        }
    }

    fn list(&mut self, depth: u32) -> Result<Value, SyntaxError> {
        self.bump();
        let mut values = Vec::new();
        while !self.takes(']') {
            values.push(self.value_at(depth + 1)?);
            if !self.takes(',') {
                self.closed_by(']')?;
                break;
            }
        }
        Ok(Value::Array(values))
    }

    /// An object, after space.
    pub(super) fn object(&mut self, depth: u32) -> Result<Map<String, Value>, SyntaxError> {
        if !self.takes('{') {
            return Err(self.error(format!("`{{` is missing before {}", self.found())));
        }
        let mut object = Map::new();
        while !self.takes('}') {
            let before = self.clone();
            let key = self.key()?;
            if !self.takes(':') {
                return Err(
                    self.error(format!("`:` is missing after the key {key}, before {}", self.found()))
                );
            }
            let value = self.value_at(depth + 1)?;
            if object.contains_key(&key) {
                return Err(before.error(format!("the key {key} is there twice")));
            }
            object.insert(key, value);
            if !self.takes(',') {
                self.closed_by('}')?;
                break;
            }
        }
        Ok(object)
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        self.space();
        match self.peek() {
            Some('"' | '\'') => self.string(),
            Some(letter) if is_name(letter) => Ok(self.word(is_name).to_owned()),
            _ => Err(self.error(format!("a key is missing before {}", self.found()))),
        }
    }

    /// Takes the bracket that ends a list.
    pub(super) fn closed_by(&mut self, bracket: char) -> Result<(), SyntaxError> {
        if self.takes(bracket) {
            return Ok(());
        }
        Err(self.error(format!("`,` or `{bracket}` is missing before {}", self.found())))
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let before = self.clone();
        let text = self.word(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
        serde_json::from_str::<Number>(text)
            .map(Value::Number)
            .map_err(|_| before.error(format!("{text} is no number of JSON; a text stands in quotes")))
    }

    fn constant(&mut self) -> Result<Value, SyntaxError> {
        let before = self.clone();
        match self.word(is_name) {
            "true" | "True" => Ok(Value::Bool(true)),
            "false" | "False" => Ok(Value::Bool(false)),
            "null" | "None" => Ok(Value::Null),
            word => Err(before.error(format!("{word} is no value; a text stands in quotes"))),
        }
    }

    /// A string in quotes of either kind. It may go over several lines.
    pub(super) fn string(&mut self) -> Result<String, SyntaxError> {
        let begin = self.clone();
        let quote = self.bump();
        let mut text = String::new();
        loop {
            let before = self.clone();
            match self.bump() {
                None => return Err(begin.error("the quote that begins here is not closed")),
                letter if letter == quote => return Ok(text),
                Some('\\') => text.push(self.escaped(&before)?),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn escaped(&mut self, begin: &Self) -> Result<char, SyntaxError> {
        Ok(match self.bump() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('0') => '\0',
            Some(letter @ ('"' | '\'' | '\\' | '/')) => letter,
            Some('x') => char::from_u32(self.hex(2, begin)?).unwrap_or(char::REPLACEMENT_CHARACTER),
            Some('u') => self.unicode(begin)?,
            _ => {
                return Err(begin.error(
                    "a backslash before n t r b f 0 x u, a quote, / or a backslash; \\\\ is one itself",
                ));
            }
        })
    }

    /// What follows `\u`: a character, or the two halves of one.
    fn unicode(&mut self, begin: &Self) -> Result<char, SyntaxError> {
        let first = self.hex(4, begin)?;
        let code = if (0xd800..0xdc00).contains(&first) {
            let follows = self.bump() == Some('\\') && self.bump() == Some('u');
            let second = if follows { self.hex(4, begin)? } else { 0 };
            if !(0xdc00..0xe000).contains(&second) {
                return Err(begin.error("half a character: \\ud83d wants \\ude00 or the like after it"));
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| begin.error(format!("\\u{first:04x} is no character")))
    }

    fn hex(&mut self, digits: u32, begin: &Self) -> Result<u32, SyntaxError> {
        (0..digits).try_fold(0, |sum, _| {
            let digit = self.bump().and_then(|letter| letter.to_digit(16));
            Ok(sum * 16
                + digit.ok_or_else(|| begin.error(format!("{digits} hexadecimal digits are missing")))?)
        })
    }
}

/// Whether a name without quotes may have it.
pub(super) fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Result<Value, String> {
        Scanner::new(text).value().map_err(|error| error.to_string())
    }

    #[test]
    fn json_python_and_javascript_are_read_alike() {
        let expected = json!({"a": [1, -2.5, true, false, null], "b": {"c": "it's \"x\""}});
        for text in [
            r#"{"a": [1, -2.5, true, false, null], "b": {"c": "it's \"x\""}}"#,
            r#"{'a': [1, -2.5, True, False, None,], 'b': {'c': 'it\'s "x"',},}"#,
            r#"{a:[1,-2.5,true,False,null],b:{c:"it's \"x\""}}"#,
        ] {
            assert_eq!(value(text), Ok(expected.clone()), "{text}");
        }
    }

    #[test]
    fn escapes_mean_what_they_do_elsewhere() {
        assert_eq!(value(r#""a\n\t\\\/\x41\u00e9\ud83d\ude00""#), Ok(json!("a\n\t\\/Aé😀")));
        assert_eq!(value("'two\nlines'"), Ok(json!("two\nlines")));
    }

    #[test]
    fn an_error_says_where_and_what() {
        for (text, expected) in [
            ("[1, 2", "column 6: `,` or `]` is missing before the end"),
            ("[1,\n 2; 3]", "line 2 of the call, column 3: `,` or `]` is missing before `;`"),
            ("{\"a\" 1}", "column 6: `:` is missing after the key a, before `1`"),
            ("{a: 1, a: 2}", "column 8: the key a is there twice"),
            ("hello", "column 1: hello is no value; a text stands in quotes"),
            ("12ab", "column 1: 12ab is no number"),
            ("\"ab", "column 1: the quote that begins here is not closed"),
            (r#""é\q""#, "column 3: a backslash before n t r"),
            (r#""\ud83dx""#, "column 2: half a character"),
            ("", "column 1: a value is missing before the end"),
        ] {
            let error = value(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(value(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_ok());
        assert!(value(&"[".repeat(100_000)).unwrap_err().contains("more than 64 deep"));
    }
}
