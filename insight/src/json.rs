//! From Datomic's values to JSON. Pure.

use evalfleet_datomic::edn::Value;
use serde_json::{Map, Number, Value as Json};

/// Translates a value: keywords keep their colon, instants become RFC 3339, maps take their keywords
/// without colon for keys.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Str(text) | Value::Symbol(text) | Value::BigInt(text) | Value::Decimal(text) => {
            Json::String(text.clone())
        }
        Value::Char(letter) => Json::String(letter.to_string()),
        Value::Keyword(name) => Json::String(format!(":{name}")),
        Value::Int(number) => Json::Number((*number).into()),
        // JSON has no infinity and no NaN.
        Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::List(items) | Value::Vector(items) | Value::Set(items) => {
            Json::Array(items.iter().map(json).collect())
        }
        Value::Map(entries) => Json::Object(
            entries.iter().map(|(key, value)| (key_text(key), json(value))).collect::<Map<_, _>>(),
        ),
        Value::Inst(time) => Json::String(time.to_string()),
        Value::Uuid(id) => Json::String(id.to_string()),
    }
}

fn key_text(key: &Value) -> String {
    match key.as_keyword() {
        Some(name) => name.to_owned(),
        None => json(key).as_str().map_or_else(|| key.to_string(), str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_meaning() {
        let row = evalfleet_datomic::edn::parse(
            "[:passed 0.68 #inst \"2025-07-31T05:27:34Z\" {:evaluation/id \"a\"} nil]",
        )
        .unwrap();
        let expected =
            serde_json::json!([":passed", 0.68, "2025-07-31T05:27:34Z", {"evaluation/id": "a"}, null]);
        assert_eq!(json(&row), expected);
    }
}
