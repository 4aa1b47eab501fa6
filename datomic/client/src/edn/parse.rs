//! Text to values, within bounds on bytes and depth, so that no input costs more than its size.

use super::{Value, inst};

/// What a text may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes_max: usize,
    /// Nesting of collections, tags and discards.
    pub depth_max: usize,
    /// Reads `'form` as `form`, as people write queries.
    pub quotes: bool,
}

impl Limits {
    /// For replies of the gateway, whose size the client bounds.
    pub const REPLY: Self = Self { bytes_max: 96 << 20, depth_max: 64, quotes: false };
    /// For configuration files.
    pub const FILE: Self = Self { bytes_max: 1 << 20, depth_max: 16, quotes: false };
}

/// Why a text is not the EDN that is read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// Reads the one form of a configuration-sized text.
///
/// # Errors
/// Where it is not EDN, holds more than one form, or exceeds [`Limits::FILE`].
pub fn parse(text: &str) -> Result<Value, Error> {
    parse_with(text, Limits::FILE)
}

/// Reads the one form of a text.
///
/// # Errors
/// Where it is not EDN, holds more than one form, or exceeds the limits.
pub fn parse_with(text: &str, limits: Limits) -> Result<Value, Error> {
    let mut reader = Reader { text, at: 0, limits };
    if text.len() > limits.bytes_max {
        return Err(reader.error(format!("larger than {} bytes", limits.bytes_max)));
    }
    let Some(value) = reader.form(0, None)? else { return Err(reader.error("nothing to read")) };
    if reader.form(0, None)?.is_some() {
        return Err(reader.error("more than one form"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    limits: Limits,
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || c == ','
}

fn ends_token(c: char) -> bool {
    is_space(c) || matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | '"' | ';' | '@' | '^' | '`' | '~' | '\\')
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || ".*+!-_?$%&=<>/:#'|".contains(c)
}

impl Reader<'_> {
    fn error(&self, message: impl Into<String>) -> Error {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Error {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            if c == ';' {
                while self.next().is_some_and(|c| c != '\n') {}
            } else if is_space(c) {
                self.next();
            } else {
                break;
            }
        }
    }

    /// The next form; `None` at the closing bracket that is waited for, or at the end of the text.
    fn form(&mut self, depth: usize, close: Option<char>) -> Result<Option<Value>, Error> {
        loop {
            self.skip_space();
            if depth > self.limits.depth_max {
                return Err(self.error(format!("nested deeper than {}", self.limits.depth_max)));
            }
            let Some(c) = self.peek() else {
                return close
                    .map_or(Ok(None), |close| Err(self.error(format!("the text ends before {close}"))));
            };
            if Some(c) == close {
                self.next();
                return Ok(None);
            }
            if self.rest().starts_with("#_") {
                self.at += 2;
                self.required(depth + 1, "#_")?;
                continue;
            }
            if c == '\'' && self.limits.quotes {
                self.next();
                return self.required(depth + 1, "'").map(Some);
            }
            return self.value(c, depth).map(Some);
        }
    }

    fn required(&mut self, depth: usize, after: &str) -> Result<Value, Error> {
        self.form(depth, None)?.ok_or_else(|| self.error(format!("nothing after {after}")))
    }

    fn value(&mut self, c: char, depth: usize) -> Result<Value, Error> {
        match c {
            '(' => self.items(')', depth).map(Value::List),
            '[' => self.items(']', depth).map(Value::Vector),
            '{' => self.map(depth),
            '"' => self.string().map(Value::Str),
            '\\' => self.character().map(Value::Char),
            '#' => self.tagged(depth),
            ')' | ']' | '}' | '@' | '^' | '`' | '~' | '\'' => Err(self.error(format!("unexpected {c}"))),
            _ => self.token(),
        }
    }

    fn items(&mut self, close: char, depth: usize) -> Result<Vec<Value>, Error> {
        self.next();
        let mut items = Vec::new();
        while let Some(item) = self.form(depth + 1, Some(close))? {
            items.push(item);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Value, Error> {
        let items = self.items('}', depth)?;
        if items.len() % 2 != 0 {
            return Err(self.error("a map with a key but no value"));
        }
        let mut entries = Vec::with_capacity(items.len() / 2);
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push((key, value));
        }
        self.distinct(entries.iter().map(|(key, _)| key), "key")?;
        Ok(Value::Map(entries))
    }

    fn distinct<'v>(&self, values: impl Iterator<Item = &'v Value>, what: &str) -> Result<(), Error> {
        let mut seen = std::collections::HashSet::new();
        for value in values {
            let text = value.to_string();
            if seen.contains(&text) {
                return Err(self.error(format!("the {what} {text} stands twice")));
            }
            seen.insert(text);
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, Error> {
        self.next();
        let mut out = String::new();
        loop {
            match self.next() {
                None => return Err(self.error("a string without its end")),
                Some('"') => return Ok(out),
                Some('\\') => out.push(self.escape()?),
                Some(c) => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some(c @ ('"' | '\\')) => Ok(c),
            Some('u') => {
                let high = self.hex()?;
                // Clojure's strings are UTF-16: what lies beyond comes as two escapes.
                if (0xd800..0xdc00).contains(&high) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex()?;
                    let joined = char::decode_utf16([high, low]).next();
                    return joined.and_then(Result::ok).ok_or_else(|| self.error("half a UTF-16 pair"));
                }
                char::from_u32(u32::from(high)).ok_or_else(|| self.error("half a UTF-16 pair"))
            }
            _ => Err(self.error("an unknown escape in a string")),
        }
    }

    fn hex(&mut self) -> Result<u16, Error> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| self.error("\\u wants four hexadecimal digits"))?;
        self.at += 4;
        Ok(number)
    }

    fn character(&mut self) -> Result<char, Error> {
        self.next();
        let Some(first) = self.next() else { return Err(self.error("nothing after \\")) };
        let mut name = String::from(first);
        while let Some(c) = self.peek().filter(|c| !ends_token(*c)) {
            name.push(c);
            self.next();
        }
        let named = match name.as_str() {
            "newline" => '\n',
            "return" => '\r',
            "space" => ' ',
            "tab" => '\t',
            "formfeed" => '\u{c}',
            "backspace" => '\u{8}',
            _ if name.len() == first.len_utf8() && u32::from(first) <= 0xffff => first,
            _ => name
                .strip_prefix('u')
                .filter(|digits| digits.len() == 4)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .and_then(char::from_u32)
                .ok_or_else(|| self.error(format!("no such character: \\{name}")))?,
        };
        Ok(named)
    }

    fn tagged(&mut self, depth: usize) -> Result<Value, Error> {
        self.next();
        if self.peek() == Some('{') {
            let items = self.items('}', depth)?;
            self.distinct(items.iter(), "set member")?;
            return Ok(Value::Set(items));
        }
        let tag: String = self.rest().chars().take_while(|c| !ends_token(*c)).take(64).collect();
        self.at += tag.len();
        match tag.as_str() {
            "#Inf" => return Ok(Value::Float(f64::INFINITY)),
            "#-Inf" => return Ok(Value::Float(f64::NEG_INFINITY)),
            "#NaN" => return Ok(Value::Float(f64::NAN)),
            "inst" | "uuid" => {}
            _ => return Err(self.error(format!("the reader tag #{tag} is not read here"))),
        }
        let value = self.required(depth + 1, &tag)?;
        let Some(text) = value.as_str() else { return Err(self.error(format!("#{tag} wants a string"))) };
        let read = if tag == "inst" {
            inst::parse(text).map(Value::Inst)
        } else {
            uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36).map(Value::Uuid)
        };
        read.ok_or_else(|| self.error(format!("no #{tag}: {text:?}")))
    }

    fn token(&mut self) -> Result<Value, Error> {
        let token: String = self.rest().chars().take_while(|c| !ends_token(*c)).collect();
        let value = read_token(&token).map_err(|message| self.error(message))?;
        self.at += token.len();
        Ok(value)
    }
}

