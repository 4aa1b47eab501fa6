//! The `(d/q '[…] db)` around a query, which people copy with it: taken off here, and what it says
//! about the database (`d/as-of`, `d/since`, `d/history`) kept.

use super::{Refusal, refuse};
use crate::edn::Value;
use crate::message::{Point, View};

const CALLS: [&str; 4] = ["d/q", "q", "datomic.api/q", "datomic.client.api/q"];

/// A text's parts.
pub(super) struct Written<'a> {
    pub(super) query: &'a Value,
    pub(super) arguments: &'a [Value],
    pub(super) view: View,
    database: Option<&'a Value>,
}

impl Written<'_> {
    /// A query written as this one was, for a message that shows how it should be.
    pub(super) fn wrap(&self, query: &str) -> String {
        match self.database {
            Some(database) => {
                let rest: String = self.arguments.iter().map(|argument| format!(" {argument}")).collect();
                format!("(d/q '{query} {database}{rest})")
            }
            None => query.to_owned(),
        }
    }
}

/// Separates the query from its wrapper, if it has one.
pub(super) fn take_off(form: &Value) -> Result<Written<'_>, Refusal> {
    let Some(call) = form.as_list() else {
        return Ok(Written { query: form, arguments: &[], view: View::default(), database: None });
    };
    match call {
        [head, query, database, arguments @ ..] if is_call(head, &CALLS) => {
            let mut view = View::default();
            read_database(database, &mut view)?;
            Ok(Written { query, arguments, view, database: Some(database) })
        }
        _ => refuse(form, "a query is [:find …], {:find […] …} or (d/q '[:find …] db)"),
    }
}

fn is_call(head: &Value, names: &[&str]) -> bool {
    head.as_symbol().is_some_and(|name| names.contains(&name))
}

fn read_database(form: &Value, view: &mut View) -> Result<(), Refusal> {
    if form.as_symbol() == Some("db") {
        return Ok(());
    }
    match form.as_list() {
        Some([head, conn]) if is_call(head, &["d/db"]) && conn.as_symbol() == Some("conn") => Ok(()),
        Some([head, inner]) if is_call(head, &["d/history"]) && !view.history => {
            view.history = true;
            read_database(inner, view)
        }
        Some([head, inner, at]) if is_call(head, &["d/as-of"]) && view.as_of.is_none() => {
            view.as_of = Some(point(at)?);
            read_database(inner, view)
        }
        Some([head, inner, at]) if is_call(head, &["d/since"]) && view.since.is_none() => {
            view.since = Some(point(at)?);
            read_database(inner, view)
        }
        _ => refuse(
            form,
            "the database is db, (d/as-of db #inst \"…\"), (d/since db #inst \"…\") or (d/history db)",
        ),
    }
}

fn point(form: &Value) -> Result<Point, Refusal> {
    let at = form
        .as_inst()
        .map(Point::Time)
        .or_else(|| form.as_int().and_then(|t| u64::try_from(t).ok()).map(Point::T));
    at.map_or_else(|| refuse(form, "a point in history is an #inst or a t (a whole number)"), Ok)
}
