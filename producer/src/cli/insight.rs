//! `insights`, `ci compare`, `serve`, `dashboard`: what the history means, and where it is looked at.

use super::args::CiCommand;
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::api::{Api, Comparison};
use crate::machine::plan::sibling;
use evalfleet_proto::status::Exit;
use serde_json::Value;
use std::os::unix::process::CommandExt as _;

/// The most rows of a table in a report: a pull request's comment has a bound.
const ROWS_MAX: usize = 50;

pub(crate) async fn insights(context: &Context, as_of: Option<&str>) -> Result<Exit, Failure> {
    let document = Api::new(&context.settings.api)?.insights(as_of).await?;
    if context.json {
        print_json(&document, true)?;
        return Ok(Exit::Passed);
    }
    let found = document["insights"].as_array().cloned().unwrap_or_default();
    for insight in &found {
        let text = |key: &str| insight[key].as_str().unwrap_or("-");
        emit(&format!("{:<9} {}", text("severity"), text("title")))?;
        emit(&format!("          {}", text("statement")))?;
        let examples = insight["evaluations"].as_array().map_or(&[][..], |ids| ids);
        if let Some(id) = examples.first().and_then(Value::as_str) {
            emit(&format!("          evalfleet get {id}"))?;
        }
    }
    eprintln!(
        "{} insights from {} evaluations, basis-t {}",
        found.len(),
        document["looked_at"],
        document["basis_t"]
    );
    Ok(Exit::Passed)
}

pub(crate) async fn ci(context: &Context, command: CiCommand) -> Result<Exit, Failure> {
    let CiCommand::Compare { base, head, as_of } = command;
    let compared = Api::new(&context.settings.api)?.compare(&base, &head, as_of.as_deref()).await?;
    let exit = if compared.verdict == "regression" { Exit::Subject } else { Exit::Passed };
    if context.json {
        let mut document = compared.document;
        document.insert("verdict".to_owned(), compared.verdict.into());
        print_json(&document, true)?;
    } else {
        emit(markdown(&compared).trim_end())?;
    }
    Ok(exit)
}

fn percent(share: &Value) -> String {
    share.as_f64().map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn rate(rate: &Value) -> String {
    format!("{} ({}/{})", percent(&rate["rate"]), rate["passed"], rate["tries"])
}

/// What would end a table's cell or begin markup is written out.
fn cell(text: &str) -> String {
    let plain: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    plain.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "\\`")
}

/// A report for a pull request.
fn markdown(compared: &Comparison) -> String {
    let document = &compared.document;
    let field = |key: &str| document.get(key).unwrap_or(&Value::Null);
    let title = match compared.verdict.as_str() {
        "regression" => "❌ Regression",
        "improvement" => "✅ Improvement",
        _ => "✅ No change that is sure",
    };
    let mut lines = vec![format!("## {title}"), String::new()];
    let because = field("because").as_array().cloned().unwrap_or_default();
    lines.extend(because.iter().filter_map(Value::as_str).map(|text| format!("- {}", cell(text))));
    lines.extend(["", "| | base | head |", "| --- | --- | --- |"].map(str::to_owned));
    let sides = [field("base"), field("head")];
    let row = |name: &str, of: &dyn Fn(&Value) -> String| {
        format!("| {name} | {} | {} |", of(sides[0]), of(sides[1]))
    };
    lines.push(row("", &|side| {
        format!("`{}`", side["selector"].as_str().unwrap_or_default().replace('`', ""))
    }));
    lines.push(row("success rate", &|side| rate(&side["standing"]["rate"])));
    lines.push(row("as reported", &|side| rate(&side["standing"]["raw"])));
    lines.push(row("infrastructure faults", &|side| {
        side["standing"]["evaluations"]["infrastructure"].to_string()
    }));
    lines.push(row("median run time", &|side| {
        side["durations"]["p50_ms"].as_f64().map_or_else(|| "–".to_owned(), |time| format!("{time:.1} ms"))
    }));
    table(
        &mut lines,
        "Tools",
        "| tool | base | head | q |\n| --- | --- | --- | --- |",
        field("tools"),
        |tool| {
            let q = tool["q"].as_f64().map_or_else(|| "–".to_owned(), |q| format!("{q:.3}"));
            Some(format!(
                "| {} | {} | {} | {q} |",
                cell(tool["tool"].as_str()?),
                rate(&tool["base"]),
                rate(&tool["head"])
            ))
        },
    );
    table(&mut lines, "Cases that changed", "| case | change |\n| --- | --- |", field("cases"), |case| {
        let change = case["change"].as_str().filter(|change| !["passes", "fails"].contains(change))?;
        Some(format!("| {} | {change} |", cell(case["case"].as_str()?)))
    });
    lines.push(String::new());
    lines.push(format!(
        "As of transaction {}. Infrastructure's failures count on neither side.",
        field("basis_t")
    ));
    lines.join("\n")
}

