//! QEMU's control socket.

use super::super::Error;
use super::{Asker, Unanswered};
use futures::{Sink, StreamExt as _};
use qapi::futures::QmpStreamTokio;
use qapi::{Execute, qmp};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How often a socket or a migration is looked at: they take tens of milliseconds.
const GLANCE: Duration = Duration::from_micros(500);
/// The longest any one command may take, where resets as a whole may not take longer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The name of the one snapshot that is saved or loaded at a time.
const SNAPSHOT_JOB: &str = "snapshot";

type Commands = QmpStreamTokio<WriteHalf<UnixStream>>;

/// A control connection.
pub(in crate::vm) struct Qmp {
    asker: Asker<Commands>,
    /// The longest any one command may take.
    limit: Duration,
    /// The last event that says the guest is no more: it gave up, or its processor did.
    stopped: watch::Receiver<Option<String>>,
    /// Whether somebody has the other end of the network link.
    linked: watch::Receiver<bool>,
    /// Why the host's own files failed it, if they did.
    host_fault: Arc<OnceLock<String>>,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").finish_non_exhaustive()
    }
}

/// What QEMU counts of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::vm) struct DiskCounters {
    pub(in crate::vm) read_bytes: u64,
    pub(in crate::vm) written_bytes: u64,
}

/// `query-blockstats` as far as it is read here: older QEMUs lack some of what the newest one answers.
#[derive(Debug, Serialize)]
struct QueryTraffic {}

/// A disk's part of the answer.
#[derive(Debug, Deserialize)]
struct DiskTraffic {
    stats: Traffic,
}

#[derive(Debug, Deserialize)]
struct Traffic {
    rd_bytes: u64,
    wr_bytes: u64,
}

impl qapi::Command for QueryTraffic {
    type Ok = Vec<DiskTraffic>;

    const NAME: &'static str = "query-blockstats";
    const ALLOW_OOB: bool = false;
}

impl qmp::QmpCommand for QueryTraffic {}

impl Qmp {
    async fn execute<C: qapi::Command>(&self, command: C) -> Result<C::Ok, Error>
    where
        Commands: Sink<Execute<C, u32>, Error = std::io::Error>,
    {
        self.asker.ask(command, self.limit).await.map_err(|unanswered| match unanswered {
            Unanswered::Refused(message) => Error::Qmp { command: C::NAME, message },
            Unanswered::Late => Error::TimedOut { what: C::NAME, seconds: self.limit.as_secs() },
        })
    }

