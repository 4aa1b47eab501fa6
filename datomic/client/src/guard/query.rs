//! A query's clauses, from either way to write them, put together again in one order.

use super::argument::{self, Inputs};
use super::scope::{Scope, is_plain, variable};
use super::{Refusal, clause, find, product, refuse, unbound};
use crate::edn::Value;

const LABELS: [&str; 3] = ["keys", "syms", "strs"];

/// The clauses of a query as they were written.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) find: Vec<Value>,
    pub(super) labels: Option<(String, Vec<Value>)>,
    pub(super) with: Vec<Value>,
    pub(super) inputs: Option<Vec<Value>>,
    pub(super) wheres: Vec<Value>,
}

impl Parts {
    /// Reads the vector form `[:find … :where …]` or the map form `{:find […] :where […]}`.
    pub(super) fn read(form: &Value) -> Result<Self, Refusal> {
        let mut parts = Self::default();
        let mut seen = Vec::new();
        let mut add = |key: &Value, items: &[Value]| {
            if seen.contains(key) {
                return refuse(key, "stands twice");
            }
            seen.push(key.clone());
            parts.set(key, items)
        };
        if let Some(entries) = form.as_map() {
            for (key, value) in entries {
                let Some(items) = value.as_vector() else {
                    return refuse(value, format!("{key} wants a vector"));
                };
                add(key, items)?;
            }
        } else if let Some(mut items) = form.as_vector() {
            while let Some((key, rest)) = items.split_first() {
                if key.as_keyword().is_none() {
                    return refuse(key, "a query begins with :find");
                }
                let end = rest.iter().position(|item| item.as_keyword().is_some()).unwrap_or(rest.len());
                let (own, others) = rest.split_at(end);
                add(key, own)?;
                items = others;
            }
        } else {
            return refuse(
                form,
                "a query is [:find … :where …] or {:find […] :where […]}, as data and not as a string",
            );
        }
        for (key, items) in [("find", &parts.find), ("where", &parts.wheres)] {
            if items.is_empty() {
                return refuse(&Value::keyword(key), "is missing or empty");
            }
        }
        Ok(parts)
    }

    fn set(&mut self, key: &Value, items: &[Value]) -> Result<(), Refusal> {
        match key.as_keyword() {
            Some("find") => self.find = items.to_vec(),
            Some("with") => self.with = items.to_vec(),
            Some("in") => self.inputs = Some(items.to_vec()),
            Some("where") => self.wheres = items.to_vec(),
            Some(label) if LABELS.contains(&label) && self.labels.is_none() => {
                self.labels = Some((label.to_owned(), items.to_vec()));
            }
            _ => {
                return refuse(
                    key,
                    "the clauses of a query are :find, one of :keys :syms :strs, :with, :in and :where",
                );
            }
        }
        Ok(())
    }

    /// Checks everything and builds the query anew, in map form, beside its arguments. `wrap` shows
    /// a query as the caller would write it.
    pub(super) fn rebuild(
        &self,
        given: &[Value],
        wrap: impl Fn(&str) -> String,
    ) -> Result<(Value, Vec<Value>), Refusal> {
        let mut scope = Scope::default();
        let Inputs { names, arguments } = argument::read(self.inputs.as_deref(), given, &mut scope)?;
        let wheres = clause::all(&self.wheres, &mut scope)?;
        let found = find::read(&self.find)?;
        let with = self.with.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
        let labels = self.checked_labels(found.columns)?;
        product::check(&wheres, &names)?;
        unbound::check(self, found.variables.iter().chain(&with), &scope, wrap)?;

        let mut entries = vec![(Value::keyword("find"), Value::Vector(found.items))];
        entries.extend(labels);
        if !with.is_empty() {
            entries.push((Value::keyword("with"), Value::Vector(with)));
        }
        entries.push((Value::keyword("in"), Value::Vector(names)));
        entries.push((Value::keyword("where"), Value::Vector(wheres)));
        Ok((Value::Map(entries), arguments))
    }

    fn checked_labels(&self, columns: usize) -> Result<Option<(Value, Value)>, Refusal> {
        let Some((key, names)) = &self.labels else { return Ok(None) };
        let keyword = Value::keyword(key.clone());
        if let Some(name) = names.iter().find(|name| !name.as_symbol().is_some_and(is_plain)) {
            return refuse(name, format!("{keyword} takes plain words"));
        }
        if names.len() != columns {
            return refuse(&keyword, format!("{} names for {columns} columns", names.len()));
        }
        Ok(Some((keyword, Value::Vector(names.clone()))))
    }

    /// The query in vector form, as people write it.
    pub(super) fn written(&self) -> String {
        let mut items = vec![Value::keyword("find")];
        items.extend(self.find.clone());
        if let Some((key, names)) = &self.labels {
            items.push(Value::keyword(key.clone()));
            items.extend(names.clone());
        }
        for (key, forms) in
            [("with", Some(&self.with)), ("in", self.inputs.as_ref()), ("where", Some(&self.wheres))]
        {
            if let Some(forms) = forms.filter(|forms| !forms.is_empty()) {
                items.push(Value::keyword(key));
                items.extend(forms.clone());
            }
        }
        Value::Vector(items).to_string()
    }
}
