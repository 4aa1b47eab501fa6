//! What the gateway answers, read from its EDN into types. An answer that lacks what it must have is
//! a defect, never a default.

use std::time::Duration;

use jiff::Timestamp;

use crate::Error;
use crate::edn::Value;

/// How far the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Opening,
    Ready,
    Failed,
}

/// The gateway's own account of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub status: Status,
    /// `local` or `peer`.
    pub driver: String,
    /// Without secrets.
    pub uri: String,
    pub version: String,
    pub uptime: Duration,
    /// Of the newest transaction, once ready.
    pub basis_t: Option<u64>,
    /// Whether what is written outlives the gateway, once ready.
    pub durable: Option<bool>,
    /// What a person should know, such as that nothing is kept.
    pub note: Option<String>,
    /// While opening: what it does now.
    pub step: Option<String>,
    /// While Datomic Local opens: the size of its log, which it replays.
    pub log_bytes: Option<u64>,
    /// For how long it has been at that.
    pub elapsed: Option<Duration>,
    /// How long that will take in all, by how long it took last time.
    pub expected: Option<Duration>,
    /// Why the store does not open, as of the last try.
    pub last_error: Option<String>,
}

/// A batch that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// The transaction that holds the batch.
    pub basis_t: u64,
    /// It was there already; nothing was written.
    pub duplicate: bool,
    /// New facts, those about the transaction itself left out. 0: all was known.
    pub datoms: u64,
}

/// The shape that `:find` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each row a vector.
    Relation,
    /// Each row a map (`:keys`).
    Maps,
    /// Each row a value (`[?x ...]`).
    Collection,
    /// One vector at most (`[?x ?y]`).
    Tuple,
    /// One value at most (`?x .`).
    Scalar,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub shape: Shape,
    pub rows: Vec<Value>,
    /// The newest transaction when it was answered.
    pub basis_t: u64,
    /// There were more rows than asked for.
    pub truncated: bool,
}

/// One fact: entity, attribute (without its colon), value; added or retracted.
#[derive(Clone, Debug, PartialEq)]
pub struct Datom {
    pub entity: i64,
    pub attribute: String,
    pub value: Value,
    pub added: bool,
}

/// One transaction of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    pub t: u64,
    pub tx_instant: Timestamp,
    pub datoms: Vec<Datom>,
}

/// What a retention comes to, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Whether it is at work still.
    pub running: bool,
    /// Transactions that were looked at, or copied.
    pub transactions: u64,
    /// Of so many, when it began.
    pub of_transactions: u64,
    /// Evaluations that go.
    pub evaluations: u64,
    /// Dead letters that go.
    pub letters: u64,
    /// Entities that go, those two among them.
    pub entities: u64,
    /// Of so many.
    pub of: u64,
    /// Whether they are gone: not when there was nothing, or it was only counted.
    pub changed: bool,
    /// Why it failed, and whether it may be tried again.
    pub failed: Option<(String, bool)>,
}

/// A copy of the store's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Of the newest transaction in it.
    pub basis_t: u64,
    pub files: u64,
    pub bytes: u64,
}

/// A stretch of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub transactions: Vec<Transaction>,
    /// Where the next stretch begins; above `basis_t` when this was the last.
    pub next_t: u64,
    pub basis_t: u64,
}

type Read<T> = Result<T, Error>;

fn missing(what: &str, value: &Value) -> Error {
    let mut text = value.to_string();
    text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
    Error::Defect { message: format!("its answer has no usable {what}: {text}") }
}

fn field<'v, T>(value: &'v Value, key: &str, read: impl FnOnce(&'v Value) -> Option<T>) -> Read<T> {
    value.get(key).and_then(read).ok_or_else(|| missing(key, value))
}

