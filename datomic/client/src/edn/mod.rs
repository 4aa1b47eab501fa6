//! EDN: the values, a bounded parser, a canonical printer. Pure.
//!
//! It holds what Datomic exchanges: no reader tags beside `#inst` and `#uuid`, no metadata, no
//! ratios. Big numbers are kept as text, since nothing here computes with them.

mod inst;
mod parse;
mod print;

pub use parse::{Error, Limits, parse, parse_with};

use jiff::Timestamp;
use uuid::Uuid;

/// An EDN value. Maps and sets keep the order in which they were written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Bool(bool),
    Str(String),
    Char(char),
    /// The whole symbol, with its namespace: `foo`, `a.b/c`.
    Symbol(String),
    /// The whole keyword without its colon: `evaluation/id`.
    Keyword(String),
    Int(i64),
    Float(f64),
    /// Digits of an integer beyond 64 bits, or one written with `N`.
    BigInt(String),
    /// Digits of a decimal, without its `M`.
    Decimal(String),
    List(Vec<Value>),
    Vector(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Inst(Timestamp),
    Uuid(Uuid),
}

impl Value {
    /// A keyword, its name without the colon.
    pub fn keyword(name: impl Into<String>) -> Self {
        Self::Keyword(name.into())
    }

    /// A symbol.
    pub fn symbol(name: impl Into<String>) -> Self {
        Self::Symbol(name.into())
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    pub fn as_symbol(&self) -> Option<&str> {
        if let Self::Symbol(name) = self { Some(name) } else { None }
    }

    pub fn as_keyword(&self) -> Option<&str> {
        if let Self::Keyword(name) = self { Some(name) } else { None }
    }

    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// Any number as a float.
    pub fn as_float(&self) -> Option<f64> {
        if let Self::Float(number) = self { Some(*number) } else { self.as_int().map(|n| n as f64) }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(bool) = self { Some(*bool) } else { None }
    }

    pub fn as_inst(&self) -> Option<Timestamp> {
        if let Self::Inst(time) = self { Some(*time) } else { None }
    }

    pub fn as_vector(&self) -> Option<&[Value]> {
        if let Self::Vector(items) = self { Some(items) } else { None }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        if let Self::Map(entries) = self { Some(entries) } else { None }
    }

    /// The value under a keyword of a map.
    pub fn get(&self, keyword: &str) -> Option<&Value> {
        self.as_map()?.iter().find(|(key, _)| key.as_keyword() == Some(keyword)).map(|(_, value)| value)
    }

    /// The values that it directly holds; keys of a map come before their values.
    pub fn children(&self) -> Vec<&Value> {
        match self {
            Self::List(items) | Self::Vector(items) | Self::Set(items) => items.iter().collect(),
            Self::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Self::Nil
            | Self::Bool(_)
            | Self::Str(_)
            | Self::Char(_)
            | Self::Symbol(_)
            | Self::Keyword(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::BigInt(_)
            | Self::Decimal(_)
            | Self::Inst(_)
            | Self::Uuid(_) => Vec::new(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Inst(time)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Vector(items)
    }
}
