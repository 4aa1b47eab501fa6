//! A query is code: Datomic lets it call any function of Clojure and any method of Java. So no text
//! of a person reaches Datomic. It is parsed, checked against a positive grammar, and built anew from
//! what the grammar lists; only the rebuilt query is sent. Pure.
//!
//! ```text
//! text ──parse──▶ EDN ──wrapper──▶ (d/q '… db) taken off: view, inline arguments
//!                                      │
//!                      query: :find :keys :with :in :where ──▶ rebuilt, variables noted
//!                                      │
//!                      arguments and rules ──▶ rebuilt         │
//!                                      ▼                       ▼
//!                                  Question          every variable of :find is bound
//! ```
//!
//! Allowed: data patterns with a constant attribute; `= != < <= > >=` and `missing?` as predicates;
//! `+ - * / quot mod count get-else ground tuple untuple` and the UTC day of an instant as functions;
//! `not or and not-join or-join` and rules given as an argument; Datomic's deterministic aggregates;
//! pull patterns without `:xform`. A list may stand nowhere else, least of all as a constant: a
//! nested call would run.
//!
//! A query must also hang together: two halves without a shared variable would multiply, and Datomic
//! Local can be neither stopped nor kept from using up the memory.

mod argument;
mod clause;
mod find;
mod product;
mod pull;
mod query;
mod scope;
mod unbound;
mod wrapper;

use crate::edn::{self, Limits, Value};
use crate::message::View;

/// Bounds on what a person may ask.
const LIMITS: Limits = Limits { bytes_max: 64 << 10, depth_max: 32, quotes: true };
const CLAUSES_MAX: usize = 100;
const ARGUMENTS_MAX: usize = 16;
const RULES_MAX: usize = 32;

/// What our gateway answers for the UTC day of an instant, as `"YYYY-MM-DD"`.
const DAY: &str = "evalfleet.gateway.day/day";
/// How the user writes it; on Datomic's own dates this very call would throw.
const DAY_AS_WRITTEN: &str = "java.time.LocalDate/from";

/// A query that may be sent. Only [`check`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    query: Value,
    arguments: Vec<Value>,
    view: View,
}

impl Question {
    /// The rebuilt query, in map form.
    pub fn query(&self) -> &Value {
        &self.query
    }

    /// The rebuilt arguments that follow the database.
    pub fn arguments(&self) -> &[Value] {
        &self.arguments
    }

    /// The part of history that the query is put to.
    pub fn view(&self) -> View {
        self.view
    }

    /// The same question put to another part of history, as with a flag `--as-of`.
    ///
    /// # Errors
    /// If the text itself already names one.
    pub fn with_view(self, view: View) -> Result<Self, Refusal> {
        if self.view == View::default() || self.view == view {
            Ok(Self { view, ..self })
        } else {
            Err(Refusal::Form {
                form: "as-of".into(),
                reason: "the query already names its part of history".into(),
            })
        }
    }
}

/// Why a query is not sent. The message names the form at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the query is not EDN: {0}")]
    Edn(#[from] edn::Error),
    #[error("argument {number} is not EDN: {source}")]
    Argument { number: usize, source: edn::Error },
    #[error("refused: {form}: {reason}")]
    Form { form: String, reason: String },
    #[error("{variable} is never bound: {hint}")]
    Unbound { variable: String, hint: String },
}

type Checked = Result<Value, Refusal>;

/// A refusal of one form.
fn refuse<T>(form: &Value, reason: impl Into<String>) -> Result<T, Refusal> {
    const SHOWN_MAX: usize = 160;
    let mut text = form.to_string();
    if text.chars().count() > SHOWN_MAX {
        text = text.chars().take(SHOWN_MAX).chain(['…']).collect();
    }
    Err(Refusal::Form { form: text, reason: reason.into() })
}

/// Checks a query as people write it, with its further arguments as EDN texts.
///
/// # Errors
/// Where anything in it is outside the grammar, or a bound is exceeded.
pub fn check(text: &str, arguments: &[&str]) -> Result<Question, Refusal> {
    let form = edn::parse_with(text, LIMITS)?;
    let written = wrapper::take_off(&form)?;
    let mut given: Vec<Value> = written.arguments.to_vec();
    for (index, text) in arguments.iter().enumerate() {
        let read = edn::parse_with(text, LIMITS);
        given.push(read.map_err(|source| Refusal::Argument { number: index + 1, source })?);
    }
    if given.len() > ARGUMENTS_MAX {
        return refuse(&form, format!("more than {ARGUMENTS_MAX} arguments"));
    }
    let parts = query::Parts::read(written.query)?;
    let (query, arguments) = parts.rebuild(&given, |query| written.wrap(query))?;
    Ok(Question { query, arguments, view: written.view })
}

/// Checks a pull pattern as people write it.
///
/// # Errors
/// Where anything in it is outside the grammar.
pub(crate) fn check_pattern(text: &str) -> Checked {
    pull::pattern(&edn::parse_with(text, LIMITS)?)
}

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod tests;
