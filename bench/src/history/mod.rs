//! A long history: what recording one more costs as it grows, how long its pages take, and what it needs in memory.
//!
//! Everything is real: Datomic Local behind its gateway, documents in the blob store, a recorder on a RabbitMQ,
//! the API that follows the log. Evaluations and letters are made up ([`made`]), as varied as a fleet's. The first of
//! them are transacted once more, and queries asked, in one process with Datomic ([`inside`]): what the way through
//! gateway and API costs.

pub mod growth;
mod inside;
mod made;
mod pages;

use crate::host::Host;
use crate::parts::{Stage, resident};
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::{Context as _, ensure};
use evalfleet::machine::Kind;
use evalfleet_broker::{Options, Session};
use evalfleet_datomic::{Batch, Client, Config};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::{topology, wire};
use evalfleet_recorder::letters::Noted;
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use inside::Noting;
use pages::Pages;
use std::ops::Range;
use std::sync::Arc;
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
/// As many of them are transacted without the gateway, too.
const PAIRED: u64 = 2;
/// Results that are published one at a time, to see when the API has them.
const SEEN: usize = 50;
/// What the API may take until it has followed the log, or shows a result.
const FOLLOWED: Duration = Duration::from_secs(900);
/// The database, as the gateway names it when nobody says otherwise.
const DATABASE: &str = "gemini-eval";
/// A store in the memory of a peer.
const IN_MEMORY: &str = "[datomic]\nuri = \"datomic:mem://bench\"\n";
/// The queries read all of the history, and are asked as many times less often than the pages.
const LONGER: usize = 5;
/// How often it is asked meanwhile.
const ASKED_EVERY: Duration = Duration::from_millis(2);

/// What was seen while it grew.
struct Grown {
    evaluations: u64,
    each: Duration,
}

impl Grown {
    fn figure(&self) -> Figure {
        let what = format!("recording, up to {} evaluations", self.evaluations);
        Figure { what, value: 1e3 * self.each.as_secs_f64(), unit: "ms each" }
    }
}

/// What was seen once it was there.
struct Found {
    batches: Vec<Batch>,
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
    let stage = Stage::new("")?;
    let parts = [Kind::Broker, Kind::Gateway, Kind::Recorder, Kind::Api];
    let found =
        stage.with(&parts, interrupted, async |settings| Box::pin(look(&settings, plan)).await).await?;
    let begun = Instant::now();
    let opened = stage.with(&[Kind::Gateway], interrupted, async |_| Ok(begun.elapsed())).await?;
    tracing::info!(?opened, "opened");
    let asked = inside::ask(&stage.dir().join("datomic"), DATABASE, plan.rounds / LONGER).await?;
    let through = async |settings: &str, driver: &str| {
        let stage = Stage::new(settings)?;
        let gateway = async |settings: Settings| {
            inside::through(&client_of(&settings, driver).await?, &found.batches).await
        };
        stage.with(&[Kind::Gateway], interrupted, gateway).await
    };
    let local = through("", "local").await?;
    let in_memory = through(IN_MEMORY, "peer").await?;
    let (local_inside, memory_inside) = inside::record(&found.batches).await?;
    let seconds = |time: Duration| time.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let figure = |what: String, value: f64, unit| Figure { what, value, unit };
    let (first, last) = found.grown.first().zip(found.grown.last()).context("nothing was recorded")?;
    let mut figures: Vec<Figure> = found.grown.iter().map(Grown::figure).collect();
    figures.extend([
        figure(
            "recording, the last tenth / the first".to_owned(),
            seconds(last.each) / seconds(first.each),
            "times",
        ),
        figure(
            "transacting through the gateway, rate against in one process, Datomic Local".to_owned(),
            seconds(local_inside) / seconds(local),
            "times",
        ),
        figure(
            "transacting through the gateway, rate against in one process, in memory".to_owned(),
            seconds(memory_inside) / seconds(in_memory),
            "times",
        ),
        figure("recording a dead letter".to_owned(), 1e3 * seconds(found.letter), "ms each"),
        figure("memory of the gateway".to_owned(), mib(found.gateway_bytes), "MiB"),
        figure("memory of the API".to_owned(), mib(found.api_bytes), "MiB"),
        figure("the gateway's next start, until its store is open".to_owned(), seconds(opened), "s"),
    ]);
    let mut rows = found.pages;
    for ((what, _), times) in inside::QUERIES.iter().zip(asked) {
        let mut series = Series::default();
        times.into_iter().for_each(|time| series.push(time));
        let inside = series.summary();
        let through = rows.iter().find(|row| row.what == *what).map_or(0.0, |row| row.milliseconds.median);
        figures.push(figure(format!("{what}, in one process, p50"), inside.median, "ms"));
        figures.push(figure(
            format!("{what}, through the API against that"),
            through / inside.median,
            "times",
        ));
    }
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
        times: {
            rows.push(visible);
            rows
        },
        figures,
    })
}

fn client(settings: &Settings) -> anyhow::Result<Client> {
    Ok(Client::new(Config::new(&settings.datomic.url, settings.datomic.token()?))?)
}

/// A client of a gateway whose store is reached by this driver: what is measured must be what the table says.
async fn client_of(settings: &Settings, driver: &str) -> anyhow::Result<Client> {
    let client = client(settings)?;
    let found = client.health().await?.driver;
    ensure!(found == driver, "the gateway's driver is {found:?} and not {driver:?}");
    Ok(client)
}

async fn look(settings: &Settings, plan: Plan) -> anyhow::Result<Found> {
    let batch = settings.recorder.batch_count as u64;
    let noted = Arc::new(Noting::new(client(settings)?));
    let first = Store::over(noted.clone(), Blobs::open(settings).await?);
    let mut grown = grow(&first, batch, plan, 0..PAIRED).await?;
    let store = Store::new(client(settings)?, Blobs::open(settings).await?);
    grown.extend(grow(&store, batch, plan, PAIRED..SECTIONS).await?);
    let letter = bury(&store, settings.recorder.batch_count as u64, plan.letters).await?;
    tracing::info!(each = ?letter, "buried");
    let pages = Pages::new(settings)?;
    pages.followed(plan, FOLLOWED).await?;
    let visible = publish(settings, &pages, plan.evaluations).await?;
    let pages = pages.ask(plan).await?;
    for row in &pages {
        tracing::info!(what = row.what, p50_ms = row.milliseconds.median, "asked");
    }
    Ok(Found {
        batches: noted.take(),
        grown,
        letter,
        pages,
        visible,
        gateway_bytes: resident(settings, Kind::Gateway)?,
        api_bytes: resident(settings, Kind::Api)?,
    })
}

/// Records these sections of the evaluations.
async fn grow(store: &Store, batch: u64, plan: Plan, sections: Range<u64>) -> anyhow::Result<Vec<Grown>> {
    let mut grown = Vec::new();
    for nth in sections {
        let mut done = plan.evaluations * nth / SECTIONS;
        let (end, begun) = (plan.evaluations * (nth + 1) / SECTIONS, Instant::now());
        let section = end - done;
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
