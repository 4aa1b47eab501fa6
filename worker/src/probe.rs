//! Whether a VM boots here, and with which accelerator: asked by the doctor.

use crate::supply::Supply;
use crate::vm::jail::Right;
use evalfleet_proto::ids::WorkerId;
use evalfleet_service::settings::Settings;
use serde::Serialize;

/// What was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// Whether a VM stood.
    pub works: bool,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// How the VM was made.
    pub strategy: Option<String>,
    /// QEMU's version.
    pub qemu: Option<String>,
    /// The template it was cloned from.
    pub template: Option<String>,
    /// How long making a clean VM took, in milliseconds.
    pub reset_ms: Option<u64>,
    /// Why none stood.
    pub error: Option<String>,
    /// What VMs could be jailed in, right by right; empty where that could not even be looked for.
    pub rights: Vec<Right>,
}

/// Makes one clean VM of the default image and puts it away.
pub async fn probe(settings: &Settings) -> Probe {
    let failed = |error: String| Probe {
        works: false,
        accelerator: None,
        strategy: None,
        qemu: None,
        template: None,
        reset_ms: None,
        error: Some(error),
        rights: Vec::new(),
    };
    let name: WorkerId = match format!("probe-{}", std::process::id()).parse() {
        Ok(name) => name,
        Err(error) => return failed(error.to_string()),
    };
    let mut supply = match Supply::new(settings, &name) {
        Ok(supply) => supply,
        Err(error) => return failed(error.to_string()),
    };
    let supplied = match supply.clean(&settings.client.image, None).await {
        Ok(supplied) => supplied,
        Err(refusal) => {
            return Probe { rights: supply.jail().rights().to_vec(), ..failed(refusal.to_string()) };
        }
    };
    let rights = supply.jail().rights().to_vec();
    let template = supplied.clean.template().clone();
    let reset_ms = supplied.clean.proof().took.as_millis() as u64;
    let ended = supplied.clean.destroy().await;
    let _ = std::fs::remove_dir_all(settings.state_dir().join("vms").join(name.as_str()));
    Probe {
        works: ended.is_ok(),
        accelerator: Some(template.machine().accelerator.as_str().to_owned()),
        strategy: Some(template.machine().strategy.as_str().to_owned()),
        qemu: Some(template.qemu_version().to_owned()),
        template: Some(template.digest().to_string()),
        reset_ms: Some(reset_ms),
        error: ended.err().map(|error| error.to_string()),
        rights,
    }
}
