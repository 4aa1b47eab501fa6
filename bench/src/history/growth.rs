//! What recording one more costs as a history grows that is in memory, in the peer: nothing but the store is in the way.

use super::{IN_MEMORY, Plan, SECTIONS, client_of, grow};
use crate::host::Host;
use crate::parts::{Stage, resident};
use crate::report::{Figure, Report};
use anyhow::Context as _;
use evalfleet::machine::Kind;
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use tokio_util::sync::CancellationToken;

/// Records so many evaluations in a Datomic in memory.
///
/// # Errors
/// When a part does not start, something is refused, or it is interrupted.
pub async fn measure(evaluations: u64, interrupted: &CancellationToken) -> anyhow::Result<Report> {
    let host = Host::look();
    let stage = Stage::new(IN_MEMORY)?;
    let plan = Plan { evaluations, letters: 0, rounds: 0 };
    let (grown, memory) = stage
        .with(&[Kind::Gateway], interrupted, async |settings| {
            let store = Store::new(client_of(&settings, "peer").await?, Blobs::open(&settings).await?);
            let grown = grow(&store, settings.recorder.batch_count as u64, plan, 0..SECTIONS).await?;
            Ok((grown, resident(&settings, Kind::Gateway)?))
        })
        .await?;
    let (first, last) = grown.first().zip(grown.last()).context("nothing was recorded")?;
    let ratio = last.each.as_secs_f64() / first.each.as_secs_f64();
    let mut figures: Vec<Figure> = grown.iter().map(super::Grown::figure).collect();
    figures.push(Figure {
        what: "recording, the last tenth / the first".to_owned(),
        value: ratio,
        unit: "times",
    });
    figures.push(Figure {
        what: "memory of the gateway".to_owned(),
        value: memory as f64 / f64::from(1 << 20),
        unit: "MiB",
    });
    Ok(Report {
        benchmark: "growth: what recording one more evaluation costs as a history in memory grows",
        host,
        conditions: [
            ("evaluations", evaluations.to_string()),
            ("store", "Datomic's peer, in memory, behind the gateway, on loopback".to_owned()),
        ]
        .into(),
        times: Vec::new(),
        figures,
    })
}
