//! `get`, `list`, `query`: what the API knows.

use super::args::QueryArgs;
use super::failure::Failure;
use super::live::write;
use super::report::report;
use super::run::read_input;
use super::{Context, emit, print_json};
use crate::api::{Api, Query, Rows};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::status::Exit;
use serde_json::Value;
use std::path::Path;

pub(crate) async fn get(context: &Context, id: String, as_of: Option<&str>) -> Result<Exit, Failure> {
    let document = Api::new(&context.settings.api)?.evaluation(&id, as_of).await?;
    match serde_json::from_value::<Evaluation>(document.clone()) {
        Ok(evaluation) if !context.json => {
            if !evaluation.stdout.text.is_empty() {
                emit(evaluation.stdout.text.trim_end())?;
            }
            write(true, evaluation.stderr.text.as_bytes());
            eprintln!("{}", report(&evaluation));
        }
        _ => print_json(&document, true)?,
    }
    Ok(Exit::Passed)
}

pub(crate) async fn list(context: &Context, limit: usize, as_of: Option<&str>) -> Result<Exit, Failure> {
    let document = Api::new(&context.settings.api)?.recent(limit, as_of).await?;
    let entries = document.get("evaluations").or(Some(&document)).and_then(Value::as_array).cloned();
    for entry in entries.unwrap_or_default() {
        if context.json {
            print_json(&entry, false)?;
        } else {
            emit(&line(&entry))?;
        }
    }
    Ok(Exit::Passed)
}

fn line(entry: &Value) -> String {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let tool = entry.get("tool").and_then(Value::as_str);
    let name = tool.map_or_else(|| text("kind"), str::to_owned);
    format!("{}  {:<14} {:<14} {:<16} {}", text("id"), text("status"), text("cause"), name, text("finished"))
}

pub(crate) async fn query(context: &Context, args: QueryArgs) -> Result<Exit, Failure> {
    let text = match args.query.strip_prefix('@') {
        Some(file) => String::from_utf8(read_input(Path::new(file))?).map_err(Failure::usage)?,
        None => args.query,
    };
    let api = Api::new(&context.settings.api)?;
    let rows = api.query(&Query { query: text, args: args.arg, as_of: args.as_of, rows_max: None }).await?;
    if context.json {
        print_json(&rows, true)?;
    } else {
        for row in &rows.rows {
            emit(&cells(row).join("\t"))?;
        }
        eprintln!("{}", footer(&rows));
    }
    Ok(Exit::Passed)
}

fn cells(row: &Value) -> Vec<String> {
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    row.as_array().map_or_else(|| vec![cell(row)], |cells| cells.iter().map(cell).collect())
}

fn footer(rows: &Rows) -> String {
    let basis = rows.basis_t.map(|t| format!(", basis-t {t}")).unwrap_or_default();
    let cut = if rows.truncated { ", cut at the bound" } else { "" };
    format!("{} rows{basis}{cut}", rows.rows.len())
}
