//! QEMU's version, and whether KVM really works here.
//!
//! A `/dev/kvm` that opens proves nothing: a paravirtual KVM opens, and a stock kernel dies in it. So
//! KVM is believed once a template has booted in it.

use super::Error;
use super::qemu::Accelerator;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long `--version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// Asks the program for its version.
///
/// # Errors
/// When it is missing.
pub async fn qemu_version(binary: &Path) -> Result<String, Error> {
    let asked =
        timeout(VERSION_TIMEOUT, Command::new(binary).arg("--version").kill_on_drop(true).output()).await;
    let output =
        asked.map_err(|_| Error::TimedOut { what: "qemu --version", seconds: VERSION_TIMEOUT.as_secs() })?;
    let missing = format!("starting {} (Debian: apt-get install qemu-system-x86)", binary.display());
    let text = String::from_utf8_lossy(&output.map_err(Error::host(missing))?.stdout).into_owned();
    parse_version(&text).ok_or_else(|| Error::Qemu(format!("does not tell its version: {text:?}")))
}

fn parse_version(text: &str) -> Option<String> {
    let rest = text.split("version ").nth(1)?;
    let version: String =
        rest.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
    version.contains('.').then_some(version)
}

/// The accelerators worth trying, the best first.
pub fn candidates(wanted: evalfleet_service::settings::Accelerator) -> Vec<Accelerator> {
    use evalfleet_service::settings::Accelerator as Wanted;
    let opens = || std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    match wanted {
        Wanted::Kvm => vec![Accelerator::Kvm],
        Wanted::Tcg => vec![Accelerator::Tcg],
        Wanted::Auto if opens() => vec![Accelerator::Kvm, Accelerator::Tcg],
        Wanted::Auto => vec![Accelerator::Tcg],
    }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn the_version_is_found_in_what_distributions_print() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
        assert_eq!(parse_version(debian).as_deref(), Some("10.0.2"));
        assert_eq!(parse_version("QEMU emulator version 9.2.1\n").as_deref(), Some("9.2.1"));
        assert_eq!(parse_version("bash: not found"), None);
    }
}
