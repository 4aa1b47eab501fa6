//! Real series with the change points that several people marked in each, and other programs' answers.
//!
//! A series is a JSON file: `name`, `values` (`null` is missing), `annotations` (person → marked points,
//! from 0).

use anyhow::{Context, Result, ensure};
use evalfleet_analytics::changepoint::{self, Settings};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Marks within this many points agree.
const MARGIN: usize = 5;

/// One annotated series.
#[derive(Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    values: Vec<Option<f64>>,
    annotations: BTreeMap<String, Vec<usize>>,
}

impl Series {
    fn values(&self) -> Vec<f64> {
        self.values.iter().map(|value| value.unwrap_or(f64::NAN)).collect()
    }

    fn score(&self, found: &[usize]) -> f64 {
        let people: Vec<Vec<usize>> = self.annotations.values().cloned().collect();
        changepoint::f1(&people, found, MARGIN)
    }

    fn changes(&self, settings: &Settings) -> Result<Vec<usize>> {
        let analysis = changepoint::changes(&self.values(), settings)?;
        Ok(analysis.changes.iter().map(|change| change.at).collect())
    }
}

/// Each method's score on each series.
pub(crate) struct Scores {
    pub(crate) series: Vec<String>,
    pub(crate) methods: Vec<(String, Vec<f64>)>,
}

/// The mean of some scores.
pub(crate) fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// Reads a folder of series, by name.
pub(crate) fn read(folder: &Path) -> Result<Vec<Series>> {
    let mut series = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&path)?;
            series.push(serde_json::from_slice(&text).with_context(|| path.display().to_string())?);
        }
    }
    ensure!(!series.is_empty(), "there are no series (*.json) in {}", folder.display());
    series.sort_by(|a: &Series, b| a.name.cmp(&b.name));
    Ok(series)
}

/// Scores ourselves, marking nothing, and the programs that `python` runs.
pub(crate) fn score(all: &[Series], folder: &Path, peers: Option<(&Path, &Path)>) -> Result<Scores> {
    let ours = all
        .iter()
        .map(|series| Ok(series.score(&series.changes(&Settings::default())?)))
        .collect::<Result<Vec<_>>>()?;
    let nothing = all.iter().map(|series| series.score(&[])).collect();
    let mut methods = vec![("evalfleet".to_owned(), ours), ("marking nothing".to_owned(), nothing)];
    if let Some((python, script)) = peers {
        let output = Command::new(python)
            .arg(script)
            .arg(folder)
            .output()
            .with_context(|| format!("cannot run {}", python.display()))?;
        ensure!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        let found: BTreeMap<String, BTreeMap<String, Vec<usize>>> = serde_json::from_slice(&output.stdout)?;
        for (method, found) in found {
            let scores = all
                .iter()
                .map(|series| Ok(series.score(found.get(&series.name).context("a series has no answer")?)))
                .collect::<Result<Vec<_>>>()?;
            methods.push((method, scores));
        }
    }
    Ok(Scores { series: all.iter().map(|series| series.name.clone()).collect(), methods })
}

/// The mean score with other settings than the default ones.
pub(crate) fn with(all: &[Series], settings: &Settings) -> Result<Vec<f64>> {
    all.iter().map(|series| Ok(series.score(&series.changes(settings)?))).collect()
}
