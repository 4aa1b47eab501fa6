//! A course: everything is up, jobs flow, and one part after the other is killed with -9 and started again,
//! until all jobs are in; then what was accepted is compared with what the history holds.

use crate::cluster::Cluster;
use crate::history::History;
use crate::{Plan, plan, producer};
use anyhow::{Context as _, ensure};
use evalfleet::machine::gateway;
use evalfleet::machine::plan::sibling;
use evalfleet::machine::ports::Ports;
use evalfleet_broker::{Options, Session};
use evalfleet_proto::topology;
use evalfleet_service::settings::{ENDPOINTS_FILE, Layers, Settings};
use evalfleet_tests::part::{Part, Start};
use evalfleet_tests::reckoning::{Books, Reckoning};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a part of each kind may be killed at the most: it must come to do something in between. That long
/// it is up before the next blow.
const UP: [(Kind, Duration); 5] = [
    (Kind::Worker, Duration::from_millis(1500)),
    (Kind::Producer, Duration::from_millis(1500)),
    (Kind::Recorder, Duration::from_secs(5)),
    (Kind::Gateway, Duration::from_secs(30)),
    (Kind::Node, Duration::from_secs(30)),
];
/// The wait between two blows, in milliseconds; with real VMs, which take seconds to make, so many times that.
const BETWEEN: std::ops::Range<u64> = 200..1200;
const SLOWER: u32 = 10;
/// How often it is counted and told how far it is.
const TELL: Duration = Duration::from_secs(10);
/// For how long after a leader's death nothing else is killed, and it is watched when confirms come again.
const WATCH: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);
/// How long the last jobs may take when nobody is killed any more.
const CALM: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Worker,
    Producer,
    Recorder,
    Gateway,
    Node,
}

/// What is up.
struct Course {
    plan: Plan,
    random: fastrand::Rng,
    settings: Settings,
    accepted: PathBuf,
    cluster: Cluster,
    history: History,
    parts: Vec<(Kind, Part)>,
    leaders: u32,
    /// The longest time without a confirm after each leader's death.
    pauses: Vec<Duration>,
    begun: Instant,
}

/// Runs a course, and says what came of it.
pub(crate) async fn run(mut plan: Plan) -> anyhow::Result<bool> {
    if let Some(root) = &mut plan.rabbitmq {
        let whole = root.canonicalize();
        *root = whole.with_context(|| format!("{}: tests/crash/rabbitmq.sh makes it", root.display()))?;
    }
    let dir = tempfile::Builder::new().prefix("crash-").tempdir_in(target()?)?;
    let dir = if plan.keep { dir.keep() } else { dir.path().to_owned() };
    let mut course = Box::pin(Course::begin(plan, &dir)).await?;
    Box::pin(course.strike_until_done()).await?;
    let calm = Box::pin(course.calm_down()).await?;
    let reckoning = course.reckon().await?;
    print!("{}", course.report(&reckoning, calm)?);
    Ok(reckoning.is_sound())
}

/// `target/`, above the program that runs.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors().nth(3).map(Path::to_owned).context("it lies in target/<profile>/deps")
}

impl Course {
    async fn begin(plan: Plan, dir: &Path) -> anyhow::Result<Self> {
        eprintln!("seed {}, in {}", plan.seed, dir.display());
        let cluster = Box::pin(Cluster::up(dir, plan.rabbitmq.as_deref())).await?;
        let ports = Ports::claim(dir)?;
        let token_file = dir.join("token");
        std::fs::write(&token_file, format!("{:032x}", fastrand::u128(..)))?;
        let settings = settings(dir, &cluster, ports, &token_file)?;
        cluster.declare(&settings.broker).await?;
        let command = gateway::command(&settings, dir, ports.gateway, &token_file)?;
        let command = Start { program: command.program, args: command.args, environment: Vec::new() };
        let history = History::at(&settings.datomic.url, std::fs::read_to_string(&token_file)?.trim())?;
        let gateway = Part::start("gateway", command, dir.join("gateway.log"))?;
        history.until_ready().await?;
        let accepted = dir.join("accepted");
        let random = fastrand::Rng::with_seed(plan.seed);
        let begun = Instant::now();
        let parts = vec![(Kind::Gateway, gateway)];
        let mut course = Self {
            plan,
            random,
            settings,
            accepted,
            cluster,
            history,
            parts,
            leaders: 0,
            pauses: Vec::new(),
            begun,
        };
        course.start_all(dir)?;
        Ok(course)
    }

