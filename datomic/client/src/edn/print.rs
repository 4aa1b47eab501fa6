//! Values to text, always the same text for the same value, and text that any EDN reader takes.

use std::fmt::{self, Display, Formatter, Write};

use super::{Value, inst};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Str(text) => string(f, text),
            Self::Char(c) => character(f, *c),
            Self::Symbol(name) => f.write_str(name),
            Self::Keyword(name) => write!(f, ":{name}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => float(f, *number),
            Self::BigInt(digits) => write!(f, "{digits}N"),
            Self::Decimal(digits) => write!(f, "{digits}M"),
            Self::List(items) => sequence(f, "(", items, ")"),
            Self::Vector(items) => sequence(f, "[", items, "]"),
            Self::Set(items) => sequence(f, "#{", items, "}"),
            Self::Map(entries) => map(f, entries),
            Self::Inst(time) => write!(f, "#inst \"{}\"", inst::print(*time)),
            Self::Uuid(uuid) => write!(f, "#uuid \"{uuid}\""),
        }
    }
}

fn string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            _ => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

fn character(f: &mut Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\n' => f.write_str("\\newline"),
        '\r' => f.write_str("\\return"),
        ' ' => f.write_str("\\space"),
        '\t' => f.write_str("\\tab"),
        _ if c.is_ascii_graphic() => write!(f, "\\{c}"),
        _ => write!(f, "\\u{:04x}", u32::from(c)),
    }
}

fn float(f: &mut Formatter<'_>, number: f64) -> fmt::Result {
    if number.is_nan() {
        f.write_str("##NaN")
    } else if number.is_infinite() {
        f.write_str(if number > 0.0 { "##Inf" } else { "##-Inf" })
    } else {
        // Debug keeps a point or an exponent, so that it reads back as a float.
        write!(f, "{number:?}")
    }
}

fn sequence(f: &mut Formatter<'_>, open: &str, items: &[Value], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_char(' ')?;
        }
        item.fmt(f)?;
    }
    f.write_str(close)
}

fn map(f: &mut Formatter<'_>, entries: &[(Value, Value)]) -> fmt::Result {
    f.write_char('{')?;
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{key} {value}")?;
    }
    f.write_char('}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::edn::{Limits, Value, parse, parse_with};

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            any::<String>().prop_map(Value::Str),
            any::<char>().prop_filter("one UTF-16 unit", |c| u32::from(*c) <= 0xffff).prop_map(Value::Char),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("comparable", |f| f.is_finite()).prop_map(Value::Float),
            "[a-z?][a-z0-9-]{0,6}(/[a-z][a-z0-9-]{0,6})?"
                .prop_filter("a name", |name| !["nil", "true", "false"].contains(&name.as_str()))
                .prop_map(Value::Symbol),
            "[a-z][a-z0-9-]{0,6}(/[a-z_][a-z0-9-]{0,6})?".prop_map(Value::Keyword),
            "[1-9][0-9]{20,30}".prop_map(Value::BigInt),
            "[1-9][0-9]{0,10}\\.[0-9]{1,5}".prop_map(Value::Decimal),
            (-62_000_000_000_000_i64..250_000_000_000_000).prop_map(|ms| Value::Inst(
                jiff::Timestamp::from_millisecond(ms).expect("within jiff's range")
            )),
            any::<u128>().prop_map(|bits| Value::Uuid(uuid::Uuid::from_u128(bits))),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let items = prop::collection::vec(inner.clone(), 0..6);
            prop_oneof![
                items.clone().prop_map(Value::List),
                items.clone().prop_map(Value::Vector),
                items.prop_map(|items| Value::Set(distinct(items, |item| item.to_string()))),
                prop::collection::vec((inner.clone(), inner), 0..4)
                    .prop_map(|entries| Value::Map(distinct(entries, |(key, _)| key.to_string()))),
            ]
        })
    }

    fn distinct<T>(items: Vec<T>, key: impl Fn(&T) -> String) -> Vec<T> {
        let mut seen = std::collections::HashSet::new();
        items.into_iter().filter(|item| seen.insert(key(item))).collect()
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(value in value()) {
            prop_assert_eq!(parse(&value.to_string()).expect("it was printed"), value);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = parse_with(&text, Limits { quotes: true, ..Limits::FILE });
        }

        #[test]
        fn no_brackets_panic(text in "[\\[\\](){}#_'\"\\\\:a1/ .;^\n-]{0,60}") {
            if let Ok(value) = parse(&text) {
                prop_assert_eq!(parse(&value.to_string()).expect("it was printed"), value);
            }
        }
    }

    #[test]
    fn reads_comments_discards_and_numbers() {
        let value = parse(
            "; head\n{:a [1 -2 +3 1.5 2e3 10N 1.50M], #_ #_ :x :y :b #{\\a \\space} ; tail\n :c (nil true)}",
        );
        assert_eq!(
            value.expect("EDN").to_string(),
            "{:a [1 -2 3 1.5 2000.0 10N 1.50M], :b #{\\a \\space}, :c (nil true)}"
        );
    }

    #[test]
    fn refuses_what_could_run_or_surprise() {
        for text in [
            "#=(+ 1 2)",
            "#foo 1",
            "^:a []",
            "@a",
            "`a",
            "~a",
            "'a",
            "#(+ 1)",
            "#'a",
            "010",
            "0x1F",
            "1/2",
            "{:a}",
            "{:a 1 :a 2}",
            "#{1 1}",
            "(",
            ")",
            "[)",
            "\"a",
            "\\",
            "\\nope",
            "#inst \"x\"",
            "#inst 1",
            "#uuid \"1\"",
            "1 2",
            "",
            ":",
            "::a",
            "a/",
            "1e99999",
            "\"\\ud800\"",
            "#:a{:b 1}",
            "#_",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_depth_and_size() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"#_ ".repeat(100_000)).is_err());
        assert!(parse(&" ".repeat(2 << 20)).expect_err("too large").message.contains("larger"));
        assert_eq!(parse("[1\n  @]").expect_err("no EDN").to_string(), "line 2, column 3: unexpected @");
    }
}