fn table(
    lines: &mut Vec<String>,
    title: &str,
    head: &str,
    of: &Value,
    row: impl Fn(&Value) -> Option<String>,
) {
    let rows: Vec<String> = of.as_array().into_iter().flatten().filter_map(row).collect();
    if rows.is_empty() {
        return;
    }
    lines.extend([String::new(), format!("### {title}"), String::new(), head.to_owned()]);
    lines.extend(rows.iter().take(ROWS_MAX).cloned());
    if rows.len() > ROWS_MAX {
        lines.extend([String::new(), format!("… and {} more.", rows.len() - ROWS_MAX)]);
    }
}

/// Becomes the API's own program.
pub(crate) fn serve(context: &Context, listen: Option<String>) -> Result<Exit, Failure> {
    let program = sibling("evalfleet-api").map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let mut command = std::process::Command::new(program);
    if let Some(config) = &context.config {
        command.arg("--config").arg(config);
    }
    if let Some(listen) = listen {
        command.env("EVALFLEET_API__LISTEN", listen);
    }
    Err(Failure::new(Exit::Unreachable, format!("the API cannot be started: {}", command.exec())))
}

pub(crate) fn dashboard(context: &Context) -> Result<Exit, Failure> {
    let api = &context.settings.api;
    let url = api.url.trim_end_matches('/');
    let link = if api.token_file.as_os_str().is_empty() {
        format!("{url}/")
    } else {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Usage, format!("the token {}: {error}", api.token_file.display()))
        };
        let token = std::fs::read_to_string(&api.token_file).map_err(failed)?;
        format!("{url}/#token={}", token.trim())
    };
    if context.json {
        print_json(&serde_json::json!({ "url": link }), true)?;
    } else {
        emit(&link)?;
    }
    Ok(Exit::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_names_what_was_lost_and_no_text_breaks_out_of_its_table() {
        let side = |selector: &str, passed: u64| {
            let rate = json!({ "rate": passed as f64 / 20.0, "passed": passed, "tries": 20 });
            json!({ "selector": selector, "durations": null, "standing": { "rate": rate, "raw": rate, "evaluations": { "infrastructure": 0 } } })
        };
        let document = json!({
            "verdict": "regression", "because": ["of 20 cases 8 were lost and 0 gained"], "basis_t": 1042,
            "base": side("run:old", 20), "head": side("run:new", 12), "tools": [],
            "cases": [{ "case": "s/a|b\n<script>", "change": "lost" }, { "case": "s/c", "change": "passes" }],
        });
        let report = markdown(&serde_json::from_value(document).unwrap());
        assert!(report.starts_with("## ❌ Regression"), "{report}");
        assert!(report.contains("| success rate | 100.0 % (20/20) | 60.0 % (12/20) |"), "{report}");
        assert!(report.contains("| s/a\\|b &lt;script> | lost |"), "{report}");
        assert!(!report.contains("s/c"), "{report}");
        assert!(report.contains("transaction 1042"), "{report}");
    }
}