    fn start_all(&mut self, dir: &Path) -> anyhow::Result<()> {
        let own = std::env::current_exe()?;
        let mut start = |kind, name: String, program: PathBuf, args: Vec<String>| {
            let environment = environment(dir, &name);
            let log = dir.join(format!("{name}.log"));
            let part = Part::start(name, Start { program, args, environment }, log)?;
            self.parts.push((kind, part));
            anyhow::Ok(())
        };
        for number in 1..=2 {
            start(Kind::Recorder, format!("recorder-{number}"), sibling("evalfleet-recorder")?, Vec::new())?;
        }
        for number in 1..=self.plan.workers {
            let name = format!("worker-{number}");
            if self.plan.real {
                start(Kind::Worker, name, sibling("evalfleet-worker")?, Vec::new())?;
            } else {
                start(Kind::Worker, name, own.clone(), vec!["worker".to_owned()])?;
            }
        }
        let plan = &self.plan;
        let mut order = vec!["producer".to_owned()];
        for (name, value) in [
            ("--seed", plan.seed.to_string()),
            ("--jobs", plan.jobs.to_string()),
            ("--rate", plan.rate.to_string()),
            ("--accepted", self.accepted.display().to_string()),
        ] {
            order.extend([name.to_owned(), value]);
        }
        order.extend(plan.real.then(|| "--real".to_owned()));
        start(Kind::Producer, "producer".to_owned(), own, order)
    }

