//! Clauses that share no variable multiply: every row of the one with every row of the other. Two
//! such halves are let through only if a constant or an input narrows at least one of them.

use super::scope::{is_constant, variables};
use super::{Refusal, refuse};
use crate::edn::Value;

/// Clauses that hang together.
struct Group {
    variables: Vec<Value>,
    narrowed: bool,
    first: Value,
}

/// Refuses a query of two halves that nothing narrows.
pub(super) fn check(wheres: &[Value], inputs: &[Value]) -> Result<(), Refusal> {
    let mut given = Vec::new();
    inputs.iter().for_each(|input| variables(input, &mut given));
    let mut groups: Vec<Group> = Vec::new();
    for clause in wheres.iter().filter(|clause| gives_rows(clause)) {
        let mut own = Vec::new();
        variables(clause, &mut own);
        let narrowed = has_constant(clause) || own.iter().any(|variable| given.contains(variable));
        let mut group = Group { variables: own, narrowed, first: clause.clone() };
        let (joined, apart): (Vec<Group>, Vec<Group>) = groups
            .into_iter()
            .partition(|other| other.variables.iter().any(|variable| group.variables.contains(variable)));
        for other in joined {
            group.variables.extend(other.variables);
            group.narrowed |= other.narrowed;
            group.first = other.first;
        }
        groups = apart;
        groups.push(group);
    }
    match groups.iter().filter(|group| !group.narrowed).nth(1) {
        Some(group) => refuse(
            &group.first,
            "it shares no variable with the other clauses, so all would be put beside all",
        ),
        None => Ok(()),
    }
}

/// Whether a clause brings rows of its own: predicates and negations only take away.
fn gives_rows(clause: &Value) -> bool {
    match clause.as_vector() {
        Some([Value::List(_)]) => false,
        Some(_) => true,
        None => !clause
            .as_list()
            .and_then(|items| items.first())
            .and_then(Value::as_symbol)
            .is_some_and(|head| matches!(head, "not" | "not-join")),
    }
}

/// Whether a data pattern names its value, or a function computes from constants only.
fn has_constant(clause: &Value) -> bool {
    match clause.as_vector() {
        Some([Value::List(call), _]) => {
            !call.iter().skip(1).any(|operand| operand.as_symbol().is_some_and(|name| name.starts_with('?')))
        }
        Some(items) => items.iter().any(|item| is_constant(item) && !is_attribute(item, items)),
        None => false,
    }
}

/// The attribute is the first keyword of a pattern; a keyword after it is a value.
fn is_attribute(item: &Value, items: &[Value]) -> bool {
    items.iter().find(|item| item.as_keyword().is_some()).is_some_and(|first| std::ptr::eq(first, item))
}

#[cfg(test)]
mod tests {
    use crate::guard::check;

    #[test]
    fn halves_that_multiply_are_refused() {
        for text in [
            "[:find (count ?a) :with ?b :where [?a :evaluation/id] [?b :evaluation/id]]",
            "[:find ?x ?y :where [?a :evaluation/id ?x] [?b :evaluation/id ?y] [(< ?x ?y)]]",
            "[:find ?x ?y :where [?a :evaluation/id ?x] [?b :evaluation/id ?y] (not [?a :evaluation/batch ?b])]",
            "[:find ?x ?y :where [?a :evaluation/id ?x] (or [?b :evaluation/key ?y] [?b :evaluation/error ?y])]",
        ] {
            let message = check(text, &[]).expect_err(text).to_string();
            assert!(message.contains("shares no variable"), "{text}: {message}");
        }
    }

    #[test]
    fn halves_that_hang_together_or_are_narrowed_pass() {
        for (text, arguments) in [
            (
                "[:find ?x ?y :where [?a :evaluation/id ?x] [?b :evaluation/batch ?a] [?b :evaluation/id ?y]]",
                vec![],
            ),
            (
                "[:find ?x ?y :where [?a :evaluation/id ?x] [?b :evaluation/id ?y] [?a :evaluation/batch ?b]]",
                vec![],
            ),
            (
                "[:find ?x ?y :where [?a :evaluation/id \"a\"] [?a :evaluation/key ?x] [?b :evaluation/id ?y]]",
                vec![],
            ),
            (
                "[:find ?x ?y :in $ ?i :where [?a :evaluation/id ?i] [?a :evaluation/key ?x] [?b :evaluation/id ?y]]",
                vec!["\"a\""],
            ),
            ("[:find ?x ?y :where [?a :evaluation/id ?x] [(ground 5) ?y]]", vec![]),
        ] {
            assert!(check(text, &arguments).is_ok(), "{text}");
        }
    }
}
