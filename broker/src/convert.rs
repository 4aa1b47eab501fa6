//! Our envelope to and from AMQP's properties. What comes in is read leniently: a message with a
//! foreign envelope must still be dead-lettered with all that can be told of it.

use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{CONTENT_TYPE, Envelope, Headers, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology::INBOX_PREFIX;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

const PERSISTENT: u8 = 2;

pub(crate) fn properties(envelope: &Envelope) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_message_id(envelope.id.to_string().into())
        .with_type(envelope.kind.as_str().into())
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_priority(envelope.priority)
        .with_timestamp(u64::try_from(envelope.timestamp.as_second()).unwrap_or(0))
        .with_app_id("evalfleet".into())
        .with_headers(headers(envelope));
    if let Some(batch) = &envelope.batch {
        properties = properties.with_correlation_id(batch.as_str().into());
    }
    if let (MessageType::Job, Some(inbox)) = (envelope.kind, &envelope.inbox) {
        properties = properties.with_reply_to(inbox.as_str().into());
    }
    properties
}

fn headers(envelope: &Envelope) -> FieldTable {
    let headers = &envelope.headers;
    let mut table = FieldTable::default();
    if let (MessageType::Result | MessageType::Event, Some(inbox)) = (envelope.kind, &envelope.inbox) {
        // A further routing key, which nobody sees who gets the message.
        let keys = vec![AMQPValue::LongString(inbox.as_str().into())];
        table.insert("BCC".into(), AMQPValue::FieldArray(keys.into()));
    }
    let mut text = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            table.insert(name.into(), AMQPValue::LongString(value.into()));
        }
    };
    text("lane", headers.lane.as_ref().map(ToString::to_string));
    text("enqueued", headers.enqueued.map(|time| time.to_string()));
    text("deadline", headers.deadline.map(|time| time.to_string()));
    text("content_key", headers.content_key.map(|key| key.to_string()));
    text("traceparent", headers.traceparent.clone());
    text("last_error", headers.last_error.clone());
    text("last_worker", headers.last_worker.clone());
    text("replay_of", headers.replay_of.map(|id| id.to_string()));
    let mut number = |name: &'static str, value: u32| {
        table.insert(name.into(), AMQPValue::LongUInt(value));
    };
    number("schema", u32::from(headers.schema));
    number("attempt", headers.attempt);
    number("max_attempts", headers.max_attempts);
    table
}

/// Reads the envelope of a message, or gives `None` when it names no job.
pub(crate) fn envelope(properties: &BasicProperties) -> Option<Envelope> {
    let id: JobId = properties.message_id().as_ref()?.as_str().parse().ok()?;
    let kind = properties.kind().as_ref().and_then(|kind| MessageType::parse(kind.as_str()));
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    let empty = FieldTable::default();
    let table = properties.headers().as_ref().unwrap_or(&empty);
    Some(Envelope {
        id,
        kind: kind.unwrap_or(MessageType::Job),
        batch: properties.correlation_id().as_ref().map(|id| id.as_str().to_owned()),
        priority: properties.priority().unwrap_or(0),
        timestamp: seconds.and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH),
        inbox: inbox(properties),
        headers: Headers {
            schema: number(table, "schema").and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
            attempt: number(table, "attempt").unwrap_or(1),
            max_attempts: number(table, "max_attempts").unwrap_or(1),
            lane: text(table, "lane").and_then(|lane| lane.parse().ok()),
            enqueued: text(table, "enqueued").and_then(|time| time.parse().ok()),
            deadline: text(table, "deadline").and_then(|time| time.parse().ok()),
            content_key: text(table, "content_key").and_then(|key| key.parse().ok()),
            traceparent: text(table, "traceparent"),
            last_error: text(table, "last_error"),
            last_worker: text(table, "last_worker"),
            replay_of: text(table, "replay_of").and_then(|id| id.parse().ok()),
        },
    })
}

/// Where an answer is asked for. Only to clients' inboxes: whoever may submit jobs must not reach other queues.
fn inbox(properties: &BasicProperties) -> Option<String> {
    let inbox = properties.reply_to().as_ref()?.as_str();
    inbox.starts_with(INBOX_PREFIX).then(|| inbox.to_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign type is as good as no header")]
fn text(table: &FieldTable, name: &'static str) -> Option<String> {
    match table.inner().get(&ShortString::from(name))? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign type is as good as no header")]
fn number(table: &FieldTable, name: &'static str) -> Option<u32> {
    match table.inner().get(&ShortString::from(name))? {
        AMQPValue::LongUInt(number) => Some(*number),
        AMQPValue::LongInt(number) => u32::try_from(*number).ok(),
        AMQPValue::LongLongInt(number) => u32::try_from(*number).ok(),
        AMQPValue::ShortUInt(number) => Some(u32::from(*number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_survives_the_broker() {
        let id = JobId::fresh();
        let mut sent = Envelope::new(MessageType::Job, id, Timestamp::from_second(1_700_000_000).unwrap());
        sent.batch = Some("night".to_owned());
        sent.priority = 7;
        sent.headers.attempt = 2;
        sent.headers.lane = Some("urgent".parse().unwrap());
        sent.headers.last_error = Some("the VM died".to_owned());
        sent.headers.replay_of = Some(JobId::fresh());
        sent.inbox = Some("eval.client.one".to_owned());
        assert_eq!(envelope(&properties(&sent)), Some(sent));
    }

    #[test]
    fn an_answer_goes_to_inboxes_alone() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let of = |kind, inbox| Envelope::new(kind, JobId::fresh(), now).for_inbox(Some(inbox));
        let asked = properties(&of(MessageType::Job, "eval.results.recorder"));
        assert_eq!(envelope(&asked).unwrap().inbox, None);
        let told = properties(&of(MessageType::Result, "eval.client.one"));
        let keys = told.headers().as_ref().unwrap().inner()["BCC"].as_array().unwrap().as_slice().to_vec();
        assert_eq!((keys, told.reply_to()), (vec![AMQPValue::LongString("eval.client.one".into())], &None));
    }

    #[test]
    fn a_message_without_a_job_has_no_envelope() {
        assert_eq!(envelope(&BasicProperties::default()), None);
        assert_eq!(envelope(&BasicProperties::default().with_message_id("job-1".into())), None);
    }
}
