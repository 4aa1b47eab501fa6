//! `dead`: dead letters, shown and replayed.

use super::args::DeadCommand;
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::dead::{Letter, Office, Which};
use evalfleet_proto::status::Exit;
use serde_json::json;

pub(crate) async fn dead(context: &Context, command: DeadCommand) -> Result<Exit, Failure> {
    let office = Office::open(&context.settings).await?;
    let exit = answer(context, &office, command).await;
    office.close().await;
    exit
}

async fn answer(context: &Context, office: &Office, command: DeadCommand) -> Result<Exit, Failure> {
    match command {
        DeadCommand::List { limit } => {
            let letters = office.list(limit).await?;
            for letter in &letters {
                if context.json {
                    print_json(&letter.summary(), false)?;
                } else {
                    emit(&line(letter))?;
                }
            }
            if !context.json {
                eprintln!("{} dead letters", letters.len());
            }
        }
        DeadCommand::Show { id, limit } => {
            let letter = office.show(id, limit).await?;
            let mut document = serde_json::to_value(letter.summary()).unwrap_or_default();
            document["bytes"] = json!(letter.bytes);
            match &letter.job {
                Ok(job) => document["job"] = json!(job),
                Err(error) => document["undecodable"] = json!(error),
            }
            print_json(&document, true)?;
        }
        DeadCommand::Replay { ids, all, dry_run, limit } => {
            let which = if all { Which::All } else { Which::Of(ids) };
            return replay(context, office, &which, limit, dry_run).await;
        }
    }
    Ok(Exit::Passed)
}

async fn replay(
    context: &Context,
    office: &Office,
    which: &Which,
    limit: usize,
    dry: bool,
) -> Result<Exit, Failure> {
    let outcomes = office.replay(which, limit, dry).await?;
    let mut refused = 0;
    for outcome in &outcomes {
        refused += usize::from(outcome.refused.is_some());
        if context.json {
            let (of, id) = (outcome.letter.id, outcome.job);
            let document = json!({"replay_of": of, "id": id, "dry_run": dry, "refused": outcome.refused});
            print_json(&document, false)?;
            continue;
        }
        let of = outcome.letter.id.map_or_else(|| "(no id)".to_owned(), |id| id.to_string());
        match (&outcome.job, &outcome.refused) {
            (Some(id), _) => emit(&format!("{of} -> {id}"))?,
            (None, why) => eprintln!("{of}: {}", why.as_deref().unwrap_or("not replayed")),
        }
    }
    if !context.json {
        let done = if dry { "would be replayed" } else { "replayed" };
        eprintln!("{} {done}", outcomes.len() - refused);
    }
    Ok(if refused > 0 { Exit::Harness } else { Exit::Passed })
}

fn line(letter: &Letter) -> String {
    let it = letter.summary();
    let id = it.id.map_or_else(|| "(no id)".to_owned(), |id| id.to_string());
    let died = it.died.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let subject: String = it.subject.unwrap_or_else(|| "-".to_owned()).chars().take(40).collect();
    format!("{id}  {:<14} {died}  {subject}\n    {}", it.reason, it.error)
}
