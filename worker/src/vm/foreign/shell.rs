//! A person in a throw-away VM of a foreign image: `evalfleet image ssh`.

use super::super::Active;
use super::ssh::{CONFIGURATION, HOST};
use std::path::Path;
use tokio::process::Command;

impl Active {
    /// The command that opens a shell in this VM, or runs `argv` there; `None` if its image is one of ours.
    /// It lives no longer than the VM.
    pub fn ssh(&self, argv: &[String]) -> Option<Command> {
        let configuration = self.run_dir().join(CONFIGURATION);
        configuration.exists().then(|| command(&configuration, argv))
    }
}

fn command(configuration: &Path, argv: &[String]) -> Command {
    let mut command = Command::new("ssh");
    // A terminal for whoever asks for a shell; a command's output stays as it is.
    command.arg("-F").arg(configuration).arg(if argv.is_empty() { "-t" } else { "-T" }).arg(HOST);
    if !argv.is_empty() {
        command.arg("--");
        // ssh puts its words together for the guest's shell, which takes them apart again.
        command.args(argv.iter().map(|word| quoted(word)));
    }
    command
}

/// A word that a shell takes for itself.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        let mut sh = std::process::Command::new("sh");
        let output = sh.arg("-c").arg(format!("printf %s {}", quoted("$(x) it's"))).output().unwrap();
        assert_eq!(output.stdout, b"$(x) it's");
    }
}
