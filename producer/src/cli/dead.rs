//! `dead`: dead letters, listed and shown out of the history, replayed and dropped out of their queue.

use super::args::{DeadCommand, DeadListArgs, DeadReplayArgs, DeadWhich};
use super::failure::Failure;
use super::progress::Progress;
use super::{Context, emit, print_json};
use crate::api::{Api, DeadLetters};
use crate::dead::{Action, Card, Error, Filter, Office, Order, Outcome, State, Which};
use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Exit;
use serde_json::{Value, json};

/// Letters that one page of the API may have.
const PAGE: usize = 1000;

pub(crate) async fn dead(context: &Context, command: DeadCommand) -> Result<Exit, Failure> {
    match command {
        DeadCommand::List(args) if args.queue => browse(context, &args).await,
        DeadCommand::List(args) => list(context, &args).await,
        DeadCommand::Show { id, as_of } => show(context, &id, as_of.as_deref()).await,
        DeadCommand::Replay(args) => Box::pin(replay(context, args)).await,
        DeadCommand::Drop { which, reason, dry_run } => {
            let order = Order {
                which: meant(&which)?,
                action: Action::Drop { reason },
                dry: dry_run,
                rate: None,
                max: which.limit,
            };
            Box::pin(carry_out(context, &order)).await
        }
    }
}

fn filter(terms: &[String]) -> Result<Filter, Failure> {
    Filter::parse(terms).map_err(Failure::usage)
}

fn meant(which: &DeadWhich) -> Result<Which, Failure> {
    if which.ids.is_empty() {
        return Ok(Which::Fitting(Box::new(filter(&which.terms)?)));
    }
    Ok(Which::Of(which.ids.clone()))
}

async fn list(context: &Context, args: &DeadListArgs) -> Result<Exit, Failure> {
    let filter = filter(&args.terms)?;
    let api = Api::new(&context.settings.api)?;
    let mut shown = 0;
    let DeadLetters { total, omitted, basis_t, .. } = loop {
        let limit = (args.limit - shown).min(PAGE);
        let page = api.dead_letters(&filter, args.as_of.as_deref(), args.skip + shown, limit).await?;
        for card in &page.dead_letters {
            put(context, card)?;
        }
        shown += page.dead_letters.len();
        if page.dead_letters.len() < limit || shown >= args.limit {
            break page;
        }
    };
    if !context.json {
        let more = if omitted > 0 { format!(", {omitted} older ones left out") } else { String::new() };
        eprintln!("{shown} of {total} dead letters, basis-t {basis_t}{more}");
    }
    Ok(Exit::Passed)
}

/// What the queue itself holds: also where the history cannot be asked.
async fn browse(context: &Context, args: &DeadListArgs) -> Result<Exit, Failure> {
    let filter = filter(&args.terms)?;
    let office = Office::open(&context.settings).await?;
    let letters = office.list(args.limit).await;
    office.close().await;
    let mut shown = 0;
    for letter in letters? {
        let card = letter.card(Timestamp::now());
        if filter.has(&card) {
            put(context, &card)?;
            shown += 1;
        }
    }
    if !context.json {
        eprintln!("{shown} dead letters in the queue");
    }
    Ok(Exit::Passed)
}

fn put(context: &Context, card: &Card) -> Result<(), Failure> {
    if context.json { print_json(card, false) } else { emit(&line(card)) }
}

fn line(card: &Card) -> String {
    let tool: String = card.tool.as_deref().unwrap_or("-").chars().take(40).collect();
    let state = match card.state {
        State::Waiting | State::Any => String::new(),
        State::Replayed => {
            let replays: Vec<_> = card.replays.iter().map(ToString::to_string).collect();
            format!("\n    replayed as {}", replays.join(", "))
        }
        State::Dropped => format!("\n    dropped: {}", card.drop_reason.as_deref().unwrap_or("-")),
    };
    // Seconds will do, and leave room.
    let died = card.died.strftime("%Y-%m-%dT%H:%M:%SZ");
    let error = card.error.lines().next().unwrap_or_default();
    format!("{}  {:<14} {died}  {tool}\n    {error}{state}", card.id, card.reason)
}

async fn show(context: &Context, id: &str, as_of: Option<&str>) -> Result<Exit, Failure> {
    let document = Api::new(&context.settings.api)?.dead_letter(id, as_of).await?;
    if context.json {
        print_json(&document, true)?;
        return Ok(Exit::Passed);
    }
    emit(&shown(&document))?;
    Ok(Exit::Passed)
}

