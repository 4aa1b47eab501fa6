//! Thousands of jobs, each leaving marks wherever a job can and looking for those of all before it.
//!
//! The path is a worker's own ([`Runner`]): supply, claim, run, effects, kill; only the broker is not
//! there. Meanwhile this process's memory, open files and disk are noted: they must stay flat. A scan
//! that finds nothing because it cannot find anything would prove nothing, so the marks are first looked
//! for where they must be: by a second look within one job.

mod flat;
mod marks;

use crate::host::Host;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use crate::stand;
use anyhow::{Context as _, ensure};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_service::settings::Settings;
use evalfleet_worker::job::{Run as _, Runner};
use flat::Flat;
use marks::{Look, Marks};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How much is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Jobs in all.
    pub jobs: u64,
    /// Workers side by side, each with a VM and its spare.
    pub workers: u64,
    /// Every so many jobs, one looks through all of its VM's memory, and removes a kernel module.
    pub deep_every: u64,
    /// When to stop early and say how far it came.
    pub limit: Duration,
}

/// What the workers share.
struct Course {
    plan: Plan,
    begun: Instant,
    next: u64,
    done: u64,
    modules: String,
    resets: Series,
    jobs: Series,
    waited: u64,
    deep: u64,
    found: Vec<String>,
    flat: Vec<Flat>,
}

/// Runs the soak.
///
/// # Errors
/// When a mark is found, a job does not pass, the marks cannot be found where they are, or no VM stands; and when
/// memory, open files or disk grew after the first tenth of the jobs.
pub async fn measure(
    settings: &Settings,
    plan: Plan,
    interrupted: &CancellationToken,
) -> anyhow::Result<Report> {
    let (host, settings) = (Host::look(), Arc::new(settings.clone()));
    let vms = settings.state_dir().join("vms");
    let mut first = stand::worker(&settings, "soak-0").await?;
    let (modules, provenance) = Box::pin(control(&mut first, &settings)).await?;
    let course = Arc::new(Mutex::new(Course {
        plan,
        begun: Instant::now(),
        next: 1,
        done: 0,
        modules,
        resets: Series::default(),
        jobs: Series::default(),
        waited: 0,
        deep: 0,
        found: Vec::new(),
        flat: vec![Flat::look(0, &vms)?],
    }));
    let mut workers = Vec::new();
    for number in 0..plan.workers.max(1) {
        let runner =
            if number == 0 { None } else { Some(stand::worker(&settings, &format!("soak-{number}")).await?) };
        workers.push(runner);
    }
    workers[0] = Some(first);
    let running = workers.into_iter().flatten().map(|runner| {
        let (course, settings, vms) = (course.clone(), settings.clone(), vms.clone());
        let stop = interrupted.clone();
        tokio::spawn(async move { Box::pin(work(runner, &course, &settings, &vms, &stop)).await })
    });
    for worker in futures::future::join_all(running).await {
        worker??;
    }
    let mut course = Arc::into_inner(course).context("a worker is still there")?.into_inner();
    course.flat.push(Flat::look(course.done, &vms)?);
    for found in &course.found {
        eprintln!("{found}");
    }
    ensure!(course.found.is_empty(), "{} marks were found", course.found.len());
    // The first look on the way: by then what is made once is made.
    if let [_, early, .., late] = course.flat.as_slice() {
        let grown = late.grown_since(early);
        ensure!(grown.is_none(), "it is not flat: {}", grown.unwrap_or_default());
    }
    Ok(report(host, provenance, &course))
}