    /// Connects as soon as the socket is there; the caller bounds the wait. A machine whose resets may take `reset`
    /// is given as long for a command.
    pub(in crate::vm) async fn connect(socket: &Path, reset: Duration) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Qmp { command: "greeting", message: error.to_string() };
        let negotiation = loop {
            match QmpStreamTokio::open_uds(socket).await {
                Ok(stream) => break stream,
                // Not bound yet, or bound and not listened on.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    sleep(GLANCE).await;
                }
                Err(error) => return Err(failed(error)),
            }
        };
        let stream = negotiation.negotiate().await.map_err(failed)?;
        let (service, events) = stream.into_parts();
        let (tell, stopped) = watch::channel(None);
        let (tell_linked, linked) = watch::channel(false);
        let host_fault = Arc::new(OnceLock::new());
        tokio::spawn(listen(events, tell, tell_linked, host_fault.clone()));
        let limit = reset.max(COMMAND_TIMEOUT);
        Ok(Self { asker: Asker::new(service), limit, stopped, linked, host_fault })
    }

    /// Waits until QEMU has taken up the network link; the caller has connected, and bounds the wait. Before
    /// that, the first frame of a guest's is sent to nobody and ends QEMU with a segmentation fault.
    ///
    /// # Errors
    /// When QEMU ends.
    pub(in crate::vm) async fn linked(&self) -> Result<(), Error> {
        let mut linked = self.linked.clone();
        match linked.wait_for(|linked| *linked).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Qemu("ended before it took up its network link".to_owned())),
        }
    }

    /// Waits until the guest is no more, and tells how that showed.
    pub(in crate::vm) async fn stopped(&self) -> String {
        let mut stopped = self.stopped.clone();
        let reason = match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        reason.unwrap_or_else(|| "QEMU closed its control socket".to_owned())
    }

    /// Tells how the guest went, if it has.
    pub(in crate::vm) fn has_stopped(&self) -> Option<String> {
        self.stopped.borrow().clone()
    }

    /// Tells why QEMU holds the guest although the guest did nothing wrong: the host has no room for its disk.
    pub(in crate::vm) fn host_fault(&self) -> Option<&str> {
        self.host_fault.get().map(String::as_str)
    }

    /// Says whether the accelerator itself gave up.
    pub(in crate::vm) async fn accelerator_failed(&self) -> Result<bool, Error> {
        let status = self.execute(qmp::query_status {}).await?.status;
        Ok(status == qmp::RunState::internal_error)
    }

    /// Lets the guest run.
    pub(in crate::vm) async fn cont(&self) -> Result<(), Error> {
        self.execute(qmp::cont {}).await.map(drop)
    }

    /// Has QEMU close its disks and end.
    pub(in crate::vm) async fn quit(&self) -> Result<(), Error> {
        self.execute(qmp::quit {}).await.map(drop)
    }

    /// Holds the guest.
    pub(in crate::vm) async fn stop(&self) -> Result<(), Error> {
        self.execute(qmp::stop {}).await.map(drop)
    }

    /// Writes the devices' state to `file`; the memory stays where it is.
    pub(in crate::vm) async fn save_state(&self, file: &Path, limit: Duration) -> Result<(), Error> {
        self.enable(qmp::MigrationCapability::x_ignore_shared).await?;
        self.save(file, limit).await
    }

    /// Writes memory and devices to `file`, each page at its place.
    pub(in crate::vm) async fn save_memory(&self, file: &Path, limit: Duration) -> Result<(), Error> {
        self.enable(qmp::MigrationCapability::mapped_ram).await?;
        self.save(file, limit).await
    }

    async fn save(&self, file: &Path, limit: Duration) -> Result<(), Error> {
        let uri = format!("file:{}", file.display());
        self.execute(qmp::migrate { uri: Some(uri), channels: None, detach: None, resume: None }).await?;
        self.migrated("saving the state", limit).await
    }

    /// Reads the devices' state from `file`, into a QEMU that waits for it.
    pub(in crate::vm) async fn load_state(&self, file: &Path, limit: Duration) -> Result<(), Error> {
        self.enable(qmp::MigrationCapability::x_ignore_shared).await?;
        self.load(file, limit).await
    }

    /// Reads what [`Self::save_memory`] wrote, into a QEMU that waits for it.
    pub(in crate::vm) async fn load_memory(&self, file: &Path, limit: Duration) -> Result<(), Error> {
        self.enable(qmp::MigrationCapability::mapped_ram).await?;
        self.load(file, limit).await
    }

    async fn load(&self, file: &Path, limit: Duration) -> Result<(), Error> {
        let uri = format!("file:{}", file.display());
        self.execute(qmp::migrate_incoming { uri: Some(uri), channels: None, exit_on_error: None }).await?;
        self.migrated("loading the state", limit).await
    }

    /// Keeps memory, devices and the disk `disk` under the name `tag`, inside that disk.
    pub(in crate::vm) async fn save_snapshot(
        &self,
        disk: &str,
        tag: &str,
        limit: Duration,
    ) -> Result<(), Error> {
        let (disk, tag, job_id) = (disk.to_owned(), tag.to_owned(), SNAPSHOT_JOB.to_owned());
        let save = qmp::snapshot_save { job_id, tag, vmstate: disk.clone(), devices: vec![disk] };
        self.execute(save).await?;
        self.snapshot_done("saving a snapshot", limit).await
    }

    /// Takes memory, devices and the disk `disk` back to what was kept as `tag`.
    pub(in crate::vm) async fn load_snapshot(
        &self,
        disk: &str,
        tag: &str,
        limit: Duration,
    ) -> Result<(), Error> {
        let (disk, tag, job_id) = (disk.to_owned(), tag.to_owned(), SNAPSHOT_JOB.to_owned());
        let load = qmp::snapshot_load { job_id, tag, vmstate: disk.clone(), devices: vec![disk] };
        self.execute(load).await?;
        self.snapshot_done("loading a snapshot", limit).await
    }

    async fn snapshot_done(&self, what: &'static str, limit: Duration) -> Result<(), Error> {
        let wait = async {
            loop {
                let jobs = self.execute(qmp::query_jobs {}).await?;
                let job = jobs.into_iter().find(|job| job.id == SNAPSHOT_JOB);
                let failed = |message: String| Err(Error::Qmp { command: "snapshot", message });
                let Some(job) = job else { return failed("its job is gone".to_owned()) };
                if job.status == qmp::JobStatus::concluded {
                    self.execute(qmp::job_dismiss { id: job.id }).await?;
                    return job.error.map_or(Ok(()), failed);
                }
                sleep(GLANCE).await;
            }
        };
        let late = Error::TimedOut { what, seconds: limit.as_secs() };
        timeout(limit, wait).await.unwrap_or(Err(late))
    }

    async fn enable(&self, capability: qmp::MigrationCapability) -> Result<(), Error> {
        let capabilities = vec![qmp::MigrationCapabilityStatus { capability, state: true }];
        self.execute(qmp::migrate_set_capabilities { capabilities }).await.map(drop)
    }

    async fn migrated(&self, what: &'static str, limit: Duration) -> Result<(), Error> {
        let wait = async {
            loop {
                let info = self.execute(qmp::query_migrate {}).await?;
                if info.status == Some(qmp::MigrationStatus::completed) {
                    return Ok(());
                }
                if matches!(info.status, Some(qmp::MigrationStatus::failed | qmp::MigrationStatus::cancelled))
                {
                    let message = info.error_desc.unwrap_or_else(|| "failed".to_owned());
                    return Err(Error::Qmp { command: "migrate", message });
                }
                sleep(GLANCE).await;
            }
        };
        let late = Error::TimedOut { what, seconds: limit.as_secs() };
        timeout(limit, wait).await.unwrap_or(Err(late))
    }

    /// Reads the end of what the guest wrote to its console.
    pub(in crate::vm) async fn console(&self) -> String {
        let read =
            qmp::ringbuf_read { device: super::super::qemu::CONSOLE.to_owned(), size: 65536, format: None };
        self.execute(read).await.unwrap_or_default()
    }

    /// Runs a command of QEMU's monitor for people, where there is none for programs, and gives what it says.
    pub(in crate::vm) async fn monitor(&self, command_line: String) -> Result<String, Error> {
        self.execute(qmp::human_monitor_command { command_line, cpu_index: None }).await
    }

    /// Counts the traffic of the disks together.
    pub(in crate::vm) async fn disks(&self) -> Result<DiskCounters, Error> {
        let disks = self.execute(QueryTraffic {}).await?;
        Ok(disks.iter().fold(DiskCounters::default(), |sum, disk| DiskCounters {
            read_bytes: sum.read_bytes.saturating_add(disk.stats.rd_bytes),
            written_bytes: sum.written_bytes.saturating_add(disk.stats.wr_bytes),
        }))
    }
}

