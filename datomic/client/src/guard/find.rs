//! `:find`: variables, aggregates and pulls, in the four shapes that Datomic knows.

use super::scope::{is_variable, variable};
use super::{Checked, Refusal, pull, refuse};
use crate::edn::Value;

/// Aggregates of one variable. `rand` and `sample` are left out: they answer differently each time.
const AGGREGATES: [&str; 10] =
    ["sum", "avg", "count", "count-distinct", "min", "max", "median", "variance", "stddev", "distinct"];

/// Aggregates that also take how many.
const WITH_COUNT: [&str; 2] = ["min", "max"];

/// A rebuilt `:find` and the variables that it needs.
pub(super) struct Find {
    pub(super) items: Vec<Value>,
    pub(super) variables: Vec<Value>,
    /// Columns of a relation; 0 for the other shapes, which cannot be labelled.
    pub(super) columns: usize,
}

/// Reads the items of `:find`.
pub(super) fn read(items: &[Value]) -> Result<Find, Refusal> {
    let mut variables = Vec::new();
    let is = |form: &Value, name: &str| form.as_symbol() == Some(name);
    let (items, columns) = match items {
        [one, dot] if is(dot, ".") => (vec![element(one, &mut variables)?, dot.clone()], 0),
        [Value::Vector(inner)] => {
            let rebuilt = match inner.as_slice() {
                [one, dots] if is(dots, "...") => vec![element(one, &mut variables)?, dots.clone()],
                all => elements(all, &mut variables)?,
            };
            (vec![Value::Vector(rebuilt)], 0)
        }
        all => (elements(all, &mut variables)?, all.len()),
    };
    Ok(Find { items, variables, columns })
}

fn elements(forms: &[Value], variables: &mut Vec<Value>) -> Result<Vec<Value>, Refusal> {
    if forms.is_empty() {
        return refuse(&Value::keyword("find"), "it asks for nothing");
    }
    forms.iter().map(|form| element(form, variables)).collect()
}

fn element(form: &Value, variables: &mut Vec<Value>) -> Checked {
    if is_variable(form) {
        variables.push(form.clone());
        return Ok(form.clone());
    }
    let Some(call) = form.as_list() else {
        return refuse(form, ":find holds variables, aggregates like (avg ?x) and (pull ?e […])");
    };
    let name = call.first().and_then(Value::as_symbol).unwrap_or_default();
    let rebuilt = match call {
        [head, entity, pattern] if name == "pull" => {
            variables.push(variable(entity)?);
            vec![head.clone(), variable(entity)?, pull::pattern(pattern)?]
        }
        [head, of] if AGGREGATES.contains(&name) => {
            variables.push(variable(of)?);
            vec![head.clone(), variable(of)?]
        }
        [head, Value::Int(count @ 1..=1000), of] if WITH_COUNT.contains(&name) => {
            variables.push(variable(of)?);
            vec![head.clone(), Value::Int(*count), variable(of)?]
        }
        _ => return refuse(form, format!("not an aggregate; those are {} and pull", AGGREGATES.join(" "))),
    };
    Ok(Value::List(rebuilt))
}
