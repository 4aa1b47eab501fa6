//! A producer that is killed and goes on: it writes down each job whose publish was confirmed.

use crate::plan;
use anyhow::Context as _;
use evalfleet::client::Client;
use evalfleet_proto::status::Exit;
use evalfleet_service::settings::Settings;
use futures::StreamExt as _;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What ends a line, so that one that a kill tore is told from a shorter number.
const CONFIRMED: &str = " confirmed";
/// Publishes under way at one moment.
const WINDOW: usize = 32;

/// What is to be submitted.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Order {
    /// What the jobs are drawn from.
    #[arg(long)]
    pub(crate) seed: u64,
    /// Jobs in all.
    #[arg(long)]
    pub(crate) jobs: u64,
    /// At most so many a second.
    #[arg(long)]
    pub(crate) rate: f64,
    /// They are for real VMs.
    #[arg(long)]
    pub(crate) real: bool,
    /// Where the numbers of those are kept that were confirmed, a line each.
    #[arg(long)]
    pub(crate) accepted: PathBuf,
}

/// Submits what was not confirmed before. A job whose confirm was never written down is submitted again,
/// under the same id.
pub(crate) async fn produce(settings: Settings, order: Order) -> anyhow::Result<Exit> {
    let before = accepted(&order.accepted)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&order.accepted)?;
    // A torn line ends here.
    file.write_all(b"\n")?;
    let client = Client::connect(&settings).await?;
    let (client_of_all, order_of_all) = (&client, &order);
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / order.rate));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let left = (0..order.jobs).filter(|number| !before.contains(number));
    let paced = futures::stream::unfold((left, pace), |(mut left, mut pace)| async {
        let number = left.next()?;
        pace.tick().await;
        Some((number, (left, pace)))
    });
    let mut confirmed = std::pin::pin!(
        paced
            .map(|number| async move {
                let (job, _) = plan::job(order_of_all.seed, number, order_of_all.real)?;
                client_of_all.enqueue_job(&job).await?;
                anyhow::Ok(number)
            })
            .buffer_unordered(WINDOW)
    );
    while let Some(number) = confirmed.next().await {
        file.write_all(format!("{}{CONFIRMED}\n", number?).as_bytes())?;
    }
    Ok(Exit::Passed)
}

/// The numbers in the file, if it is there.
pub(crate) fn accepted(file: &Path) -> anyhow::Result<BTreeSet<u64>> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read.with_context(|| file.display().to_string())?,
    };
    text.lines().filter_map(|line| line.strip_suffix(CONFIRMED)).map(|number| Ok(number.parse()?)).collect()
}
