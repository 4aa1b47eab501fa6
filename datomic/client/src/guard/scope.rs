//! What the clauses of one query share: the variables they bind, the rules they may call, and how
//! many they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{CLAUSES_MAX, Refusal, refuse};
use crate::edn::Value;

/// A rule as callers see it. It is renamed on the way, so that its name can be no function's.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) sent_as: String,
    pub(super) arity: usize,
}

/// Grows while a query is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) bound: BTreeSet<String>,
    pub(super) rules: BTreeMap<String, Rule>,
    clauses: usize,
}

impl Scope {
    /// A scope for a rule's body: its own variables, the same rules, the same count.
    pub(super) fn inner(&self) -> Self {
        Self { bound: BTreeSet::new(), ..self.clone() }
    }

    /// Goes on counting where an inner scope ended.
    pub(super) fn leave(&mut self, inner: &Self) {
        self.clauses = inner.clauses;
    }

    pub(super) fn count(&mut self, clause: &Value) -> Result<(), Refusal> {
        self.clauses += 1;
        if self.clauses > CLAUSES_MAX {
            return refuse(clause, format!("more than {CLAUSES_MAX} clauses"));
        }
        Ok(())
    }

    pub(super) fn bind(&mut self, variable: &Value) {
        if let Some(name) = variable.as_symbol().filter(|name| name.starts_with('?')) {
            self.bound.insert(name.to_owned());
        }
    }
}

/// A variable: `?name`, neither qualified nor dotted.
pub(super) fn is_variable(form: &Value) -> bool {
    form.as_symbol().and_then(|name| name.strip_prefix('?')).is_some_and(is_plain)
}

pub(super) fn is_blank(form: &Value) -> bool {
    form.as_symbol() == Some("_")
}

/// A symbol that is nothing but a name: letters, digits and `-_?!*+<>=&%`, not beginning like a number.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && name.chars().all(|c| c.is_alphanumeric() || "-_?!*+<>=&%".contains(c))
}

/// A value that stands for itself. No symbol, and no collection: a list would be a call.
pub(super) fn is_constant(form: &Value) -> bool {
    match form {
        Value::Bool(_)
        | Value::Str(_)
        | Value::Keyword(_)
        | Value::Int(_)
        | Value::Inst(_)
        | Value::Uuid(_) => true,
        Value::Float(number) => number.is_finite(),
        Value::Nil
        | Value::Char(_)
        | Value::Symbol(_)
        | Value::BigInt(_)
        | Value::Decimal(_)
        | Value::List(_)
        | Value::Vector(_)
        | Value::Map(_)
        | Value::Set(_) => false,
    }
}

pub(super) fn variable(form: &Value) -> Result<Value, Refusal> {
    if is_variable(form) { Ok(form.clone()) } else { refuse(form, "a variable like ?x must stand here") }
}

pub(super) fn constant(form: &Value) -> Result<Value, Refusal> {
    if is_constant(form) {
        return Ok(form.clone());
    }
    refuse(form, "a constant must stand here: a string, number, keyword, true, false, #inst or #uuid")
}

/// A constant attribute. A variable here would let a query read what it does not name.
pub(super) fn attribute(form: &Value) -> Result<Value, Refusal> {
    let named = form
        .as_keyword()
        .and_then(|name| name.split_once('/'))
        .is_some_and(|(_, name)| !name.starts_with('_'));
    if named { Ok(form.clone()) } else { refuse(form, "an attribute must be a keyword like :evaluation/id") }
}

/// Every variable of a form, as often as it stands there.
pub(super) fn variables(form: &Value, out: &mut Vec<Value>) {
    if form.as_symbol().is_some_and(|name| name.starts_with('?')) {
        out.push(form.clone());
    }
    for child in form.children() {
        variables(child, out);
    }
}