fn read_token(token: &str) -> Result<Value, String> {
    if let Some(bad) = token.chars().find(|c| !is_name_char(*c)) {
        return Err(format!("unexpected {bad:?}"));
    }
    match token {
        "nil" => return Ok(Value::Nil),
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(name) = token.strip_prefix(':') {
        return if is_name(name) { Ok(Value::keyword(name)) } else { Err(format!("no keyword: {token}")) };
    }
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return number(token, unsigned).ok_or_else(|| format!("no number: {token}"));
    }
    if is_name(token) { Ok(Value::symbol(token)) } else { Err(format!("no symbol: {token}")) }
}

/// `name` or `namespace/name`; `/` alone is a name.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && !part.starts_with(':') && !part.ends_with(':') && !part.contains("::")
    };
    match name.split_once('/') {
        _ if name == "/" => true,
        None => part(name) && !name.starts_with('#'),
        Some((namespace, name)) => {
            part(namespace) && part(name) && !name.contains('/') && !namespace.starts_with('#')
        }
    }
}

fn number(token: &str, unsigned: &str) -> Option<Value> {
    let whole = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
    };
    let canonical = token.strip_prefix('+').unwrap_or(token);
    if whole(unsigned) {
        return Some(canonical.parse().map_or_else(|_| Value::BigInt(canonical.to_owned()), Value::Int));
    }
    if unsigned.strip_suffix('N').is_some_and(whole) {
        return Some(Value::BigInt(canonical.trim_end_matches('N').to_owned()));
    }
    let body = unsigned.strip_suffix('M').unwrap_or(unsigned);
    let (mantissa, exponent) = body.split_once(['e', 'E']).map_or((body, None), |(m, e)| (m, Some(e)));
    let (integer, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(i, f)| (i, Some(f)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && e.len() <= 4 && digits(e)
    });
    if integer.is_empty() || !whole(integer) || !fraction.is_none_or(digits) || !exponent_fits {
        return None;
    }
    if unsigned.ends_with('M') {
        return Some(Value::Decimal(canonical.trim_end_matches('M').to_owned()));
    }
    canonical.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float)
}
