//! One measurement's results, for people and for programs.

use crate::host::Host;
use crate::series::Summary;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

/// What a measurement found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub benchmark: &'static str,
    /// The machine it was measured on.
    pub host: Host,
    /// What else the numbers depend on.
    pub conditions: BTreeMap<&'static str, String>,
    /// Times in milliseconds.
    pub times: Vec<Row>,
    /// What follows from them.
    pub figures: Vec<Figure>,
}

/// One line of times.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What took so long.
    pub what: &'static str,
    /// How long.
    pub milliseconds: Summary,
}

/// One number that follows from the times.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What it says.
    pub what: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let host = &self.host;
        writeln!(f, "{}, {}", self.benchmark, host.date)?;
        writeln!(f, "  {} cores, {}; load average {}", host.cores, host.model, host.load)?;
        writeln!(f, "  evalfleet {}, {} build", host.version, host.profile)?;
        for (name, value) in &self.conditions {
            writeln!(f, "  {name}: {value}")?;
        }
        writeln!(f)?;
        if !self.times.is_empty() {
            self.write_times(f)?;
        }
        for figure in &self.figures {
            let line = format!("{}: {:.1} {}", figure.what, figure.value, figure.unit);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Report {
    fn write_times(&self, f: &mut Formatter<'_>) -> Result {
        let wide = self.times.iter().map(|row| row.what.len()).max().unwrap_or(0);
        let heads = ["min", "median", "p90", "p99", "max", "n"].map(|head| format!("{head:>9}")).join("");
        writeln!(f, "{:<wide$}{heads}", "milliseconds")?;
        for Row { what, milliseconds: time } in &self.times {
            let numbers = [time.min, time.median, time.p90, time.p99, time.max];
            let numbers = numbers.map(|number| format!("{number:>9.1}")).join("");
            writeln!(f, "{what:<wide$}{numbers}{:>9}", time.values.len())?;
        }
        writeln!(f)
    }
}
