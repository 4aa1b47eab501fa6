//! What is asked of the gateway, as EDN bodies.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::edn::Value;
use crate::guard::Question;

/// A moment in the history of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Everything recorded up to this time, itself included.
    Time(Timestamp),
    /// Everything up to this transaction, itself included.
    T(u64),
}

/// A text that names no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must be a moment such as 2026-01-31 or 2026-01-31T06:00:00Z, or a transaction such as 1042")]
pub struct NoPoint(pub String);

impl FromStr for Point {
    type Err = NoPoint;

    /// Reads RFC 3339; a date alone, which is its midnight in UTC; or a number, which is a transaction.
    fn from_str(text: &str) -> Result<Self, NoPoint> {
        if let Ok(t) = text.parse::<u64>() {
            return Ok(Self::T(t));
        }
        let with_time = if text.contains(['T', ' ']) { text.to_owned() } else { format!("{text}T00:00:00Z") };
        let has_zone =
            with_time.ends_with('Z') || with_time.get(10..).is_some_and(|time| time.contains(['+', '-']));
        let whole = if has_zone { with_time } else { format!("{with_time}Z") };
        whole.parse().map(Self::Time).map_err(|_| NoPoint(text.to_owned()))
    }
}

impl From<Timestamp> for Point {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

/// The part of history that a question is put to. The default is everything, as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub as_of: Option<Point>,
    pub since: Option<Point>,
    /// Retracted values beside those that hold.
    pub history: bool,
}

/// Results that are written together, once.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The same id is never written twice. 1 to 200 characters.
    pub id: String,
    /// Maps, `[:db/add …]`, `[:db/retract …]`, `[:db/cas …]`.
    pub tx_data: Vec<Value>,
    /// Transaction time of imported history; `None` is now.
    pub tx_instant: Option<Timestamp>,
}

/// Bounds on an answer. The gateway's own are the defaults: 30 s, 10 000 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Up to 300 s.
    pub timeout: Duration,
    /// 1 to 100 000.
    pub rows_max: u32,
}

impl std::fmt::Display for Batch {
    /// As it travels: EDN, on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&transact(self))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), rows_max: 10_000 }
    }
}

/// An entity to pull.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    Id(i64),
    /// A unique attribute (without its colon) and its value.
    Lookup(String, Value),
}

type Entries = Vec<(Value, Value)>;

fn put(entries: &mut Entries, key: &str, value: impl Into<Value>) {
    entries.push((Value::keyword(key), value.into()));
}

fn whole(number: impl TryInto<i64>) -> Value {
    Value::Int(number.try_into().unwrap_or(i64::MAX))
}

fn point(point: Point) -> Value {
    match point {
        Point::Time(time) => Value::Inst(time),
        Point::T(t) => whole(t),
    }
}

fn put_view(entries: &mut Entries, view: View) {
    if let Some(at) = view.as_of {
        put(entries, "as-of", point(at));
    }
    if let Some(at) = view.since {
        put(entries, "since", point(at));
    }
    if view.history {
        put(entries, "history", true);
    }
}

pub(crate) fn transact(batch: &Batch) -> String {
    let mut entries = Entries::new();
    put(&mut entries, "batch-id", batch.id.as_str());
    if let Some(time) = batch.tx_instant {
        put(&mut entries, "tx-instant", time);
    }
    put(&mut entries, "tx-data", batch.tx_data.clone());
    Value::Map(entries).to_string()
}

pub(crate) fn query(question: &Question, bounds: Bounds) -> String {
    let mut entries = Entries::new();
    put(&mut entries, "query", question.query().clone());
    put(&mut entries, "args", question.arguments().to_vec());
    put_view(&mut entries, question.view());
    put(&mut entries, "timeout-ms", whole(bounds.timeout.as_millis()));
    put(&mut entries, "rows-max", whole(bounds.rows_max));
    Value::Map(entries).to_string()
}

pub(crate) fn pull(pattern: &Value, entity: &Entity, view: View) -> String {
    let mut entries = Entries::new();
    put(&mut entries, "pattern", pattern.clone());
    let eid = match entity {
        Entity::Id(id) => Value::Int(*id),
        Entity::Lookup(attribute, value) => {
            Value::Vector(vec![Value::keyword(attribute.clone()), value.clone()])
        }
    };
    put(&mut entries, "eid", eid);
    put_view(&mut entries, view);
    Value::Map(entries).to_string()
}

pub(crate) fn backup(name: &str) -> String {
    let mut entries = Entries::new();
    put(&mut entries, "name", name);
    Value::Map(entries).to_string()
}

pub(crate) fn retain(before: Timestamp, dry_run: bool) -> String {
    let mut entries = Entries::new();
    put(&mut entries, "before", Value::Inst(before));
    put(&mut entries, "dry-run", Value::Bool(dry_run));
    Value::Map(entries).to_string()
}

pub(crate) fn tx_range(start: u64, limit: u32) -> String {
    let mut entries = Entries::new();
    put(&mut entries, "start", whole(start));
    put(&mut entries, "limit", whole(limit));
    Value::Map(entries).to_string()
}
