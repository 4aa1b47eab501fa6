//! Pull patterns: attributes, `*`, nested patterns, bounded recursion, and the options `:as`,
//! `:limit` and `:default`. `:xform` names a function and is refused, as are the old list forms.

use super::scope::constant;
use super::{Checked, refuse};
use crate::edn::Value;

const LIMIT_MAX: i64 = 10_000;
const RECURSION_MAX: i64 = 16;

/// Rebuilds a pattern.
///
/// # Errors
/// Where anything in it is outside the grammar.
pub(crate) fn pattern(form: &Value) -> Checked {
    let Some(items) = form.as_vector().filter(|items| !items.is_empty()) else {
        return refuse(
            form,
            "a pull pattern is a vector like [:evaluation/id {:evaluation/function-calls [*]}]",
        );
    };
    Ok(Value::Vector(items.iter().map(item).collect::<Result<_, _>>()?))
}

fn item(form: &Value) -> Checked {
    if form.as_symbol() == Some("*") {
        return Ok(form.clone());
    }
    let Some(entries) = form.as_map() else { return attribute_with_options(form) };
    let mut rebuilt = Vec::new();
    for (key, value) in entries {
        rebuilt.push((attribute_with_options(key)?, nested(value)?));
    }
    Ok(Value::Map(rebuilt))
}

fn nested(form: &Value) -> Checked {
    let bounded = form.as_int().is_some_and(|depth| (1..=RECURSION_MAX).contains(&depth));
    if bounded || form.as_symbol() == Some("...") { Ok(form.clone()) } else { pattern(form) }
}

/// Unlike in a clause, a pull may follow an attribute backwards, `:evaluation/_batch`.
fn attribute(form: &Value) -> Checked {
    let name = form.as_keyword().filter(|name| *name == "db/id" || name.contains('/'));
    if name.is_some() {
        Ok(form.clone())
    } else {
        refuse(form, "an attribute must be a keyword like :evaluation/id")
    }
}

fn attribute_with_options(form: &Value) -> Checked {
    let Some([name, options @ ..]) = form.as_vector() else { return attribute(form) };
    let mut rebuilt = vec![attribute(name)?];
    for pair in options.chunks(2) {
        let [option, value] = pair else { return refuse(form, "an option without its value") };
        let fits = match option.as_keyword() {
            Some("as") => value.as_str().is_some() || value.as_keyword().is_some(),
            Some("limit") => value.as_int().is_some_and(|limit| (1..=LIMIT_MAX).contains(&limit)),
            Some("default") => constant(value).is_ok(),
            _ => return refuse(option, "the options of a pull are :as, :limit and :default"),
        };
        if !fits {
            return refuse(value, format!("not a value for {option}"));
        }
        rebuilt.extend([option.clone(), value.clone()]);
    }
    Ok(Value::Vector(rebuilt))
}
