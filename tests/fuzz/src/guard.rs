//! A question that a person writes: whatever the guard lets through is of the grammar that it documents, as a second
//! reader says that shares no code with it.

use evalfleet_datomic::edn::{self, Value};
use evalfleet_datomic::guard;
use std::collections::BTreeMap;

/// Divides a query from its arguments.
pub const DIVIDER: char = '\0';

/// Puts what is written to the guard: a query, and after each divider an argument. Tells whether it went through.
///
/// # Panics
/// When something went through that is not of the grammar, or that reads as something else once it is written out.
pub fn guard(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split(DIVIDER);
    let query = parts.next().unwrap_or_default();
    let arguments: Vec<&str> = parts.collect();
    let Ok(question) = guard::check(query, &arguments) else { return false };
    for sent in std::iter::once(question.query()).chain(question.arguments()) {
        let limits = edn::Limits { bytes_max: 1 << 20, depth_max: 64, quotes: false };
        let read = edn::parse_with(&sent.to_string(), limits);
        assert_eq!(read.as_ref(), Ok(sent), "it is read as something else than was checked");
    }
    if let Err(why) = is_listed(question.query(), question.arguments()) {
        panic!("{why}: {text:?} went through as {} {:?}", question.query(), question.arguments());
    }
    true
}

type Told = Result<(), String>;

fn told(holds: bool, what: &str, form: &Value) -> Told {
    if holds { Ok(()) } else { Err(format!("{what}: {form}")) }
}

/// Rules by name, with how many arguments each takes.
type Rules = BTreeMap<String, usize>;

/// Reads a query and its arguments as they are sent.
///
/// # Errors
/// Names the first form that the grammar does not list.
pub fn is_listed(query: &Value, arguments: &[Value]) -> Told {
    let entries = query.as_map().ok_or("a query is sent as a map")?;
    let clause = |name: &str| query.get(name).and_then(Value::as_vector);
    for (key, value) in entries {
        let known =
            matches!(key.as_keyword(), Some("find" | "keys" | "syms" | "strs" | "with" | "in" | "where"));
        told(known && value.as_vector().is_some(), "no clause of a query", key)?;
    }
    find(clause("find").ok_or("no :find")?)?;
    for name in ["keys", "syms", "strs"] {
        clause(name)
            .unwrap_or_default()
            .iter()
            .try_for_each(|label| told(label.as_symbol().is_some_and(is_word), "no label", label))?;
    }
    clause("with").unwrap_or_default().iter().try_for_each(variable)?;

    let inputs = clause("in").ok_or("no :in")?;
    let Some((database, names)) = inputs.split_first() else { return Err("an empty :in".to_owned()) };
    told(is(database, "$"), "no database", database)?;
    if names.len() != arguments.len() {
        return Err(format!("{} inputs and {} arguments", names.len(), arguments.len()));
    }
    let mut rules = Rules::new();
    for (name, argument) in names.iter().zip(arguments) {
        if is(name, "%") {
            rules = declared(argument)?;
            argument.as_vector().unwrap_or_default().iter().try_for_each(|rule| a_rule(rule, &rules))?;
        } else {
            binding(name)?;
            data(argument, 2)?;
        }
    }
    let wheres = clause("where").ok_or("no :where")?;
    told(!wheres.is_empty(), "an empty :where", query)?;
    wheres.iter().try_for_each(|clause| where_clause(clause, &rules))
}

fn is(form: &Value, name: &str) -> bool {
    form.as_symbol() == Some(name)
}

/// A name that can be no path to anything: no namespace, no dots, no reader's characters.
fn is_word(name: &str) -> bool {
    let inner = |letter: char| letter.is_alphanumeric() || "-_?!*+<>=&%".contains(letter);
    !name.is_empty() && name.len() <= 100 && name.chars().all(inner)
}

fn is_variable(form: &Value) -> bool {
    form.as_symbol().and_then(|name| name.strip_prefix('?')).is_some_and(is_word)
}

fn variable(form: &Value) -> Told {
    told(is_variable(form), "no variable", form)
}

/// What stands for itself.
fn is_constant(form: &Value) -> bool {
    let plain =
        matches!(form, Value::Bool(_) | Value::Str(_) | Value::Int(_) | Value::Inst(_) | Value::Uuid(_));
    let finite = matches!(form, Value::Float(number) if number.is_finite());
    let keyword = form.as_keyword().is_some_and(|name| !name.is_empty() && name.matches('/').count() <= 1);
    plain || finite || keyword
}

fn constant(form: &Value) -> Told {
    told(is_constant(form), "no constant", form)
}

