//! `:in` and the arguments for it: constants, collections of constants, and rules. The database comes
//! first and is never the caller's to give.

use super::clause::{self, bind, parameters};
use super::scope::{Rule, Scope, is_constant, is_plain};
use super::{Checked, RULES_MAX, Refusal, refuse};
use crate::edn::Value;

/// Names that no rule may take from the grammar.
const RESERVED: [&str; 5] = ["not", "or", "and", "not-join", "or-join"];

/// A rebuilt `:in` with its rebuilt arguments.
pub(super) struct Inputs {
    pub(super) names: Vec<Value>,
    pub(super) arguments: Vec<Value>,
}

/// Reads `:in` beside what was given for it. Rules enter the scope here.
pub(super) fn read(names: Option<&[Value]>, given: &[Value], scope: &mut Scope) -> Result<Inputs, Refusal> {
    let source = Value::symbol("$");
    let default = [source.clone()];
    let names = names.unwrap_or(&default);
    let Some(rest) = names.strip_prefix(std::slice::from_ref(&source)) else {
        return refuse(&Value::Vector(names.to_vec()), ":in begins with $, the database");
    };
    if rest.len() != given.len() {
        let form = Value::Vector(names.to_vec());
        return refuse(
            &form,
            format!(":in names {} inputs beside $, but {} were given", rest.len(), given.len()),
        );
    }
    let mut inputs = Inputs { names: vec![source], arguments: Vec::new() };
    for (name, argument) in rest.iter().zip(given) {
        if name.as_symbol() == Some("%") {
            if !scope.rules.is_empty() {
                return refuse(name, "rules are given once");
            }
            inputs.arguments.push(rules(argument, scope)?);
            inputs.names.push(name.clone());
        } else {
            inputs.names.push(bind(name, scope)?);
            inputs.arguments.push(data(argument, 2)?);
        }
    }
    Ok(inputs)
}

/// A constant, or vectors and sets of constants.
fn data(form: &Value, depth: usize) -> Checked {
    let inner =
        |items: &[Value]| items.iter().map(|item| data(item, depth - 1)).collect::<Result<Vec<_>, _>>();
    match form {
        _ if is_constant(form) => Ok(form.clone()),
        Value::Vector(items) | Value::Set(items) if depth > 0 => Ok(Value::Vector(inner(items)?)),
        Value::Nil
        | Value::Bool(_)
        | Value::Str(_)
        | Value::Char(_)
        | Value::Symbol(_)
        | Value::Keyword(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::BigInt(_)
        | Value::Decimal(_)
        | Value::List(_)
        | Value::Vector(_)
        | Value::Map(_)
        | Value::Set(_)
        | Value::Inst(_)
        | Value::Uuid(_) => refuse(form, "an argument is a constant or a vector of constants"),
    }
}

/// `[[(name ?x [?y]) clause …] …]`
fn rules(form: &Value, scope: &mut Scope) -> Checked {
    let Some(rules) = form.as_vector().filter(|rules| !rules.is_empty() && rules.len() <= RULES_MAX) else {
        return refuse(
            form,
            format!("rules are a vector of 1 to {RULES_MAX} rules, each [(name ?x) clause …]"),
        );
    };
    // All heads first: a rule may call itself, or one that stands below it.
    for rule in rules {
        declare(rule, scope)?;
    }
    rules.iter().map(|rule| one(rule, scope)).collect::<Result<_, _>>().map(Value::Vector)
}

fn parts(rule: &Value) -> Result<(&str, &[Value], &[Value]), Refusal> {
    let shape = "a rule is [(name ?x) clause …]";
    let Some([Value::List(head), body @ ..]) = rule.as_vector() else { return refuse(rule, shape) };
    let Some((name, parameters)) = head.split_first() else { return refuse(rule, shape) };
    let name =
        name.as_symbol().filter(|name| is_plain(name) && !name.starts_with('?') && !RESERVED.contains(name));
    match name {
        Some(name) if !body.is_empty() && !parameters.is_empty() => Ok((name, parameters, body)),
        _ => refuse(rule, format!("{shape}; its name is a plain word other than {}", RESERVED.join(" "))),
    }
}

fn declare(rule: &Value, scope: &mut Scope) -> Result<(), Refusal> {
    let (name, parameters, _) = parts(rule)?;
    let arity = parameters.iter().map(|item| item.as_vector().map_or(1, <[Value]>::len)).sum();
    let sent_as = format!("rule-{}", scope.rules.len() + 1);
    let known = scope.rules.entry(name.to_owned()).or_insert(Rule { sent_as, arity });
    if known.arity == arity {
        Ok(())
    } else {
        refuse(rule, format!("the rule {name} stands with another arity too"))
    }
}

fn one(rule: &Value, scope: &mut Scope) -> Checked {
    let (name, head, body) = parts(rule)?;
    let Some(known) = scope.rules.get(name) else { return refuse(rule, "an undeclared rule") };
    let name = Value::symbol(known.sent_as.clone());
    let mut inner = scope.inner();
    let mut rebuilt = vec![name];
    rebuilt.extend(parameters(head, &mut inner)?);
    let mut clauses = vec![Value::List(rebuilt)];
    clauses.extend(clause::all(body, &mut inner)?);
    scope.leave(&inner);
    Ok(Value::Vector(clauses))
}