/// Shows that every kind of mark is found where it was not cleaned: one job marks, and looks once more.
/// Gives the modules of a clean VM, and what the results say of the machine.
async fn control(
    runner: &mut Runner,
    settings: &Settings,
) -> anyhow::Result<(String, Vec<(&'static str, String)>)> {
    let first =
        stand::evaluate(runner, marks::job(0, Look::Plain, "")?.into_job(&stand::defaults(settings))?)
            .await?;
    let modules = Marks::read(&first)?.modules;
    let twice =
        stand::evaluate(runner, marks::twice(&modules)?.into_job(&stand::defaults(settings))?).await?;
    marks::all_kinds_found(&twice)?;
    let of = &twice.provenance;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let strategy = of.reset.as_ref().map(|reset| reset.strategy.clone()).unwrap_or_default();
    Ok((
        modules,
        vec![
            ("accelerator", text(&of.accelerator)),
            ("QEMU", text(&of.qemu)),
            ("image", settings.client.image.to_string()),
            ("reset", strategy),
        ],
    ))
}

async fn work(
    mut runner: Runner,
    course: &Mutex<Course>,
    settings: &Settings,
    vms: &Path,
    interrupted: &CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let (number, look, modules) = {
            let mut course = course.lock().await;
            let over = course.begun.elapsed() > course.plan.limit || interrupted.is_cancelled();
            if over || course.next > course.plan.jobs || !course.found.is_empty() {
                break;
            }
            let number = course.next;
            course.next += 1;
            let look = if number % course.plan.deep_every == 0 { Look::Deep } else { Look::Plain };
            (number, look, course.modules.clone())
        };
        let begun = Instant::now();
        let job = marks::job(number, look, &modules)?.into_job(&stand::defaults(settings))?;
        let evaluation = stand::evaluate(&mut runner, job).await.with_context(|| format!("job {number}"))?;
        let marks = Marks::read(&evaluation).with_context(|| format!("job {number}"))?;
        marks::only_its_own(number, &evaluation).with_context(|| format!("job {number}"))?;
        course.lock().await.note(number, look, begun.elapsed(), &evaluation, marks, vms)?;
    }
    runner.put_away().await;
    Ok(())
}

impl Course {
    fn note(
        &mut self,
        number: u64,
        look: Look,
        took: Duration,
        evaluation: &Evaluation,
        marks: Marks,
        vms: &Path,
    ) -> anyhow::Result<()> {
        self.done += 1;
        self.jobs.push(took);
        if let Some(reset) = &evaluation.provenance.reset {
            self.resets.push(reset.took);
            self.waited += u64::from(reset.hidden < reset.took);
        }
        self.deep += u64::from(look == Look::Deep);
        self.found.extend(marks.found.into_iter().map(|what| format!("job {number} {what}")));
        let step = (self.plan.jobs / 10).max(1);
        if self.done.is_multiple_of(step) {
            let flat = Flat::look(self.done, vms)?;
            let pace = self.done as f64 / self.begun.elapsed().as_secs_f64();
            eprintln!("{flat}, {pace:.2} jobs/s, marks found: {}", self.found.len());
            self.flat.push(flat);
        }
        Ok(())
    }
}

fn report(host: Host, provenance: Vec<(&'static str, String)>, course: &Course) -> Report {
    let elapsed = course.begun.elapsed().as_secs_f64();
    let count = |what: &str, value: u64| Figure { what: what.to_owned(), value: value as f64, unit: "" };
    let mut figures = vec![
        count("jobs asked for", course.plan.jobs),
        count("jobs run, each in a VM of its own", course.done),
        count("of them, that looked through all memory and removed a module", course.deep),
        count("marks of earlier jobs found", course.found.len() as u64),
        count("jobs that waited for a spare", course.waited),
        Figure { what: "jobs a second".to_owned(), value: course.done as f64 / elapsed, unit: "" },
    ];
    figures.extend(course.flat.iter().flat_map(Flat::figures));
    let mut conditions: std::collections::BTreeMap<_, _> = provenance.into_iter().collect();
    conditions.insert("workers in this process", course.plan.workers.to_string());
    Report {
        benchmark: "soak: jobs that leave marks and look for those of all jobs before them",
        host,
        conditions,
        times: vec![
            Row { what: "making a clean VM", milliseconds: course.resets.summary() },
            Row { what: "a job, from its VM's claim to its death", milliseconds: course.jobs.summary() },
        ],
        figures,
    }
}
