//! A transaction's datoms as new versions of rows.
//!
//! Datoms come in no order that helps, so a transaction is read in passes: what has a name (workers,
//! images, cases, …), calls, batches, then their parts. A reference is an entity's number.

use super::row::{Call, Question, Row};
use super::symbols::Symbol;
use super::world::World;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Datom, Transaction};
use evalfleet_proto::status::Cause;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much of an error is kept, in characters.
const ERROR_MAX: usize = 400;

/// What an entity of the store is to us.
#[derive(Debug)]
pub(super) enum Entity {
    /// A worker, an image, a run, a suite, a case.
    Named(Symbol),
    /// A call, and the evaluation that owns it.
    Call { call: Call, owner: Option<i64> },
    /// An evaluation: the number of its newest version.
    Evaluation(u64),
    /// A dead letter: its number among them.
    Letter(u64),
}

type Groups<'t> = BTreeMap<i64, Vec<&'t Datom>>;

fn value<'t>(datoms: &[&'t Datom], attribute: &str) -> Option<&'t Value> {
    datoms.iter().find(|datom| datom.added && datom.attribute == attribute).map(|datom| &datom.value)
}

fn has(datoms: &[&Datom], namespace: &str) -> bool {
    datoms
        .iter()
        .any(|datom| datom.attribute.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/')))
}

fn count(value: &Value) -> u64 {
    value.as_int().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn beginning(text: &str) -> Arc<str> {
    text.char_indices().nth(ERROR_MAX).map_or(text, |(end, _)| &text[..end]).into()
}

impl World {
    /// Takes one transaction in; each is to be given once, in order.
    pub fn apply(&mut self, transaction: &Transaction) {
        let mut groups = Groups::new();
        for datom in &transaction.datoms {
            groups.entry(datom.entity).or_default().push(datom);
        }
        for (entity, datoms) in &groups {
            self.name(*entity, datoms);
        }
        for (entity, datoms) in &groups {
            if has(datoms, "function-call") {
                self.call(*entity, datoms);
            }
        }
        // Batches, and what is only referred to, before what refers to them.
        let (first, others): (Vec<_>, Vec<_>) =
            groups.iter().filter(|(_, datoms)| has(datoms, "evaluation")).partition(|(_, datoms)| {
                value(datoms, "evaluation/kind").is_none_or(|kind| kind.as_keyword() == Some("batch"))
            });
        let mut wrote = false;
        for (entity, datoms) in first.into_iter().chain(others) {
            self.evaluation(transaction.t, *entity, datoms);
            wrote = true;
        }
        for (entity, datoms) in &groups {
            if has(datoms, "dead-letter") {
                self.letter(transaction.t, *entity, datoms);
                wrote = true;
            }
        }
        wrote |= self.alerts.learn(transaction);
        wrote |= self.healings.learn(transaction);
        // What installs a schema is no moment of the history.
        if wrote {
            self.commit(transaction.t, transaction.tx_instant);
        }
    }

    fn name(&mut self, entity: i64, datoms: &[&Datom]) {
        const NAMES: [&str; 5] = ["worker/id", "image/digest", "run/id", "suite/name", "case/id"];
        if let Some(name) = NAMES.iter().find_map(|name| value(datoms, name)?.as_str()) {
            let symbol = self.symbols.of(name);
            self.entities.insert(entity, Entity::Named(symbol));
        }
        let host = value(datoms, "worker/host").and_then(Value::as_str);
        if let (Some(host), Some(Entity::Named(worker))) = (host, self.entities.get(&entity)) {
            let (worker, host) = (*worker, self.symbols.of(host));
            self.hosts.insert(worker, host);
        }
    }

    fn named(&self, value: &Value) -> Option<Symbol> {
        match self.entities.get(&value.as_int()?)? {
            Entity::Named(symbol) => Some(*symbol),
            Entity::Call { .. } | Entity::Evaluation(_) | Entity::Letter(_) => None,
        }
    }

    fn word(&mut self, value: &Value) -> Option<Symbol> {
        value.as_keyword().map(|word| self.symbols.of(&word.replace('-', "_")))
    }

    fn call(&mut self, entity: i64, datoms: &[&Datom]) {
        let (mut call, owner) = match self.entities.remove(&entity) {
            Some(Entity::Call { call, owner }) => (call, owner),
            Some(_) | None => (Call::default(), None),
        };
        if datoms.iter().any(|datom| !datom.added && datom.attribute == "function-call/success-rate") {
            call.success_rate = None;
        }
        for datom in datoms.iter().filter(|datom| datom.added) {
            match datom.attribute.as_str() {
                "function-call/name" => {
                    call.name = datom.value.as_str().map(|name| self.symbols.of(name));
                }
                "function-call/success-rate" => call.success_rate = datom.value.as_float(),
                "function-call/count" => call.count = count(&datom.value),
                "function-call/failures" => call.failures = count(&datom.value),
                _ => {}
            }
        }
        self.entities.insert(entity, Entity::Call { call, owner });
    }

    fn evaluation(&mut self, t: u64, entity: i64, datoms: &[&Datom]) {
        let known = match self.entities.get(&entity) {
            Some(Entity::Evaluation(number)) => Some(*number),
            Some(_) | None => None,
        };
        let before = known.and_then(|number| self.row(number));
        let mut row = before.as_deref().cloned().unwrap_or_default();
        row.entity = entity;
        // What is taken back first: the new value of an attribute comes with the retraction of the old.
        for datom in datoms.iter().filter(|datom| !datom.added) {
            self.retract(&mut row, datom);
        }
        for datom in datoms.iter().filter(|datom| datom.added) {
            self.assert(&mut row, datom);
        }
        if row.id.is_empty() {
            return;
        }
        if row.is_batch {
            self.symbols.of(&row.id);
        }
        self.inherit(&mut row);
        let (calls, model) = (self.calls_of(&row), row.model);
        row.calls = calls;
        let (is_batch, batch_entity) = (row.is_batch, row.batch_entity);
        let number = self.put(t, row, known);
        self.entities.insert(entity, Entity::Evaluation(number));
        if batch_entity != 0 && before.as_ref().is_none_or(|before| before.batch_entity != batch_entity) {
            self.parts.entry(batch_entity).or_default().push(entity);
        }
        if is_batch && before.is_some_and(|before| before.model != model) {
            self.pass_on(t, entity, model);
        }
    }

    /// What a part has of its batch: the model, and, for a question, the time.
    fn inherit(&self, row: &mut Row) {
        let Some(Entity::Evaluation(number)) = self.entities.get(&row.batch_entity) else { return };
        let Some(batch) = self.row(*number) else { return };
        row.batch = self.symbols.find(&batch.id);
        row.model = row.model.or(batch.model);
        if row.at == 0 {
            row.at = batch.at;
        }
    }

    /// A batch learned its model after its first parts were recorded.
    fn pass_on(&mut self, t: u64, batch: i64, model: Option<Symbol>) {
        for part in self.parts.get(&batch).cloned().unwrap_or_default() {
            let Some(Entity::Evaluation(number)) = self.entities.get(&part) else { continue };
            let number = *number;
            let Some(row) = self.row(number) else { continue };
            if row.model != model {
                let renewed = self.put(t, Row { model, ..(*row).clone() }, Some(number));
                self.entities.insert(part, Entity::Evaluation(renewed));
            }
        }
    }

    fn calls_of(&mut self, row: &Row) -> Arc<[Call]> {
        let mut calls = Vec::new();
        for entity in &row.call_entities {
            if let Some(Entity::Call { call, owner }) = self.entities.get_mut(entity) {
                *owner = Some(row.entity);
                calls.push(call.clone());
            }
        }
        calls.into()
    }

    fn retract(&self, row: &mut Row, datom: &Datom) {
        match datom.attribute.as_str() {
            "evaluation/status" => {
                row.status = None;
                row.has_passed = false;
            }
            "evaluation/cause" => row.cause = None,
            "evaluation/success-rate" => row.success_rate = None,
            "evaluation/success-rate-adjusted" => row.adjusted_rate = None,
            "evaluation/model" => row.model = None,
            "evaluation/error" => row.error = None,
            "evaluation/labels" => {
                let gone = datom.value.as_str().and_then(|label| self.symbols.find(label));
                row.labels.retain(|label| Some(*label) != gone);
            }
            _ => {}
        }
    }

    fn assert(&mut self, row: &mut Row, datom: &Datom) {
        let Some(name) = datom.attribute.strip_prefix("evaluation/") else { return };
        let value = &datom.value;
        let text = value.as_str();
        match name {
            "id" => row.id = text.unwrap_or_default().into(),
            "kind" => {
                row.kind = self.word(value);
                row.is_batch = value.as_keyword() == Some("batch");
            }
            "status" => {
                row.status = self.word(value);
                row.has_passed = value.as_keyword() == Some("passed");
            }
            "cause" => row.cause = value.as_keyword().and_then(Cause::parse),
            "timestamp" => row.at = value.as_inst().map_or(0, |time| time.as_millisecond()),
            "success-rate" => row.success_rate = value.as_float(),
            "success-rate-adjusted" => row.adjusted_rate = value.as_float(),
            "model" => row.model = text.map(|model| self.symbols.of(model)),
            "worker" => row.worker = self.named(value),
            "image" => row.image = self.named(value),
            "run" => row.run = self.named(value),
            "suite" => row.suite = self.named(value),
            "case" => row.case = self.named(value),
            "accelerator" => row.accelerator = self.word(value),
            "lane" => row.lane = self.word(value),
            "question" => row.case = text.map(|question| self.symbols.of(question)),
            "expected-tools" => self.ask(row, text, |question| &mut question.expected),
            "actual-tools" => self.ask(row, text, |question| &mut question.called),
            "batch" => self.join(row, value),
            "replay-of" => {
                let of = value.as_int().and_then(|entity| self.id_of(entity));
                row.replay_of = of.map(|id| self.symbols.of(&id));
            }
            "function-calls" => row.call_entities.extend(value.as_int()),
            "labels" => row.labels.extend(text.map(|label| self.symbols.of(label))),
            "error" => row.error = text.map(beginning),
            "exit-code" => row.exit_code = value.as_int(),
            "attempt" => row.attempt = u32::try_from(count(value)).unwrap_or(u32::MAX),
            "total" => row.sums.total = count(value),
            "passed" => row.sums.passed = count(value),
            "infrastructure-faults" => row.sums.infrastructure = count(value),
            "effects-unexpected" => row.effects_unexpected = count(value),
            "effects-created" | "effects-changed" | "effects-deleted" | "effects-replaced" => {
                row.effects += count(value);
            }
            _ => measure(row, name, count(value)),
        }
    }

    /// One more tool of a question.
    fn ask(&mut self, row: &mut Row, tool: Option<&str>, of: fn(&mut Question) -> &mut Vec<Symbol>) {
        let Some(tool) = tool.map(|tool| self.symbols.of(tool)) else { return };
        let tools = of(Arc::make_mut(row.question.get_or_insert_default()));
        if !tools.contains(&tool) {
            tools.push(tool);
        }
    }

    fn join(&mut self, row: &mut Row, value: &Value) {
        row.batch_entity = value.as_int().unwrap_or(0);
        let id = self.id_of(row.batch_entity);
        row.batch = id.map(|id| self.symbols.of(&id));
    }

    fn id_of(&self, entity: i64) -> Option<Arc<str>> {
        match self.entities.get(&entity)? {
            Entity::Evaluation(number) => Some(self.row(*number)?.id.clone()),
            Entity::Named(_) | Entity::Call { .. } | Entity::Letter(_) => None,
        }
    }

    fn letter(&mut self, t: u64, entity: i64, datoms: &[&Datom]) {
        let number = match self.entities.get(&entity) {
            Some(Entity::Letter(number)) => *number,
            Some(Entity::Named(_) | Entity::Call { .. } | Entity::Evaluation(_)) | None => {
                let number = self.letters.begin();
                self.entities.insert(entity, Entity::Letter(number));
                number
            }
        };
        // It may be one of those that are kept no more.
        let Some(mut letter) = self.letters.get(number).cloned() else { return };
        for datom in datoms.iter().filter(|datom| datom.added) {
            let text = datom.value.as_str();
            match datom.attribute.as_str() {
                "dead-letter/id" => letter.id = text.unwrap_or_default().into(),
                "dead-letter/job" => letter.job = text.unwrap_or_default().into(),
                "dead-letter/reason" => letter.reason = self.word(&datom.value),
                "dead-letter/tool" => letter.tool = text.map(|tool| self.symbols.of(tool)),
                "dead-letter/kind" => letter.kind = self.word(&datom.value),
                "dead-letter/timestamp" => {
                    letter.at = datom.value.as_inst().map_or(0, |time| time.as_millisecond());
                    letter.since = letter.since.min(t);
                }
                "dead-letter/attempts" => letter.attempts = count(&datom.value),
                "dead-letter/last-error" => letter.error = text.map(beginning),
                _ => {}
            }
        }
        self.letters.set(number, letter);
    }
}

fn measure(row: &mut Row, name: &str, value: u64) {
    let measures = &mut row.measures;
    match name {
        "duration-us" => measures.duration = value,
        // A question has no VM: the model's time to answer is its time.
        "wall-us" | "response-us" => measures.wall = value,
        "cpu-user-us" | "cpu-system-us" => measures.cpu += value,
        "queued-us" => measures.queued = value,
        "claim-us" => measures.claim = value,
        "run-us" => measures.run = value,
        "effects-us" => measures.effects = value,
        "report-us" => measures.report = value,
        "reset-us" => measures.reset = value,
        "memory-peak-bytes" => measures.memory = value,
        "disk-written-bytes" => measures.disk_written = value,
        _ => {}
    }
}