/// A letter as people read it: its fate first, then why, then what was asked, then its relatives.
fn shown(document: &Value) -> String {
    let text = |key: &str| document[key].as_str().unwrap_or("-").to_owned();
    let mut lines = vec![format!("{}  {}  {}  {}", text("id"), text("state"), text("reason"), text("tool"))];
    lines.push(format!(
        "  given up: {} by {}, after {} tries",
        text("died"),
        text("worker"),
        document["attempts"]
    ));
    lines.push(format!("  because: {}", text("error")));
    for attempt in document["tries"].as_array().into_iter().flatten() {
        let word = |key: &str| attempt[key].as_str().unwrap_or("-");
        lines.push(format!(
            "  try {}: {} on {} until {}: {}",
            attempt["number"],
            word("cause"),
            word("worker"),
            word("ended"),
            word("error")
        ));
    }
    for evidence in document["evidence"].as_array().into_iter().flatten() {
        let word = |key: &str| evidence[key].as_str().unwrap_or("-");
        lines.push(format!("  evidence ({}): {}", word("source"), word("message")));
    }
    for (key, name) in [("batch", "batch"), ("model", "model"), ("image", "image"), ("lane", "lane")] {
        if let Some(value) = document[key].as_str() {
            lines.push(format!("  {name}: {value}"));
        }
    }
    if let Some(by) = document["handled_by"].as_str() {
        let reason = document["drop_reason"].as_str().map_or(String::new(), |reason| format!(": {reason}"));
        lines.push(format!("  {} {} by {by}{reason}", text("state"), text("handled")));
    }
    match document.get("undecodable").and_then(Value::as_str) {
        Some(why) => lines.push(format!("  input: {} bytes that are no job: {why}", document["bytes"])),
        None => {
            let input = serde_json::to_string_pretty(&document["input"]).unwrap_or_default();
            lines.push(format!("  input: {}", input.replace('\n', "\n  ")));
        }
    }
    let lineage = document["lineage"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lineage.len() > 1 {
        lines.push("  asked again:".to_owned());
        for job in lineage {
            let word = |key: &str| job[key].as_str().unwrap_or("not recorded yet");
            let before = job["replay_of"].as_str().map_or(String::new(), |of| format!(", repeats {of}"));
            lines.push(format!("    {}  {}{before}", word("id"), word("status")));
        }
    }
    lines.join("\n")
}

async fn replay(context: &Context, args: DeadReplayArgs) -> Result<Exit, Failure> {
    let order = Order {
        which: meant(&args.which)?,
        action: Action::Replay { changes: args.changes(), again: args.force },
        dry: args.dry_run,
        rate: args.rate,
        max: args.which.limit,
    };
    carry_out(context, &order).await
}

async fn carry_out(context: &Context, order: &Order) -> Result<Exit, Failure> {
    let office = Office::open(&context.settings).await?;
    let exit = count(context, &office, order).await;
    office.close().await;
    exit
}

async fn count(context: &Context, office: &Office, order: &Order) -> Result<Exit, Failure> {
    let expected = match &order.which {
        Which::Of(ids) => ids.len(),
        // As many as there are, of which some may not be meant.
        Which::Fitting(_) => office.depth().await?,
    };
    let progress = Progress::of(expected.min(order.max.unwrap_or(usize::MAX)));
    let (mut done, mut refused, mut failed) = (0_usize, 0_usize, None);
    let carried_out = office
        .carry_out(order, |outcome| {
            progress.step();
            if outcome.refused.is_some() {
                refused += 1
            } else {
                done += 1
            }
            if let Err(failure) = progress.suspend(|| tell(context, order, outcome)) {
                failed.get_or_insert(failure);
            }
        })
        .await;
    progress.end();
    if !context.json {
        let what = match (&order.action, order.dry) {
            (Action::Replay { .. }, false) => "replayed",
            (Action::Replay { .. }, true) => "would be replayed",
            (Action::Drop { .. }, false) => "dropped",
            (Action::Drop { .. }, true) => "would be dropped",
        };
        eprintln!("{done} {what}{}", if refused > 0 { format!(", {refused} not") } else { String::new() });
    }
    carried_out?;
    match failed {
        Some(failure) => Err(failure),
        None => Ok(if refused > 0 { Exit::Harness } else { Exit::Passed }),
    }
}

fn tell(context: &Context, order: &Order, outcome: &Outcome) -> Result<(), Failure> {
    let (of, job) = (&outcome.card.id, outcome.job);
    if context.json {
        let dropped = matches!(order.action, Action::Drop { .. }) && outcome.refused.is_none();
        let document = json!({
            "replay_of": of, "id": job, "dropped": dropped, "dry_run": order.dry, "refused": outcome.refused,
        });
        return print_json(&document, false);
    }
    match (&outcome.refused, job) {
        (Some(why), _) => {
            eprintln!("{of}: {why}");
            Ok(())
        }
        (None, Some(id)) => emit(&format!("{of} -> {id}")),
        (None, None) => emit(of),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Broker(_) | Error::Blobs(_) => Exit::Unreachable,
            Error::Api(error) => error.exit(),
            Error::Client(error) => error.exit(),
            Error::Missing { .. } => Exit::Usage,
        };
        Self::new(exit, error)
    }
}