fn operand(form: &Value) -> Told {
    told(is_variable(form) || is_constant(form), "neither a variable nor a constant", form)
}

fn attribute(form: &Value) -> Told {
    let name = form.as_keyword().and_then(|name| name.split_once('/')).map(|(_, name)| name);
    told(name.is_some_and(|name| !name.is_empty() && !name.starts_with('_')), "no attribute", form)
}

fn find(items: &[Value]) -> Told {
    match items {
        [] => Err("an empty :find".to_owned()),
        [one, dot] if is(dot, ".") => element(one),
        [Value::Vector(inner)] => match inner.as_slice() {
            [] => Err("an empty :find".to_owned()),
            [one, dots] if is(dots, "...") => element(one),
            all => all.iter().try_for_each(element),
        },
        all => all.iter().try_for_each(element),
    }
}

fn element(form: &Value) -> Told {
    const AGGREGATES: &str = " sum avg count count-distinct min max median variance stddev distinct ";
    let Some(call) = form.as_list() else { return variable(form) };
    let name = call.first().and_then(Value::as_symbol).unwrap_or_default();
    match call {
        [_, of] => {
            told(!name.is_empty() && AGGREGATES.contains(&format!(" {name} ")), "no aggregate", form)?;
            variable(of)
        }
        [_, entity, shape] if name == "pull" => {
            variable(entity)?;
            pattern(shape, 40)
        }
        [_, count, of] => {
            told(matches!(name, "min" | "max") && count.as_int() > Some(0), "no aggregate", form)?;
            variable(of)
        }
        _ => Err(format!("no element of :find: {form}")),
    }
}

fn pattern(form: &Value, depth: usize) -> Told {
    let items = form.as_vector().filter(|items| depth > 0 && !items.is_empty());
    let items = items.ok_or_else(|| format!("no pull pattern: {form}"))?;
    items.iter().try_for_each(|item| {
        let Some(entries) = item.as_map() else {
            return if is(item, "*") { Ok(()) } else { pulled(item) };
        };
        entries.iter().try_for_each(|(key, value)| {
            pulled(key)?;
            match value.as_int() {
                Some(levels) => told((1..=100).contains(&levels), "no recursion", value),
                None if is(value, "...") => Ok(()),
                None => pattern(value, depth - 1),
            }
        })
    })
}

fn pulled(form: &Value) -> Told {
    let named = |form: &Value| {
        let name = form.as_keyword();
        told(
            name == Some("db/id") || name.is_some_and(|name| name.matches('/').count() == 1),
            "no attribute",
            form,
        )
    };
    let Some([name, options @ ..]) = form.as_vector() else { return named(form) };
    named(name)?;
    options.chunks(2).try_for_each(|pair| match pair {
        [Value::Keyword(option), value] => match option.as_str() {
            "as" => told(matches!(value, Value::Str(_) | Value::Keyword(_)), "no name", value),
            "limit" => told(value.as_int() > Some(0), "no limit", value),
            "default" => constant(value),
            _ => Err(format!("no option of a pull: {form}")),
        },
        _ => Err(format!("no option of a pull: {form}")),
    })
}

fn binding(form: &Value) -> Told {
    let tuple = |items: &[Value]| {
        told(!items.is_empty(), "an empty binding", form)?;
        items.iter().try_for_each(|item| told(is(item, "_") || is_variable(item), "no binding", form))
    };
    match form.as_vector() {
        None => variable(form),
        Some([one, dots]) if is(dots, "...") => variable(one),
        Some([Value::Vector(inner)]) => tuple(inner),
        Some(items) => tuple(items),
    }
}

/// Constants in vectors, so deep at most.
fn data(form: &Value, depth: usize) -> Told {
    match form.as_vector() {
        Some(items) if depth > 0 => items.iter().try_for_each(|item| data(item, depth - 1)),
        _ => constant(form),
    }
}

fn declared(form: &Value) -> Result<Rules, String> {
    let all = form.as_vector().ok_or_else(|| format!("no rules: {form}"))?;
    let head = |rule: &Value| {
        let [Value::List(head), _, ..] = rule.as_vector()? else { return None };
        let (name, parameters) = head.split_first()?;
        // As we name them: what the caller calls a rule is not sent.
        let name = name.as_symbol().filter(|name| {
            name.strip_prefix("rule-").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        })?;
        let arity = parameters.iter().map(|one| one.as_vector().map_or(1, <[Value]>::len)).sum();
        Some((name.to_owned(), arity))
    };
    all.iter().map(|rule| head(rule).ok_or_else(|| format!("no rule: {rule}"))).collect()
}