fn whole(value: &Value) -> Option<u64> {
    value.as_int().and_then(|number| u64::try_from(number).ok())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn name(value: &Value) -> Option<String> {
    value.as_keyword().map(str::to_owned)
}

pub(crate) fn health(value: &Value) -> Read<Health> {
    let status = match field(value, "status", Value::as_keyword)? {
        "opening" => Status::Opening,
        "ready" => Status::Ready,
        "failed" => Status::Failed,
        _ => return Err(missing("status", value)),
    };
    Ok(Health {
        status,
        driver: field(value, "driver", name)?,
        uri: field(value, "uri", text)?,
        version: field(value, "version", text)?,
        uptime: Duration::from_millis(field(value, "uptime-ms", whole)?),
        basis_t: value.get("basis-t").and_then(whole),
        durable: value.get("durable").and_then(Value::as_bool),
        note: value.get("note").and_then(text),
        step: value.get("step").and_then(name),
        log_bytes: value.get("log-bytes").and_then(whole),
        elapsed: value.get("elapsed-ms").and_then(whole).map(Duration::from_millis),
        expected: value.get("expected-ms").and_then(whole).map(Duration::from_millis),
        last_error: value.get("last-error").and_then(text),
    })
}

pub(crate) fn transacted(value: &Value) -> Read<Transacted> {
    Ok(Transacted {
        basis_t: field(value, "basis-t", whole)?,
        duplicate: field(value, "duplicate", Value::as_bool)?,
        datoms: field(value, "datoms", whole)?,
    })
}

pub(crate) fn copied(value: &Value) -> Read<Copied> {
    Ok(Copied {
        basis_t: field(value, "basis-t", whole)?,
        files: field(value, "files", whole)?,
        bytes: field(value, "bytes", whole)?,
    })
}

pub(crate) fn retention(value: &Value) -> Read<Retention> {
    let status = field(value, "status", Value::as_keyword)?;
    let number = |key: &str| value.get(key).and_then(whole).unwrap_or(0);
    let message = || value.get("message").and_then(text).unwrap_or_default();
    let busy = value.get("error").and_then(Value::as_keyword) == Some("busy");
    Ok(Retention {
        running: status == "running",
        transactions: number("transactions"),
        of_transactions: number("of-transactions"),
        evaluations: number("evaluations"),
        letters: number("letters"),
        entities: number("entities"),
        of: number("of"),
        changed: value.get("changed").and_then(Value::as_bool).unwrap_or(false),
        failed: (status == "failed").then(|| (message(), busy)),
    })
}

pub(crate) fn answer(value: &Value) -> Read<Answer> {
    let shape = match field(value, "find", Value::as_keyword)? {
        "relation" => Shape::Relation,
        "maps" => Shape::Maps,
        "collection" => Shape::Collection,
        "tuple" => Shape::Tuple,
        "scalar" => Shape::Scalar,
        _ => return Err(missing("find", value)),
    };
    Ok(Answer {
        shape,
        rows: field(value, "rows", Value::as_vector)?.to_vec(),
        basis_t: field(value, "basis-t", whole)?,
        truncated: field(value, "truncated", Value::as_bool)?,
    })
}

/// The entity of a pull, or none.
pub(crate) fn entity(value: &Value) -> Read<Option<Value>> {
    let entity = value.get("entity").ok_or_else(|| missing("entity", value))?;
    Ok(if *entity == Value::Nil { None } else { Some(entity.clone()) })
}

pub(crate) fn log(value: &Value) -> Read<Log> {
    let transactions = field(value, "transactions", Value::as_vector)?;
    Ok(Log {
        transactions: transactions.iter().map(transaction).collect::<Read<_>>()?,
        next_t: field(value, "next-t", whole)?,
        basis_t: field(value, "basis-t", whole)?,
    })
}

fn transaction(value: &Value) -> Read<Transaction> {
    Ok(Transaction {
        t: field(value, "t", whole)?,
        tx_instant: field(value, "tx-instant", Value::as_inst)?,
        datoms: field(value, "datoms", Value::as_vector)?.iter().map(datom).collect::<Read<_>>()?,
    })
}

fn datom(value: &Value) -> Read<Datom> {
    let Some([Value::Int(entity), Value::Keyword(attribute), stored, Value::Bool(added)]) = value.as_vector()
    else {
        return Err(missing("datom", value));
    };
    Ok(Datom { entity: *entity, attribute: attribute.clone(), value: stored.clone(), added: *added })
}