/// Drives the connection, and notes when the guest is no more.
async fn listen(
    mut events: qapi::futures::QapiEvents<QmpStreamTokio<ReadHalf<UnixStream>>>,
    tell: watch::Sender<Option<String>>,
    tell_linked: watch::Sender<bool>,
    host_fault: Arc<OnceLock<String>>,
) {
    while let Some(Ok(event)) = events.next().await {
        if matches!(event, qmp::Event::NETDEV_STREAM_CONNECTED { .. }) {
            tell_linked.send_replace(true);
        }
        if let Some(fault) = fault_of_host(&event) {
            host_fault.get_or_init(|| fault.clone());
            tell.send_replace(Some(fault));
        }
        if let Some(reason) = end_of_guest(&event) {
            tell.send_replace(Some(reason));
        }
    }
    tell.send_if_modified(|known| {
        let unknown = known.is_none();
        known.get_or_insert_with(|| "QEMU ended".to_owned());
        unknown
    });
}

#[expect(clippy::wildcard_enum_match_arm, reason = "QEMU has fifty other events, none of them this")]
fn fault_of_host(event: &qmp::Event) -> Option<String> {
    match event {
        // What a guest asks for wrongly it is told; QEMU stops only for what the host cannot do.
        qmp::Event::BLOCK_IO_ERROR { data, .. } if data.action == qmp::BlockErrorAction::stop => {
            Some(format!("the host could not write a VM's disk: {}", data.reason))
        }
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "QEMU has fifty other events, none of them an end")]
fn end_of_guest(event: &qmp::Event) -> Option<String> {
    match event {
        qmp::Event::SHUTDOWN { data, .. } => Some(format!("the guest shut down ({:?})", data.reason)),
        qmp::Event::GUEST_PANICKED { .. } => Some("the guest's kernel panicked".to_owned()),
        qmp::Event::RESET { data, .. } if data.guest => Some("the guest reset itself".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    /// A QEMU that answers the first command, and then says no more.
    async fn qemu(socket: std::path::PathBuf) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (from, mut to) = tokio::io::split(stream);
        let version = r#"{"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}"#;
        to.write_all(format!("{{\"QMP\": {{\"version\": {version}, \"capabilities\": []}}}}\n").as_bytes())
            .await
            .unwrap();
        let mut lines = BufReader::new(from).lines();
        lines.next_line().await.unwrap();
        to.write_all(b"{\"return\": {}}\n").await.unwrap();
        while lines.next_line().await.unwrap().is_some() {}
    }

    #[tokio::test]
    async fn after_a_silence_nothing_more_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        let silent = tokio::spawn(qemu(socket.clone()));
        let mut qmp = Qmp::connect(&socket, Duration::ZERO).await.unwrap();
        qmp.limit = Duration::from_millis(20);
        let late = qmp.cont().await.unwrap_err();
        assert!(matches!(late, Error::TimedOut { what: "cont", .. }), "{late:?}");
        let refused = qmp.stop().await.unwrap_err().to_string();
        assert!(refused.contains("never answered"), "{refused}");
        assert_eq!(qmp.console().await, "", "which is asked for where something failed");
        silent.abort();
    }
}
