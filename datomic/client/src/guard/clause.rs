//! `:where`: data patterns, predicates, functions, and the clauses that hold clauses.

use super::scope::{Scope, attribute, constant, is_blank, is_constant, is_variable, variable};
use super::{Checked, DAY, DAY_AS_WRITTEN, Refusal, refuse};
use crate::edn::Value;

const COMPARISONS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];
const ARITHMETIC: [&str; 6] = ["+", "-", "*", "/", "quot", "mod"];
const CALL_ARGUMENTS_MAX: usize = 16;

/// Rebuilds clauses that all must hold.
pub(super) fn all(forms: &[Value], scope: &mut Scope) -> Result<Vec<Value>, Refusal> {
    forms.iter().map(|form| clause(form, scope)).collect()
}

fn clause(form: &Value, scope: &mut Scope) -> Checked {
    scope.count(form)?;
    if let Some(items) = form.as_list() {
        return compound(form, items, scope);
    }
    match form.as_vector() {
        Some([Value::List(call)]) => Ok(Value::Vector(vec![predicate(form, call)?])),
        Some([Value::List(call), binding]) => {
            let rebuilt = function(form, call)?;
            Ok(Value::Vector(vec![rebuilt, bind(binding, scope)?]))
        }
        Some(items) => data_pattern(form, items, scope),
        None => refuse(form, "a clause is [?e :attribute ?v], [(< ?x 1)], [(+ ?x 1) ?y] or (not …)"),
    }
}

/// `[?e :attribute ?v ?tx ?added]`, from the second on each may be missing at the end.
fn data_pattern(form: &Value, items: &[Value], scope: &mut Scope) -> Checked {
    let (source, items) = match items {
        [source, rest @ ..] if source.as_symbol() == Some("$") => (Some(source.clone()), rest),
        all => (None, all),
    };
    let [entity, name, rest @ ..] = items else {
        return refuse(form, "a data pattern needs an entity and an attribute");
    };
    if rest.len() > 3 {
        return refuse(form, "a data pattern has five places at most");
    }
    let mut rebuilt: Vec<Value> = source.into_iter().collect();
    rebuilt.push(place(entity, |form| form.as_int().is_some())?);
    rebuilt.push(attribute(name)?);
    for form in rest {
        rebuilt.push(place(form, is_constant)?);
    }
    items.iter().for_each(|item| scope.bind(item));
    Ok(Value::Vector(rebuilt))
}

fn place(form: &Value, constant_fits: impl Fn(&Value) -> bool) -> Checked {
    if is_variable(form) || is_blank(form) || constant_fits(form) {
        return Ok(form.clone());
    }
    refuse(form, "a variable, _ or a constant must stand here")
}

fn operand(form: &Value) -> Checked {
    if is_variable(form) { Ok(form.clone()) } else { constant(form) }
}

fn operands(forms: &[Value]) -> Result<Vec<Value>, Refusal> {
    forms.iter().map(operand).collect()
}

fn head(call: &[Value]) -> &str {
    call.first().and_then(Value::as_symbol).unwrap_or_default()
}

fn call(name: &str, arguments: Vec<Value>) -> Value {
    Value::List([vec![Value::symbol(name)], arguments].concat())
}

fn predicate(form: &Value, forms: &[Value]) -> Checked {
    let name = head(forms);
    match forms.get(1..).unwrap_or_default() {
        arguments if COMPARISONS.contains(&name) && (2..=CALL_ARGUMENTS_MAX).contains(&arguments.len()) => {
            Ok(call(name, operands(arguments)?))
        }
        [source, entity, attr] if name == "missing?" && source.as_symbol() == Some("$") => {
            Ok(call(name, vec![source.clone(), variable(entity)?, attribute(attr)?]))
        }
        _ => refuse(
            form,
            format!("not a predicate; those are {} and (missing? $ ?e :attribute)", COMPARISONS.join(" ")),
        ),
    }
}

fn function(form: &Value, forms: &[Value]) -> Checked {
    let name = head(forms);
    let arguments = forms.get(1..).unwrap_or_default();
    if arguments.len() > CALL_ARGUMENTS_MAX {
        return refuse(form, format!("more than {CALL_ARGUMENTS_MAX} arguments"));
    }
    match arguments {
        [_, ..] if ARITHMETIC.contains(&name) => Ok(call(name, operands(arguments)?)),
        [one] if name == "count" => Ok(call(name, vec![operand(one)?])),
        [one] if name == "untuple" => Ok(call(name, vec![variable(one)?])),
        [_, ..] if name == "tuple" => Ok(call(name, operands(arguments)?)),
        [one] if name == "ground" => Ok(call(name, vec![ground(one, 2)?])),
        [source, entity, attr, default] if name == "get-else" && source.as_symbol() == Some("$") => {
            Ok(call(name, vec![source.clone(), variable(entity)?, attribute(attr)?, constant(default)?]))
        }
        [one] if name == DAY_AS_WRITTEN || name == DAY => Ok(call(DAY, vec![variable(one)?])),
        _ => refuse(
            form,
            format!(
                "not a function; those are {} count ground tuple untuple (get-else $ ?e :attribute default) \
                 and ({DAY_AS_WRITTEN} ?instant)",
                ARITHMETIC.join(" ")
            ),
        ),
    }
}

