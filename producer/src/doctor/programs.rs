//! The programs that the fleet stands on, and what it built of its own.

use super::{Check, on_path, says, version_in};
use crate::machine::{gateway, node, plan};
use crate::registry::Registry;
use evalfleet_service::settings::{Settings, Strategy};
use std::path::PathBuf;
use std::time::Duration;

/// A program that only says its version.
const QUICK: Duration = Duration::from_secs(20);
/// The first QEMU that clones templates soundly, and the oldest that was run at all.
const QEMU_CLONES: u32 = 9;
const QEMU_MIN: u32 = 7;
/// The oldest Java that the gateway was run with.
const JAVA_MIN: u32 = 17;

pub(super) async fn qemu(settings: &Settings) -> Check {
    let install = "apt-get install qemu-system-x86";
    let binary = &settings.qemu.binary;
    let path = if binary.components().count() > 1 {
        Some(binary.clone()).filter(|path| path.is_file())
    } else {
        on_path(&binary.display().to_string())
    };
    let Some(path) = path else {
        return Check::missing("qemu", format!("{} is not installed", binary.display()), install);
    };
    let said = says(&path, &["--version"], QUICK).await.unwrap_or_default();
    match version_in(&said) {
        Some((major, version)) if major >= QEMU_CLONES => {
            Check::ok("qemu", format!("{version} ({})", path.display()))
        }
        Some((major, version)) => old_qemu(major, &version, settings.qemu.strategy),
        None => Check::missing("qemu", format!("{} does not say its version", path.display()), install),
    }
}

/// A QEMU whose clones are not sound loads snapshots instead.
fn old_qemu(major: u32, version: &str, strategy: Strategy) -> Check {
    let newer = format!(
        "QEMU {QEMU_CLONES} or newer makes clean VMs several times faster; Debian 12 has it in bookworm-backports"
    );
    if major < QEMU_MIN {
        return Check::missing("qemu", format!("{version} is too old"), newer);
    }
    match strategy {
        Strategy::Auto | Strategy::SnapshotLoad | Strategy::ColdBoot => Check::warning(
            "qemu",
            format!("{version}: its clones are not sound, so VMs load snapshots"),
            newer,
        ),
        Strategy::TemplateClone | Strategy::MappedRam => Check::missing(
            "qemu",
            format!("{version} is too old for the strategy that qemu.strategy asks for"),
            format!("set qemu.strategy to auto; {newer}"),
        ),
    }
}

pub(super) fn rabbitmq() -> Check {
    match node::server() {
        Some(path) => Check::ok("rabbitmq", path.display().to_string()),
        None => Check::missing(
            "rabbitmq",
            "not installed",
            "apt-get install rabbitmq-server (its service need not run: systemctl disable --now rabbitmq-server)",
        ),
    }
}

pub(super) fn erlang() -> Check {
    match node::epmd() {
        Some(path) => Check::ok("epmd", path.display().to_string()),
        None => Check::missing("epmd", "not installed", "apt-get install erlang-base"),
    }
}

pub(super) async fn java() -> Check {
    let install = "apt-get install default-jre-headless";
    let Some(path) = on_path("java") else { return Check::missing("java", "not installed", install) };
    let said = says(&path, &["-version"], QUICK).await.unwrap_or_default();
    match version_in(&said) {
        Some((major, version)) if major >= JAVA_MIN => Check::ok("java", version),
        Some((_, version)) => Check::missing("java", format!("{version} is too old"), install),
        None => Check::missing("java", format!("{} does not run", path.display()), install),
    }
}

/// Not what the fleet stands on: one command does.
pub(super) fn git() -> Check {
    match on_path("git") {
        Some(path) => Check::ok("git", path.display().to_string()),
        None => Check::warning(
            "git",
            "not installed: `evalfleet change eval` reads revisions with it",
            "apt-get install git",
        ),
    }
}

pub(super) fn gateway() -> Check {
    let Some(script) = gateway::script() else {
        return Check::missing(
            "gateway",
            "not here",
            "install it beside evalfleet, or name its run.sh in EVALFLEET_GATEWAY",
        );
    };
    let folder = script.parent().map(PathBuf::from).unwrap_or_default();
    if folder.join("target/classpath").is_file() {
        Check::ok("gateway", folder.display().to_string())
    } else {
        let build = folder.join("build.sh");
        Check::missing("gateway", "its jars are not fetched", format!("run {}", build.display()))
    }
}

pub(super) fn our_own() -> Check {
    let programs = ["evalfleet-recorder", "evalfleet-api", "evalfleet-worker", "evalfleet-jail"];
    let missing: Vec<_> =
        programs.iter().filter(|program| plan::sibling(program).is_err()).copied().collect();
    if missing.is_empty() {
        Check::ok("programs", programs.join(", "))
    } else {
        let fix = "cargo build --workspace, or install them beside evalfleet";
        Check::missing("programs", format!("not here: {}", missing.join(", ")), fix)
    }
}

/// What builds images: needed until one is built.
pub(super) fn builders(built: bool) -> Vec<Check> {
    [("mmdebstrap", "mmdebstrap"), ("mkfs.erofs", "erofs-utils"), ("mke2fs", "e2fsprogs")]
        .into_iter()
        .map(|(program, package)| match on_path(program) {
            Some(path) => Check::ok(program, path.display().to_string()),
            // A worker makes a scratch disk for every job.
            None if built && program != "mke2fs" => {
                let fix = format!("apt-get install {package}, to build further images");
                Check::warning(program, "not installed", fix)
            }
            None => Check::missing(program, "not installed", format!("apt-get install {package}")),
        })
        .collect()
}

pub(super) fn image(settings: &Settings) -> Check {
    let image = &settings.client.image;
    match Registry::load(&settings.images_dir(), image) {
        Ok(registry) => Check::ok("image", format!("{image} with {} tools", registry.tools().count())),
        Err(error) => {
            Check::missing("image", error.to_string(), format!("evalfleet image build {}", image.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn an_old_qemu_is_a_warning_unless_it_is_asked_for_what_it_cannot() {
        for (major, strategy, verdict) in [
            (8, Strategy::Auto, Verdict::Warning),
            (7, Strategy::SnapshotLoad, Verdict::Warning),
            (8, Strategy::TemplateClone, Verdict::Missing),
            (6, Strategy::Auto, Verdict::Missing),
        ] {
            let check = old_qemu(major, "x", strategy);
            assert_eq!(check.verdict, verdict, "{check}");
            assert!(check.fix.is_some());
        }
    }
}
