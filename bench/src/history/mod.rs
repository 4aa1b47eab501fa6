//! A long history: what recording one more costs as it grows, how long its pages take, and what it needs in memory.
//!
//! Everything is real: Datomic Local behind its gateway, documents in the blob store, a recorder on a RabbitMQ,
//! the API that follows the log. Evaluations and letters are made up ([`made`]), as varied as a fleet's.

mod made;
mod pages;

use crate::host::Host;
use crate::parts::{Stage, resident};
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::Context as _;
use evalfleet::machine::Kind;
use evalfleet_broker::{Options, Session};
use evalfleet_datomic::{Client, Config};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::{topology, wire};
use evalfleet_recorder::letters::Noted;
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use pages::Pages;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How much is recorded, and how often each page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Evaluations.
    pub evaluations: u64,
    /// Dead letters.
    pub letters: u64,
    /// Askings of each page that count.
    pub rounds: usize,
}

/// Looks on the way.
const SECTIONS: u64 = 10;
/// Results that are published one at a time, to see when the API has them.
const SEEN: usize = 50;
/// What the API may take until it has followed the log, or shows a result.
const FOLLOWED: Duration = Duration::from_secs(900);
/// How often it is asked meanwhile.
const ASKED_EVERY: Duration = Duration::from_millis(2);

/// What was seen while it grew.
struct Grown {
    evaluations: u64,
    each: Duration,
}

/// What was seen once it was there.
struct Found {
    grown: Vec<Grown>,
    letter: Duration,
    pages: Vec<Row>,
    visible: Series,
    gateway_bytes: u64,
    api_bytes: u64,
}

/// Records what `plan` says, and asks.
///
/// # Errors
/// When a part does not start, something is refused, or it is interrupted.
pub async fn measure(plan: Plan, interrupted: &CancellationToken) -> anyhow::Result<Report> {
    let host = Host::look();
    let stage = Stage::new()?;
    let parts = [Kind::Broker, Kind::Gateway, Kind::Recorder, Kind::Api];
    let found =
        stage.with(&parts, interrupted, async |settings| Box::pin(look(&settings, plan)).await).await?;
    let begun = Instant::now();
    let opened = stage.with(&[Kind::Gateway], interrupted, async |_| Ok(begun.elapsed())).await?;
    let seconds = |time: Duration| time.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let figure = |what: String, value: f64, unit| Figure { what, value, unit };
    let (first, last) = found.grown.first().zip(found.grown.last()).context("nothing was recorded")?;
    let mut figures: Vec<Figure> = found
        .grown
        .iter()
        .map(|grown| {
            figure(
                format!("recording, up to {} evaluations", grown.evaluations),
                1e3 * seconds(grown.each),
                "ms each",
            )
        })
        .collect();
    figures.extend([
        figure(
            "recording, the last tenth / the first".to_owned(),
            seconds(last.each) / seconds(first.each),
            "times",
        ),
        figure("recording a dead letter".to_owned(), 1e3 * seconds(found.letter), "ms each"),
        figure("memory of the gateway".to_owned(), mib(found.gateway_bytes), "MiB"),
        figure("memory of the API".to_owned(), mib(found.api_bytes), "MiB"),
        figure("the gateway's next start, until its store is open".to_owned(), seconds(opened), "s"),
    ]);
    let visible =
        Row { what: "a result published, until the API shows it", milliseconds: found.visible.summary() };
    Ok(Report {
        benchmark: "history: many evaluations and dead letters, recorded, and asked for",
        host,
        conditions: [
            ("evaluations", plan.evaluations.to_string()),
            ("dead letters", plan.letters.to_string()),
            ("store", "Datomic Local, behind the gateway, on loopback".to_owned()),
        ]
        .into(),
        times: found.pages.into_iter().chain([visible]).collect(),
        figures,
    })
}

async fn look(settings: &Settings, plan: Plan) -> anyhow::Result<Found> {
    let client = Client::new(Config::new(&settings.datomic.url, settings.datomic.token()?))?;
    let store = Store::new(client, Blobs::in_dir(&settings.blobs_dir())?);
    let grown = grow(&store, settings.recorder.batch_count as u64, plan.evaluations).await?;
    let letter = bury(&store, settings.recorder.batch_count as u64, plan.letters).await?;
    let pages = Pages::new(settings)?;
    pages.followed(plan, FOLLOWED).await?;
    let visible = publish(settings, &pages, plan.evaluations).await?;
    Ok(Found {
        grown,
        letter,
        pages: pages.ask(plan).await?,
        visible,
        gateway_bytes: resident(settings, Kind::Gateway)?,
        api_bytes: resident(settings, Kind::Api)?,
    })
}

async fn grow(store: &Store, batch: u64, evaluations: u64) -> anyhow::Result<Vec<Grown>> {
    let mut grown = Vec::new();
    let mut done = 0;
    while done < evaluations {
        let section = evaluations.div_ceil(SECTIONS).min(evaluations - done);
        let (end, begun) = (done + section, Instant::now());
        while done < end {
            let next = (done + batch).min(end);
            let made: Vec<Evaluation> = (done..next).map(made::evaluation).collect();
            store.record(&made.iter().collect::<Vec<_>>()).await?;
            done = next;
        }
        let each = begun.elapsed() / u32::try_from(section)?;
        tracing::info!(evaluations = done, ?each, "recorded");
        grown.push(Grown { evaluations: done, each });
    }
    Ok(grown)
}

async fn bury(store: &Store, batch: u64, letters: u64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut done = 0;
    while done < letters {
        let next = (done + batch).min(letters);
        let made: Vec<Noted> = (done..next).map(made::letter).collect::<anyhow::Result<_>>()?;
        store.record_dead(&made.iter().collect::<Vec<_>>()).await?;
        done = next;
    }
    Ok(begun.elapsed() / u32::try_from(letters.max(1))?)
}

/// Results as a worker publishes them, from the broker's confirm to the API's answer.
async fn publish(settings: &Settings, pages: &Pages, from: u64) -> anyhow::Result<Series> {
    let session = Session::connect(&Options::new(&settings.broker, "bench")).await?;
    let mut visible = Series::default();
    for nth in 0..SEEN as u64 {
        let evaluation = made::evaluation(from + nth);
        let envelope = Envelope::new(MessageType::Result, evaluation.id, evaluation.finished);
        let begun = Instant::now();
        let key = topology::job_key(evaluation.id);
        session.publish(topology::RESULTS, &key, &envelope, &wire::encode(&evaluation)).await?;
        let path = format!("/v1/evaluations/{}", evaluation.id);
        tokio::time::timeout(FOLLOWED, async {
            while !pages.is_there(&path).await? {
                tokio::time::sleep(ASKED_EVERY).await;
            }
            Ok::<_, anyhow::Error>(())
        })
        .await
        .with_context(|| format!("the API does not show {}", evaluation.id))??;
        visible.push(begun.elapsed());
    }
    session.close().await;
    Ok(visible)
}
