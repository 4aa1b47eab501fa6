//! The EDN configuration of the database, as the user writes it:
//!
//! ```edn
//! {:datomic-uri "datomic:mem://gemini-eval"
//!  :schema-file "resources/evaluation-schema.edn"
//!  :backup-schedule "0 2 * * *"  ; Daily backups at 2 AM
//!  :retention-days 365}
//! ```
//!
//! Every key is optional, an unknown one is an error, and all errors are reported at once. What the
//! values lead to is left to whoever starts the gateway and makes backups.

use std::path::PathBuf;
use std::str::FromStr as _;

use chrono::{DateTime, Local};
use croner::Cron;

use crate::edn::{self, Value};

/// The settings that a file gave; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `datomic:local://…`, `datomic:mem://…`, `datomic:dev://…` or `datomic:sql://…`.
    pub datomic_uri: Option<String>,
    pub schema_file: Option<PathBuf>,
    /// Five cron fields: minute, hour, day of month, month, day of week.
    pub backup_schedule: Option<Schedule>,
    /// How many days of history are kept; never 0.
    pub retention_days: Option<u32>,
}

/// Why a text is no such configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the Datomic configuration is not EDN: {0}")]
    Edn(#[from] edn::Error),
    #[error("the Datomic configuration must be a map, like {{:datomic-uri \"datomic:mem://gemini-eval\"}}")]
    NotAMap,
    #[error("the Datomic configuration: {}", .0.join("; "))]
    Keys(Vec<String>),
}

const SCHEMES: [&str; 4] = ["datomic:local://", "datomic:mem://", "datomic:dev://", "datomic:sql://"];

impl Settings {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Where it is not EDN, not a map, or where keys or values are wrong: all of those at once.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value = edn::parse(text)?;
        let entries = value.as_map().ok_or(Error::NotAMap)?;
        let mut settings = Self::default();
        let mut errors = Vec::new();
        for (key, value) in entries {
            if let Err(error) = settings.set(key, value) {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(settings) } else { Err(Error::Keys(errors)) }
    }

    fn set(&mut self, key: &Value, value: &Value) -> Result<(), String> {
        match key.as_keyword() {
            Some("datomic-uri") => self.datomic_uri = Some(uri(text(key, value)?)?),
            Some("schema-file") => self.schema_file = Some(PathBuf::from(text(key, value)?)),
            Some("backup-schedule") => self.backup_schedule = Some(schedule(text(key, value)?)?),
            Some("retention-days") => self.retention_days = Some(days(value)?),
            _ => {
                return Err(format!(
                    "unknown key {key} (known: :datomic-uri :schema-file :backup-schedule :retention-days)"
                ));
            }
        }
        Ok(())
    }
}

fn text<'v>(key: &Value, value: &'v Value) -> Result<&'v str, String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("{key} must be a string, not {value}"))
}

fn uri(text: &str) -> Result<String, String> {
    let named = SCHEMES.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if named {
        return Ok(text.to_owned());
    }
    Err(format!(
        ":datomic-uri must begin with one of {} and name a database, not {text:?}",
        SCHEMES.join(" ")
    ))
}

/// When backups are made: five cron fields, in the time zone of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Cron);

impl Schedule {
    /// The next moment after `now`; `None` for one that never comes, such as a 30th of February.
    pub fn next(&self, now: DateTime<Local>) -> Option<DateTime<Local>> {
        self.0.find_next_occurrence(&now, false).ok()
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.pattern.to_string())
    }
}

fn schedule(text: &str) -> Result<Schedule, String> {
    let refused = |why: String| {
        format!(":backup-schedule must be five cron fields like \"0 2 * * *\", not {text:?}{why}")
    };
    // Six would have seconds.
    if text.split_whitespace().count() != 5 {
        return Err(refused(String::new()));
    }
    Cron::from_str(text).map(Schedule).map_err(|error| refused(format!(": {error}")))
}

fn days(value: &Value) -> Result<u32, String> {
    let days =
        value.as_int().and_then(|days| u32::try_from(days).ok()).filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| format!(":retention-days must be a whole number from 1 to 36500, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;

    #[test]
    fn reads_the_example_as_written() {
        let settings = Settings::parse(
            "{:datomic-uri \"datomic:mem://gemini-eval\"\n :schema-file \"resources/evaluation-schema.edn\"\n \
             :backup-schedule \"0 2 * * *\"  ; Daily backups at 2 AM\n :retention-days 365}",
        )
        .expect("the example");
        assert_eq!(settings.datomic_uri.as_deref(), Some("datomic:mem://gemini-eval"));
        assert_eq!(settings.schema_file, Some(PathBuf::from("resources/evaluation-schema.edn")));
        let schedule = settings.backup_schedule.expect("a schedule");
        let now = Local.with_ymd_and_hms(2026, 1, 31, 6, 0, 0).single().expect("a moment");
        let next = schedule.next(now).expect("it comes");
        assert_eq!(next.to_rfc3339()[..16], *"2026-02-01T02:00");
        assert_eq!(settings.retention_days, Some(365));
    }

    #[test]
    fn reports_every_error_at_once() {
        let error =
            Settings::parse("{:datomic-uri \"sqlite:x\" :retention-days 0 :backup-schedule \"daily\" :x 1}");
        let message = error.expect_err("four errors").to_string();
        for part in [":datomic-uri", "sqlite:x", ":retention-days", ":backup-schedule", "unknown key :x"] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }

    #[test]
    fn refuses_other_shapes() {
        assert_eq!(Settings::parse("[]"), Err(Error::NotAMap));
        assert!(matches!(Settings::parse("{:datomic-uri"), Err(Error::Edn(_))));
        for schedule in ["60 2 * * *", "0 2 * *", "0 2 0 * *", "*/0 * * * *", "5-1 * * * *"] {
            assert!(Settings::parse(&format!("{{:backup-schedule \"{schedule}\"}}")).is_err(), "{schedule}");
        }
        assert!(Settings::parse("{:backup-schedule \"*/15 0-6,22 * 1 1-5\"}").is_ok());
    }
}