    /// Strikes until all jobs are submitted and as many are recorded, or time is up.
    async fn strike_until_done(&mut self) -> anyhow::Result<()> {
        let mut told = Instant::now();
        loop {
            let pause = Duration::from_millis(self.random.u64(BETWEEN));
            tokio::time::sleep(if self.plan.real { pause * SLOWER } else { pause }).await;
            self.tend()?;
            self.strike().await?;
            if told.elapsed() < TELL {
                continue;
            }
            told = Instant::now();
            let accepted = producer::accepted(&self.accepted)?.len();
            // While the gateway is away nobody knows.
            let recorded = self.history.count().await.ok();
            let shown = recorded.map_or_else(|| "?".to_owned(), |recorded| recorded.to_string());
            let kills: u32 = self.all().map(|part| part.kills).sum();
            let elapsed = self.begun.elapsed().as_secs();
            eprintln!("{elapsed:>5} s  accepted {accepted:>6}  recorded {shown:>6}  kills {kills:>4}");
            let submitted = self.parts.iter().any(|(kind, part)| *kind == Kind::Producer && part.done);
            if submitted && recorded.is_some_and(|recorded| recorded >= self.plan.jobs.cast_signed()) {
                return Ok(());
            }
            if self.begun.elapsed() > Duration::from_secs(self.plan.minutes * 60) {
                eprintln!("time is up: from here on nobody is killed");
                return Ok(());
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Part> {
        let nodes = self.cluster.nodes.iter().map(|member| &member.part);
        self.parts.iter().map(|(_, part)| part).chain(nodes)
    }

    fn tend(&mut self) -> anyhow::Result<()> {
        for (_, part) in &mut self.parts {
            part.tend()?;
        }
        self.cluster.nodes.iter_mut().try_for_each(|member| member.part.tend())
    }

    /// Kills one part, if the one that chance points at has been up for long enough.
    async fn strike(&mut self) -> anyhow::Result<()> {
        let kind = match self.random.u32(0..100) {
            0..50 => Kind::Worker,
            50..65 => Kind::Producer,
            65..80 => Kind::Recorder,
            80..88 => Kind::Gateway,
            _ => Kind::Node,
        };
        let up = UP.iter().find(|(of, _)| *of == kind).map_or(Duration::ZERO, |(_, up)| *up);
        if kind == Kind::Node {
            return self.strike_node(up).await;
        }
        let mut those: Vec<&mut Part> =
            self.parts.iter_mut().filter(|(of, _)| *of == kind).map(|(_, part)| part).collect();
        let chosen = self.random.usize(0..those.len());
        if those[chosen].up_for().is_some_and(|time| time >= up) {
            those[chosen].kill()?;
        }
        Ok(())
    }

    /// Kills the leader of the jobs' queue, or, one time in four, any node: only when all three are up, for two
    /// of three are needed.
    async fn strike_node(&mut self, up: Duration) -> anyhow::Result<()> {
        for member in &mut self.cluster.nodes {
            let settled = member.part.up_for().is_some_and(|time| time >= up);
            if !settled || !member.is_ready().await {
                return Ok(());
            }
        }
        let leader = self.cluster.leader()?;
        let chosen = if self.random.u32(0..4) == 0 { self.random.usize(0..3) } else { leader };
        self.leaders += u32::from(chosen == leader);
        self.cluster.nodes[chosen].part.kill()?;
        let submitting =
            self.parts.iter_mut().any(|(kind, part)| *kind == Kind::Producer && part.up_for().is_some());
        if chosen == leader && submitting {
            self.watch().await?;
        }
        Ok(())
    }

    /// Finds the longest time without a confirm: the election, and all that finds the new leader after it.
    async fn watch(&mut self) -> anyhow::Result<()> {
        let size = || std::fs::metadata(&self.accepted).map_or(0, |file| file.len());
        let (begun, mut last, mut before, mut pause) =
            (Instant::now(), Instant::now(), size(), Duration::ZERO);
        while begun.elapsed() < WATCH {
            tokio::time::sleep(LOOK).await;
            let now = size();
            if now != before {
                pause = pause.max(last.elapsed());
                (last, before) = (Instant::now(), now);
            }
        }
        // When all is submitted there are no confirms to wait for.
        self.tend()?;
        if !self.parts.iter().any(|(kind, part)| *kind == Kind::Producer && part.done) {
            self.pauses.push(pause.max(last.elapsed()));
        }
        Ok(())
    }

    /// Kills nobody any more, and waits until all queues are empty and every accepted job has its end.
    async fn calm_down(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        loop {
            self.tend()?;
            if let Ok(left) = self.left().await
                && left == 0
            {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > CALM {
                eprintln!("not all has come to its end within {} s", CALM.as_secs());
                return Ok(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Accepted jobs that are neither recorded nor dead, and messages that wait to be recorded.
    async fn left(&self) -> anyhow::Result<usize> {
        let session = Session::connect(&Options::new(&self.settings.broker, "crash")).await?;
        let mut waiting = 0;
        for queue in [topology::RESULTS_QUEUE, topology::DEAD_RECORD_QUEUE] {
            waiting += session.depth(queue).await?.0 as usize;
        }
        session.close().await;
        let reckoning = self.reckon().await?;
        Ok(waiting + reckoning.lost.len())
    }

    async fn reckon(&self) -> anyhow::Result<Reckoning> {
        let mut books = Books {
            records: self.history.records().await?,
            letters: self.history.letters().await?.into_iter().collect(),
            ..Books::default()
        };
        let accepted = producer::accepted(&self.accepted)?;
        for number in 0..self.plan.jobs {
            let (job, fate) = plan::job(self.plan.seed, number, self.plan.real)?;
            if accepted.contains(&number) {
                books.accepted.insert(job.id.to_string());
            }
            books.planned.insert(job.id.to_string(), fate.status());
        }
        Ok(Reckoning::of(&books))
    }

    fn report(&self, reckoning: &Reckoning, calm: Duration) -> anyhow::Result<String> {
        let mut text = String::new();
        let (vms, workers) =
            (if self.plan.real { "real VMs" } else { "stand-ins for VMs" }, self.plan.workers);
        writeln!(
            text,
            "RabbitMQ {}, 3 nodes; {workers} workers with {vms}; 2 recorders; Datomic Local",
            self.cluster.version()?
        )?;
        writeln!(
            text,
            "seed {}, {} jobs asked for, at most {} a second",
            self.plan.seed, self.plan.jobs, self.plan.rate
        )?;
        let seconds = self.begun.elapsed().as_secs_f64() - calm.as_secs_f64();
        writeln!(text, "{seconds:.0} s under kill -9, then {:.0} s until all was in\n", calm.as_secs_f64())?;
        let kills: u32 = self.all().map(|part| part.kills).sum();
        writeln!(text, "kills             {kills:>7}  (leaders of the jobs' queue: {})", self.leaders)?;
        for part in self.all().filter(|part| part.kills + part.ends > 0) {
            write!(text, "    {:<14}{:>7}", part.name, part.kills)?;
            match part.ends {
                0 => writeln!(text)?,
                ends => writeln!(text, "  (ended by itself {ends} times, and was started again)")?,
            }
        }
        if !self.pauses.is_empty() {
            let mut pauses: Vec<f64> = self.pauses.iter().map(Duration::as_secs_f64).collect();
            pauses.sort_by(f64::total_cmp);
            let (median, longest) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
            let count = pauses.len();
            writeln!(text, "no confirm after a leader's death, its successor's election included:")?;
            writeln!(text, "    {median:.2} s median, {longest:.2} s the longest of {count}")?;
        }
        writeln!(text, "{reckoning}")?;
        ensure!(reckoning.accepted > 0, "no job was accepted: nothing was tried");
        Ok(text)
    }
}

/// Where all is, as `evalfleet up` would write it.
fn settings(dir: &Path, cluster: &Cluster, ports: Ports, token_file: &Path) -> anyhow::Result<Settings> {
    let urls: Vec<String> = cluster.urls().iter().map(|url| format!("{url:?}")).collect();
    let endpoints = format!(
        "[broker]\nurls = [{}]\nretry_tiers = [\"1s\"]\n\n[datomic]\nurl = \"http://127.0.0.1:{}\"\ntoken_file = {:?}\n",
        urls.join(", "),
        ports.gateway,
        token_file.display().to_string(),
    );
    std::fs::write(dir.join(ENDPOINTS_FILE), &endpoints)?;
    Ok(Settings::from_layers(&Layers { endpoints: Some(endpoints), ..Layers::default() })?)
}

/// What a part finds in its environment.
fn environment(dir: &Path, name: &str) -> Vec<(String, String)> {
    let target = dir.parent().unwrap_or(dir);
    let path = |path: PathBuf| path.display().to_string();
    [
        ("EVALFLEET_STATE__DIR", path(dir.to_owned())),
        ("EVALFLEET_IMAGES__DIR", path(target.join("images"))),
        ("EVALFLEET_QEMU__SNAPSHOT_DIR", path(target.join("templates"))),
        ("EVALFLEET_WORKER__NAME", name.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
