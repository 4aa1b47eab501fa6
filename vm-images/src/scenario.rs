//! A scenario: the state of an image in which a template is frozen, and from which jobs begin.
//!
//! ```text
//!  boot ─▶ setup ─▶ warm ─▶ frozen: the template     once for all jobs
//!                             └─▶ clone ─▶ rewarm    for every job, before it is there
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest a warming command may take: under emulation the first Python takes seconds.
const WARM_TIMEOUT: Duration = Duration::from_secs(60);

/// Until when a setup command must have ended, unless the scenario says otherwise.
const SETUP_SECONDS: u64 = 300;

/// The longest that a scenario may grant a setup command.
const SETUP_SECONDS_MAX: u64 = 3600;

/// A state of the image in which a template is frozen. Commands run as root in `/`, in order; each must succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub description: String,
    /// Run first, once, when the template is made. What they change on the disk belongs to the template: jobs find
    /// it, and it is no effect of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<Vec<String>>,
    /// The longest that one command of `setup` may take, at most an hour.
    #[serde(default = "setup_seconds")]
    pub setup_seconds: u64,
    /// Run then, once, so that what jobs use is in memory.
    #[serde(default)]
    pub warm: Vec<Vec<String>>,
    /// Run again in every clone before it is paused. A template keeps the guest's memory and not what an emulator has
    /// translated, so this is worth its time only for programs that most jobs run. Nothing may depend on it: a clone
    /// that a job waits for gets none of it, or no more.
    #[serde(default = "rewarm")]
    pub rewarm: Vec<Vec<String>>,
}

fn setup_seconds() -> u64 {
    SETUP_SECONDS
}

fn rewarm() -> Vec<Vec<String>> {
    vec![vec!["true".to_owned()]]
}

impl Scenario {
    /// What is run when the template is made, in order, each with the longest that it may take.
    pub fn steps(&self) -> impl Iterator<Item = (&[String], Duration)> {
        let setup_limit = Duration::from_secs(self.setup_seconds);
        let setup = self.setup.iter().map(move |argv| (argv.as_slice(), setup_limit));
        setup.chain(self.warm.iter().map(|argv| (argv.as_slice(), WARM_TIMEOUT)))
    }
}

/// Checks the scenarios of one image.
pub(crate) fn validate(scenarios: &[Scenario]) -> Result<(), String> {
    for (position, scenario) in scenarios.iter().enumerate() {
        let name = &scenario.name;
        if name.is_empty() || scenarios[..position].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("the scenario `{name}` is there twice, or has no name"));
        }
        let commands = scenario.setup.iter().chain(&scenario.warm).chain(&scenario.rewarm);
        if commands.into_iter().any(Vec::is_empty) {
            return Err(format!("the scenario `{name}` runs an empty command"));
        }
        if !(1..=SETUP_SECONDS_MAX).contains(&scenario.setup_seconds) {
            return Err(format!(
                "the scenario `{name}` grants its setup {} s: 1 to {SETUP_SECONDS_MAX}",
                scenario.setup_seconds
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios(text: &str) -> Result<Vec<Scenario>, String> {
        #[derive(Deserialize)]
        struct File {
            scenarios: Vec<Scenario>,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        validate(&file.scenarios).map(|()| file.scenarios)
    }

    #[test]
    fn setup_comes_before_warming_and_has_a_limit_of_its_own() {
        let text = "[[scenarios]]\nname = 'r'\ndescription = ''\nsetup = [['git']]\nsetup_seconds = 7\nwarm = [['ls']]";
        let scenario = scenarios(text).unwrap().remove(0);
        let steps: Vec<_> =
            scenario.steps().map(|(argv, limit)| (argv[0].as_str(), limit.as_secs())).collect();
        assert_eq!(steps, [("git", 7), ("ls", WARM_TIMEOUT.as_secs())]);
        assert_eq!(scenario.rewarm, [["true"]]);
    }

    #[test]
    fn a_scenario_of_an_older_image_is_read() {
        let old = r#"{"name": "default", "description": "", "warm": [["true"]]}"#;
        let scenario: Scenario = serde_json::from_str(old).unwrap();
        assert!(scenario.setup.is_empty() && scenario.setup_seconds == SETUP_SECONDS);
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        for (line, message) in [
            ("warm = [[]]", "`r` runs an empty command"),
            ("rewarm = [[]]", "`r` runs an empty command"),
            ("setup = [[]]", "`r` runs an empty command"),
            ("setup_seconds = 0", "grants its setup 0 s"),
            ("setup_seconds = 3601", "grants its setup 3601 s"),
            ("[[scenarios]]\nname = 'r'\ndescription = ''", "`r` is there twice"),
        ] {
            let error =
                scenarios(&format!("[[scenarios]]\nname = 'r'\ndescription = ''\n{line}")).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