fn a_rule(form: &Value, rules: &Rules) -> Told {
    let Some([Value::List(head), body @ ..]) = form.as_vector() else {
        return Err(format!("no rule: {form}"));
    };
    parameters(head.get(1..).unwrap_or_default(), form)?;
    body.iter().try_for_each(|clause| where_clause(clause, rules))
}

/// Variables, of which the first may be a vector of those that must be bound.
fn parameters(items: &[Value], of: &Value) -> Told {
    told(!items.is_empty(), "no parameters", of)?;
    items.iter().enumerate().try_for_each(|(index, item)| match item.as_vector() {
        Some(required) if index == 0 => required.iter().try_for_each(variable),
        _ => variable(item),
    })
}

fn where_clause(form: &Value, rules: &Rules) -> Told {
    if let Some(items) = form.as_list() {
        return compound(form, items, rules);
    }
    match form.as_vector() {
        Some([Value::List(call)]) => predicate(form, call),
        Some([Value::List(call), to]) => {
            function(form, call)?;
            binding(to)
        }
        Some(items) => data_pattern(form, items),
        None => Err(format!("no clause: {form}")),
    }
}

fn data_pattern(form: &Value, items: &[Value]) -> Told {
    let items = items.strip_prefix(&[Value::symbol("$")]).unwrap_or(items);
    let [entity, name, values @ ..] = items else { return Err(format!("no data pattern: {form}")) };
    told(is_variable(entity) || is(entity, "_") || entity.as_int().is_some(), "no entity", form)?;
    attribute(name)?;
    told(values.len() <= 3, "too many places", form)?;
    let fits = |value: &Value| is_variable(value) || is(value, "_") || is_constant(value);
    told(values.iter().all(fits), "no value", form)
}

fn predicate(form: &Value, call: &[Value]) -> Told {
    match call {
        [name, source, entity, attr] if is(name, "missing?") => {
            told(is(source, "$"), "no database", form)?;
            variable(entity)?;
            attribute(attr)
        }
        [Value::Symbol(name), operands @ ..] if operands.len() >= 2 => {
            told(matches!(name.as_str(), "=" | "!=" | "<" | "<=" | ">" | ">="), "no comparison", form)?;
            operands.iter().try_for_each(operand)
        }
        _ => Err(format!("no predicate: {form}")),
    }
}

fn function(form: &Value, call: &[Value]) -> Told {
    let [Value::Symbol(name), operands @ ..] = call else { return Err(format!("no function: {form}")) };
    match (name.as_str(), operands) {
        ("+" | "-" | "*" | "/" | "quot" | "mod" | "tuple", [_, ..]) | ("count", [_]) => {
            operands.iter().try_for_each(operand)
        }
        ("untuple" | "evalfleet.gateway.day/day", [one]) => variable(one),
        ("ground", [one]) => data(one, 2),
        ("get-else", [source, entity, attr, default]) => {
            told(is(source, "$"), "no database", form)?;
            variable(entity)?;
            attribute(attr)?;
            constant(default)
        }
        _ => Err(format!("no function: {form}")),
    }
}

fn compound(form: &Value, items: &[Value], rules: &Rules) -> Told {
    let [Value::Symbol(name), rest @ ..] = items else { return Err(format!("no clause: {form}")) };
    let clauses = |all: &[Value]| {
        told(!all.is_empty(), "nothing in it", form)?;
        all.iter().try_for_each(|clause| where_clause(clause, rules))
    };
    let branches = |all: &[Value]| {
        told(!all.is_empty(), "nothing in it", form)?;
        all.iter().try_for_each(|branch| match branch.as_list() {
            Some([and, inner @ ..]) if is(and, "and") => clauses(inner),
            _ => where_clause(branch, rules),
        })
    };
    let join = |form: &Value| {
        parameters(form.as_vector().ok_or_else(|| format!("no variables of a join: {form}"))?, form)
    };
    match (name.as_str(), rest) {
        ("not", all) => clauses(all),
        ("or", all) => branches(all),
        ("not-join", [variables, all @ ..]) => {
            join(variables)?;
            clauses(all)
        }
        ("or-join", [variables, all @ ..]) => {
            join(variables)?;
            branches(all)
        }
        (name, all) => {
            told(rules.get(name) == Some(&all.len()), "no rule of that many arguments", form)?;
            all.iter().try_for_each(|one| {
                told(is_variable(one) || is(one, "_") || is_constant(one), "no argument of a rule", form)
            })
        }
    }
}
