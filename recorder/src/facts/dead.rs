//! From dead letters, and from what is done with them, to facts. Pure.
//!
//! A letter and each word about it are facts about one entity, named as the letter is. Recording either
//! again adds nothing.

use super::{Facts, one_of, word};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::dead::{Card, Did, Handled};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::Sha256;

/// The facts of a letter whose message is kept under `body`, and its full document under `document`.
pub fn letter(card: &Card, body: Sha256, document: Sha256) -> Value {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Facts::of("dead-letter/id", card.id.clone())
        .maybe("dead-letter/job", card.job.map(|id| Value::Str(id.to_string())))
        .put("dead-letter/reason", word(&card.reason))
        .maybe("dead-letter/cause", card.cause.map(|cause| word(cause.as_str())))
        .text("dead-letter/last-error", &card.error)
        .maybe("dead-letter/lane", card.lane.clone().map(Value::keyword))
        .maybe("dead-letter/kind", card.kind.as_deref().map(word))
        .text("dead-letter/tool", &text(&card.tool))
        .text("dead-letter/worker", &text(&card.worker))
        .text("dead-letter/batch", &text(&card.batch))
        .text("dead-letter/model", &text(&card.model))
        .text("dead-letter/image", &text(&card.image))
        .count("dead-letter/attempts", card.attempts)
        .maybe("dead-letter/submitted", card.submitted.map(Value::Inst))
        .put("dead-letter/timestamp", Value::Inst(card.died))
        .maybe("dead-letter/replay-of", card.replay_of.map(|id| Value::Str(id.to_string())))
        .put("dead-letter/replayable", Value::Bool(card.replayable))
        .put("dead-letter/body-sha256", Value::Str(body.to_string()))
        .put("dead-letter/document", Value::Str(document.to_string()))
        .done()
}

/// The facts of what was done with a letter; `None` when this build does not know what that is.
pub fn handled(handled: &Handled) -> Option<Value> {
    let facts = Facts::of("dead-letter/id", handled.letter.clone())
        .put("dead-letter/handled-at", Value::Inst(handled.at))
        .text("dead-letter/handled-by", &handled.by);
    let facts = match &handled.did {
        Did::Replayed { job } => facts
            .put("dead-letter/handled", Value::keyword("replayed"))
            .many("dead-letter/replays", vec![Value::Str(job.to_string())]),
        Did::Dropped { reason } => facts
            .put("dead-letter/handled", Value::keyword("dropped"))
            .text("dead-letter/drop-reason", reason),
        Did::Unknown => return None,
    };
    Some(facts.done())
}

/// What joins the letter of a dead job to the job's evaluation. The rest the letter itself tells.
pub(super) fn joined(evaluation: &Evaluation) -> Value {
    let id = evaluation.id.to_string();
    Facts::of("dead-letter/id", id.clone())
        .put("dead-letter/job", Value::Str(id.clone()))
        .put("dead-letter/evaluation", one_of("evaluation/id", id))
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::dead::{DeadLetter, Letter, Reason};

    fn card() -> Card {
        let letter = DeadLetter {
            schema: 1,
            id: "0198c1c2-0000-7000-8000-000000000000".parse().unwrap(),
            reason: Reason::AttemptsSpent,
            error: "the VM died".repeat(500),
            lane: "default".parse().unwrap(),
            attempts: Vec::new(),
            worker: "w1".to_owned(),
            died: Timestamp::UNIX_EPOCH,
            body: Vec::new(),
        };
        Letter::of_ours(letter).card(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_letter_has_few_facts_and_none_that_the_store_would_refuse() {
        let (key, document) = (Sha256::of(b"body"), Sha256::of(b"document"));
        let facts = letter(&card(), key, document);
        let entries = facts.as_map().unwrap();
        assert!(entries.len() <= 20, "{facts}");
        let texts = entries.iter().filter_map(|(_, value)| value.as_str());
        assert!(texts.map(|text| text.chars().count()).all(|chars| chars <= 4096), "{facts}");
        assert_eq!(facts.get("dead-letter/reason").and_then(Value::as_keyword), Some("attempts-spent"));
        assert_eq!(facts.get("dead-letter/tool"), None, "what is absent is not written");
    }

    #[test]
    fn what_was_done_is_told_about_the_letter() {
        let replay = "0198c1c2-0000-7000-8000-000000000001";
        let did = Did::Replayed { job: replay.parse().unwrap() };
        let told = Handled {
            schema: 1,
            letter: card().id,
            did,
            by: "me@here".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        let facts = handled(&told).unwrap();
        assert_eq!(facts.get("dead-letter/id").and_then(Value::as_str), Some(card().id.as_str()));
        let replays = facts.get("dead-letter/replays").and_then(Value::as_vector).unwrap();
        assert_eq!(replays, [Value::Str(replay.to_owned())]);
        assert_eq!(handled(&Handled { did: Did::Unknown, ..told }), None);
    }
}
