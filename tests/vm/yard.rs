//! Where VMs are made for trials: one template, clones of it on demand.

use evalfleet_proto::guest::Run;
use evalfleet_proto::ids::ImageRef;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{Machine, patience};
use evalfleet_worker::supply::Supply;
use evalfleet_worker::vm::{Active, Clean, Ending, Error, Event, Meter, Spent, Template};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Far above what any trial needs, even in a machine that is itself emulated.
pub(crate) const METER: Meter =
    Meter { wall: Duration::from_secs(300), cpu: Duration::from_secs(300), output: 64 << 20, disk: 1 << 30 };
const RESET: Duration = Duration::from_secs(60);

/// A template, and a folder for its clones.
pub(crate) struct Yard {
    runtime: Runtime,
    machine: Machine,
    settings: Settings,
    template: Arc<Template>,
    made: AtomicU64,
}

/// What a program in a VM came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ending: Ending,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    /// Its standard output, which must be text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text").trim()
    }

    /// Asserts that it exited with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let exited = matches!(&self.ending, Ending::Exited(exited) if exited.code == Some(code));
        assert!(exited, "{:?}: {}", self.ending, String::from_utf8_lossy(&self.stderr));
        self
    }
}

#[allow(dead_code, reason = "each area uses what it needs of it")]
impl Yard {
    /// Builds the base image and makes its template, unless both are there.
    pub(crate) fn open() -> Self {
        let machine = Machine::new();
        machine.evalfleet(&["image", "build", "base"]).expect(0);
        let layers = Layers { environment: machine.environment().to_vec(), ..Layers::default() };
        let settings = Settings::from_layers(&layers).expect("the settings of a test are sound");
        let runtime = Runtime::new().expect("a runtime");
        let template = runtime.block_on(async {
            let mut supply = Supply::new(&settings, &"yard".parse().expect("a name")).expect("a folder");
            let image: ImageRef = settings.client.image.clone();
            let template = supply.warm_up(&image).await.expect("a template can be made");
            supply.discard().await;
            template
        });
        Self { runtime, machine, settings, template, made: AtomicU64::new(0) }
    }

    pub(crate) fn template(&self) -> &Arc<Template> {
        &self.template
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs a future to its end.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The machine that it stands on.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A folder that goes with the yard.
    pub(crate) fn folder_root(&self) -> &Path {
        self.machine.state()
    }

    /// A folder for one more VM.
    pub(crate) fn folder(&self) -> PathBuf {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.state().join("vms").join(number.to_string())
    }

    fn state(&self) -> &Path {
        self.machine.state()
    }

    /// Makes a clean VM.
    #[track_caller]
    pub(crate) fn clean(&self) -> Clean {
        let folder = self.folder();
        let made = Clean::prepare(
            self.template.clone(),
            &folder,
            "yard",
            RESET * patience(),
            CancellationToken::new(),
        );
        self.wait(made).expect("a clean VM")
    }

    /// Makes one and claims it.
    #[track_caller]
    pub(crate) fn claim(&self) -> Active {
        let clean = self.clean();
        self.wait(clean.claim(RESET * patience())).expect("a clean VM wakes")
    }

    /// Runs a shell script in a claimed VM.
    #[track_caller]
    pub(crate) fn sh(&self, active: &mut Active, script: &str) -> Ran {
        self.run(active, &["sh", "-c", script], METER)
    }

    /// Runs a shell script in a VM that will not see the end of it.
    pub(crate) fn try_sh(&self, active: &mut Active, script: &str) -> Result<Ending, Error> {
        let argv = ["sh", "-c", script].map(ToOwned::to_owned).to_vec();
        let order = Run { argv, cwd: "/workspace".to_owned(), ..Run::default() };
        let never = CancellationToken::new();
        self.wait(active.run(order, &[], METER, &never, &mut drop))
    }

    /// Runs a program in a claimed VM.
    #[track_caller]
    pub(crate) fn run(&self, active: &mut Active, argv: &[&str], meter: Meter) -> Ran {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let order = Run { argv, cwd: "/workspace".to_owned(), ..Run::default() };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut listen = |event| {
            if let Event::Output { stderr: to_stderr, data } = event {
                if to_stderr { stderr.extend(data) } else { stdout.extend(data) }
            }
        };
        let never = CancellationToken::new();
        let ending = self.wait(active.run(order, &[], meter, &never, &mut listen)).expect("our part works");
        Ran { ending, stdout, stderr }
    }

    /// Stops a VM, for its disk to be read.
    #[track_caller]
    pub(crate) fn stop(&self, active: Active) -> Spent {
        self.wait(active.stop()).expect("a VM stops")
    }

    /// Puts a VM away.
    #[track_caller]
    pub(crate) fn end(&self, active: Active) {
        let spent = self.stop(active);
        self.wait(spent.destroy()).expect("QEMU dies");
    }
}
