//! A VM runs under what its label says: told by the guest's own kernel, which nobody told our label.

use super::Test;
use evalfleet_service::settings::Accelerator;

pub(crate) const ALL: &[(&str, Test)] =
    &[("accelerator::the_guest_runs_under_what_its_label_says", |yard| {
        let label = yard.template().machine().accelerator.as_str();
        let wanted = yard.settings().qemu.accelerator;
        let fits = match wanted {
            Accelerator::Auto => true,
            Accelerator::Kvm => label == "kvm",
            Accelerator::Tcg => label == "tcg",
        };
        assert!(fits, "{label}, where {wanted:?} was asked for: there is no falling back");
        let mut active = yard.claim();
        // KVM offers its guests a clock of its own, which a guest kernel takes up only where it finds KVM beneath it.
        let clocks = "cat /sys/devices/system/clocksource/clocksource0/available_clocksource";
        let clocks = yard.sh(&mut active, clocks).expect(0).text().to_owned();
        yard.end(active);
        assert_eq!(
            clocks.contains("kvm-clock"),
            label == "kvm",
            "labelled {label}, with the clocks {clocks}"
        );
    })];
