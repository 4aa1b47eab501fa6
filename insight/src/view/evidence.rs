//! What evaluations of a moment have in common, as analytics read it.

use crate::projection::{At, Row, Symbol, World};

/// How many of the newest evaluations insights rest on.
pub(super) const ROWS_MAX: usize = 20_000;

/// The newest evaluations that have a verdict, oldest first.
pub(super) fn newest(world: &World, at: At) -> Vec<&Row> {
    let question = world.symbols().find("question");
    let with_verdict = world.by_time(at, None).map(|(_, row)| row).filter(|row| row.outcome().is_some());
    let mut rows: Vec<&Row> = with_verdict.filter(|row| row.kind != question).take(ROWS_MAX).collect();
    rows.reverse();
    rows
}

/// Attributes by which evaluations differ.
pub(super) fn attributes<'w>(world: &'w World, row: &Row) -> Vec<(&'static str, &'w str)> {
    let text = |symbol: Option<Symbol>| symbol.map(|symbol| world.symbols().text(symbol));
    let all = [
        ("tool", text(row.tool())),
        ("worker", text(row.worker)),
        ("image", text(row.image)),
        ("model", text(row.model)),
        ("accelerator", text(row.accelerator)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