/// A constant, or vectors of constants.
fn ground(form: &Value, depth: usize) -> Checked {
    match form.as_vector() {
        Some(items) if depth > 0 => {
            Ok(Value::Vector(items.iter().map(|item| ground(item, depth - 1)).collect::<Result<_, _>>()?))
        }
        _ => constant(form),
    }
}

/// What a function's value or an input is bound to: `?x`, `[?x ?y]`, `[?x ...]`, `[[?x ?y]]`.
pub(super) fn bind(form: &Value, scope: &mut Scope) -> Checked {
    if is_variable(form) {
        scope.bind(form);
        return Ok(form.clone());
    }
    match form.as_vector() {
        Some([one, dots]) if dots.as_symbol() == Some("...") => {
            scope.bind(one);
            Ok(Value::Vector(vec![variable(one)?, dots.clone()]))
        }
        Some([Value::Vector(inner)]) => Ok(Value::Vector(vec![tuple(form, inner, scope)?])),
        Some(items) => tuple(form, items, scope),
        None => refuse(form, "a binding is ?x, [?x ?y], [?x ...] or [[?x ?y]]"),
    }
}

fn tuple(form: &Value, items: &[Value], scope: &mut Scope) -> Checked {
    if items.is_empty() {
        return refuse(form, "a binding without variables");
    }
    items.iter().for_each(|item| scope.bind(item));
    let rebuilt = items.iter().map(|item| if is_blank(item) { Ok(item.clone()) } else { variable(item) });
    Ok(Value::Vector(rebuilt.collect::<Result<_, _>>()?))
}

fn compound(form: &Value, items: &[Value], scope: &mut Scope) -> Checked {
    match (head(items), items.get(1..).unwrap_or_default()) {
        // What stands under a negation, or in a join that does not name it, is bound for itself only.
        ("not", body @ [_, ..]) => Ok(call("not", apart(scope, |inner| all(body, inner))?)),
        ("not-join", [join, body @ ..]) if !body.is_empty() => {
            let join = apart(scope, |inner| joined(join, inner))?;
            Ok(call("not-join", [vec![join], apart(scope, |inner| all(body, inner))?].concat()))
        }
        ("or", bodies @ [_, ..]) => Ok(call("or", branches(bodies, scope)?)),
        ("or-join", [join, bodies @ ..]) if !bodies.is_empty() => {
            let join = joined(join, scope)?;
            Ok(call("or-join", [vec![join], apart(scope, |inner| branches(bodies, inner))?].concat()))
        }
        (name, arguments) => rule_call(form, name, arguments, scope),
    }
}

/// Reads with variables of its own.
fn apart<T>(scope: &mut Scope, read: impl FnOnce(&mut Scope) -> Result<T, Refusal>) -> Result<T, Refusal> {
    let mut inner = scope.inner();
    let value = read(&mut inner)?;
    scope.leave(&inner);
    Ok(value)
}

/// Branches of an `or`: a clause, or `(and …)` around several.
fn branches(forms: &[Value], scope: &mut Scope) -> Result<Vec<Value>, Refusal> {
    let branch = |form: &Value, scope: &mut Scope| match form.as_list() {
        Some([and, body @ ..]) if and.as_symbol() == Some("and") && !body.is_empty() => {
            scope.count(form)?;
            Ok(call("and", all(body, scope)?))
        }
        _ => clause(form, scope),
    };
    forms.iter().map(|form| branch(form, scope)).collect()
}

/// The variables of a join: `[?a ?b]`, and `[[?a] ?b]` where `?a` must be bound before.
fn joined(form: &Value, scope: &mut Scope) -> Checked {
    let Some(items) = form.as_vector().filter(|items| !items.is_empty()) else {
        return refuse(form, "a join begins with its variables, like [?e ?v]");
    };
    parameters(items, scope).map(Value::Vector)
}

/// Variables, the first of which may be a vector of those that must be bound before.
pub(super) fn parameters(items: &[Value], scope: &mut Scope) -> Result<Vec<Value>, Refusal> {
    let (required, free) = match items {
        [Value::Vector(required), free @ ..] if !required.is_empty() => (Some(required), free),
        all => (None, all),
    };
    let mut rebuilt = Vec::new();
    if let Some(required) = required {
        required.iter().for_each(|item| scope.bind(item));
        rebuilt.push(Value::Vector(required.iter().map(variable).collect::<Result<_, _>>()?));
    }
    for item in free {
        scope.bind(item);
        rebuilt.push(variable(item)?);
    }
    Ok(rebuilt)
}

fn rule_call(form: &Value, name: &str, arguments: &[Value], scope: &mut Scope) -> Checked {
    let Some(rule) = scope.rules.get(name).cloned() else {
        return refuse(form, "neither not, or, not-join, or-join nor a rule of the % argument");
    };
    if arguments.len() != rule.arity {
        return refuse(form, format!("the rule {name} takes {} arguments", rule.arity));
    }
    let mut rebuilt = Vec::new();
    for argument in arguments {
        scope.bind(argument);
        rebuilt.push(place(argument, is_constant)?);
    }
    Ok(call(&rule.sent_as, rebuilt))
}
