//! What a change may use, as `safety.toml` says it.

use serde::{Deserialize, Serialize};

/// The largest share that something may grow by.
const PERCENT_MAX: f64 = 1000.0;

/// How much more than the base a change may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Times the base's time for building, and times its time for testing.
    pub time: f64,
    /// Times the base's memory.
    pub memory: f64,
    /// What is built, against what the base builds; not looked at when missing.
    pub binary_size: Option<BinarySize>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { time: 2.0, memory: 1.5, binary_size: None }
    }
}

/// How large what is built may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinarySize {
    /// Globs of paths within the repository, after the build; the sizes of all such files count together.
    pub paths: Vec<String>,
    /// How much larger than the base's they may be.
    #[serde(default)]
    pub grows_at_most: Percent,
}

/// A share in hundredths, written `5%`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(f64);

impl Percent {
    /// What something is multiplied with to be so much larger.
    pub(in crate::change) fn factor(self) -> f64 {
        1.0 + self.0 / 100.0
    }
}

impl Default for Percent {
    fn default() -> Self {
        Self(5.0)
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let within = number.filter(|number| (0.0..=PERCENT_MAX).contains(number));
        within
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no share: write it as \"5%\", from 0 to {PERCENT_MAX}"))
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        format!("{}%", percent.0)
    }
}
