//! A variable of `:find` that nothing binds: Datomic would refuse it with less help. Where the
//! variable is named like an aggregate (`?avg-success`) and one value of the query is not yet put to
//! use, the message shows the query that was meant.

use super::Refusal;
use super::query::Parts;
use super::scope::{Scope, variables};
use crate::edn::Value;

const AGGREGATES: [&str; 7] = ["avg", "sum", "min", "max", "median", "count", "stddev"];

/// Refuses a query with an unbound variable.
pub(super) fn check<'a>(
    parts: &Parts,
    mut needed: impl Iterator<Item = &'a Value>,
    scope: &Scope,
    wrap: impl Fn(&str) -> String,
) -> Result<(), Refusal> {
    let unbound =
        needed.find(|variable| !variable.as_symbol().is_some_and(|name| scope.bound.contains(name)));
    let Some(variable) = unbound else { return Ok(()) };
    let hint = match corrected(parts, variable) {
        Some(meant) => format!(
            "an aggregate stands in :find, not in :where, and :with keeps equal values apart; write {}",
            wrap(&meant.written())
        ),
        None => "bind it in :where, like [?e :evaluation/success-rate ?x], or name it in :in".to_owned(),
    };
    Err(Refusal::Unbound { variable: variable.to_string(), hint })
}

fn corrected(parts: &Parts, variable: &Value) -> Option<Parts> {
    let name = variable.as_symbol()?.strip_prefix('?')?;
    let aggregate = AGGREGATES.iter().find(|aggregate| {
        name.strip_prefix(**aggregate).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })?;
    let at = parts.find.iter().position(|form| form == variable)?;
    let (entity, value) = only_unused(parts)?;
    let mut find = parts.find.clone();
    *find.get_mut(at)? = Value::List(vec![Value::symbol(*aggregate), value]);
    let mut with = parts.with.clone();
    if !find.contains(&entity) && !with.contains(&entity) {
        with.push(entity);
    }
    Some(Parts {
        find,
        with,
        labels: parts.labels.clone(),
        inputs: parts.inputs.clone(),
        wheres: parts.wheres.clone(),
    })
}

/// Entity and value of the one data pattern whose value appears nowhere else.
fn only_unused(parts: &Parts) -> Option<(Value, Value)> {
    let mut used = Vec::new();
    for form in parts.find.iter().chain(&parts.with).chain(&parts.wheres) {
        variables(form, &mut used);
    }
    let mut unused = parts.wheres.iter().filter_map(|clause| match clause.as_vector() {
        Some([entity @ Value::Symbol(_), Value::Keyword(_), value @ Value::Symbol(name)])
            if name.starts_with('?') =>
        {
            (used.iter().filter(|other| *other == value).count() == 1)
                .then(|| (entity.clone(), value.clone()))
        }
        _ => None,
    });
    let one = unused.next()?;
    unused.next().is_none().then_some(one)
}
