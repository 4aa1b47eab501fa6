//! `evalfleet-bench-analytics`: how often the analytics are right, and how fast. Prints tables.

mod faults;
mod live;
mod noise;
mod real;
mod synthetic;
mod watch;

use anyhow::{Context, Result};
use clap::Parser;
use evalfleet_analytics::changepoint::{self, Settings};
use std::path::PathBuf;
use std::time::Instant;
use synthetic::Kind;

/// The threshold that the watch has.
const WATCHED: f64 = 4.5;

/// Measure how often the analytics are right, and how fast.
#[derive(Parser)]
#[command(after_help = "Examples:
  evalfleet-bench-analytics
  evalfleet-bench-analytics --series FOLDER --peers target/peers/bin/python

Without --series the real series are left out, without --peers the other programs.")]
struct Args {
    /// A folder of annotated series (JSON: name, values, annotations).
    #[arg(long)]
    series: Option<PathBuf>,
    /// A Python with apache-otava and ruptures, to compare with.
    #[arg(long, requires = "series")]
    peers: Option<PathBuf>,
    /// What runs the other programs.
    #[arg(long, default_value = "bench/analytics/peers.py")]
    script: PathBuf,
    /// How many synthetic series of each kind.
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// The seed of all randomness. The figures have the one that stands here; settings are chosen with others.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How many simulated fleets are watched.
    #[arg(long, default_value_t = 120)]
    fleets: u64,
    /// Only the simulated fleets, with each alert that was wrong and each regression that was not found.
    #[arg(long)]
    fleets_only: bool,
    /// How many series are timed.
    #[arg(long, default_value_t = 10_000)]
    timed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    noise::begin(args.seed);
    println!("analytics {}; one core; seed {}", env!("CARGO_PKG_VERSION"), args.seed);
    if args.fleets_only {
        return watch::print(args.fleets, true);
    }
    let Settings { penalty, floor, shortest, spike } = Settings::default();
    println!("change points: penalty {penalty}, floor {floor}, shortest {shortest}, spike {spike}\n");
    if let Some(folder) = &args.series {
        let all = real::read(folder)?;
        let peers = args.peers.as_deref().map(|python| (python, args.script.as_path()));
        print_real(&real::score(&all, folder, peers)?);
        print_sensitivity(&all)?;
    }
    print_synthetic(args.runs)?;
    print_speed(args.timed)?;
    print_live()?;
    watch::print(args.fleets, false)?;
    print_clusters()
}

fn print_real(scores: &real::Scores) {
    println!("real series: F1, margin 5, mean over annotators");
    print!("{:<28}", "");
    scores.methods.iter().for_each(|(name, _)| print!("{name:>28}"));
    println!();
    for (at, series) in scores.series.iter().enumerate() {
        print!("{series:<28}");
        scores.methods.iter().for_each(|(_, each)| print!("{:>28.3}", each[at]));
        println!();
    }
    print!("{:<28}", "mean");
    scores.methods.iter().for_each(|(_, each)| print!("{:>28.3}", real::mean(each)));
    println!();
    if let Some(((_, ours), others)) = scores.methods.split_first() {
        let best = others.iter().map(|(_, each)| real::mean(each)).fold(0.0, f64::max);
        println!("F1 on real series, mean: {:.3}; the best of the others: {best:.3}", real::mean(ours));
        println!("lead over the best of the others: {:.3}\n", real::mean(ours) - best);
    }
}

/// What other settings would have given: how far the default is a lucky one.
fn print_sensitivity(all: &[real::Series]) -> Result<()> {
    let mut grid = Vec::new();
    for shortest in [5, 8, 10] {
        for penalty in [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5] {
            for floor in [0.1, 0.2, 0.3, 0.4] {
                for spike in [4.0, 5.0] {
                    grid.push(real::with(all, &Settings { penalty, floor, shortest, spike })?);
                }
            }
        }
    }
    let means: Vec<f64> = grid.iter().map(|scores| real::mean(scores)).collect();
    let good = means.iter().filter(|mean| **mean >= 0.8).count();
    let (low, high) =
        means.iter().fold((1.0_f64, 0.0_f64), |(low, high), mean| (low.min(*mean), high.max(*mean)));
    println!("other settings: {good} of {} reach 0.80; from {low:.3} to {high:.3}", grid.len());
    // Settings that are chosen on all other series, scored on the one left out.
    let left_out: Vec<f64> = (0..all.len())
        .map(|out| {
            let others = |scores: &Vec<f64>| scores.iter().sum::<f64>() - scores[out];
            let best = grid.iter().max_by(|a, b| others(a).total_cmp(&others(b)));
            best.map_or(0.0, |scores| scores[out])
        })
        .collect();
    println!(
        "settings chosen on the other series, scored on the one left out: {:.3}\n",
        real::mean(&left_out)
    );
    Ok(())
}

fn print_synthetic(runs: u64) -> Result<()> {
    println!("synthetic series: {runs} of each kind, {} points", synthetic::POINTS);
    println!("clean                         false alarms");
    let (mut most, mut least) = (0.0_f64, 1.0_f64);
    for kind in Kind::CLEAN {
        let (alarms, _) = synthetic::share(kind, runs, &Settings::default())?;
        most = most.max(alarms);
        println!("{:<28}{:>12.1} %", kind.name(), alarms * 100.0);
    }
    let heads = ("changed", "found within", synthetic::NEAR, "others a series");
    println!("{:<28}{:>12}{:>3}{:>17}", heads.0, heads.1, heads.2, heads.3);
    for kind in Kind::CHANGED {
        let (found, others) = synthetic::share(kind, runs, &Settings::default())?;
        if kind.is_step() {
            least = least.min(found);
        }
        println!("{:<28}{:>13.1} %{others:>17.3}", kind.name(), found * 100.0);
    }
    println!("(a drift: within {} points)", synthetic::NEAR_DRIFT);
    println!(
        "steps of 2 deviations found within {} points, the worst kind: {:.1} %",
        synthetic::NEAR,
        least * 100.0
    );
    println!("clean series with a false alarm, the worst kind: {:.1} %\n", most * 100.0);
    Ok(())
}

fn print_speed(timed: u64) -> Result<()> {
    let kinds: Vec<Kind> = Kind::CLEAN.into_iter().chain(Kind::CHANGED).collect();
    let series: Vec<Vec<f64>> =
        (0..timed).map(|run| kinds[run as usize % kinds.len()].series(run).0).collect();
    let start = Instant::now();
    for values in &series {
        std::hint::black_box(changepoint::changes(values, &Settings::default())?);
    }
    let took = start.elapsed().as_secs_f64();
    println!("{timed} series of {} points: {took:.1} s on one core", synthetic::POINTS);
    println!("one live point: {} ns\n", live::point()?.as_nanos());
    Ok(())
}

fn print_live() -> Result<()> {
    println!("success rates live: a drop from 0.95 to 0.80, CUSUM; in {} clean evaluations", live::CLEAN);
    println!(
        "reruns: SPRT with errors {} (confirming what is well) and {}",
        live::FALSE_CONFIRM,
        live::FALSE_DISMISS
    );
    let within = format!("found within {}", live::WITHIN);
    let heads =
        ["threshold", &within, "clean suspicions", "clean runs, any", "confirmed", "clean, confirmed"];
    println!("{}    reruns", heads.map(|head| format!("{head:>18}")).concat());
    let mut watched = None;
    for step in 0..=14 {
        let row = live::row(3.0 + 0.5 * f64::from(step), 4000, 1000).context("a simulation")?;
        if row.threshold == WATCHED {
            watched = Some((row.confirmed, row.alarmed));
        }
        println!(
            "{:>18.1}{:>16.1} %{:>18.2}{:>16.1} %{:>16.1} %{:>16.2} %{:>10.0}",
            row.threshold,
            row.found * 100.0,
            row.suspicions,
            row.disturbed * 100.0,
            row.confirmed * 100.0,
            row.alarmed * 100.0,
            row.reruns
        );
    }
    if let Some((confirmed, alarmed)) = watched {
        println!(
            "drops found within {} and confirmed, threshold {WATCHED}: {:.1} %",
            live::WITHIN,
            confirmed * 100.0
        );
        println!("clean runs with a confirmed alarm, threshold {WATCHED}: {:.2} %", alarmed * 100.0);
    }
    println!();
    Ok(())
}

fn print_clusters() -> Result<()> {
    println!("failure clusters: 5000 messages of known faults");
    let mut least = 1.0_f64;
    for (name, found) in ["known faults", "held-out faults", "all"].iter().zip(faults::agreement(5000)?) {
        let faults::Agreement { index, clusters, faults } = found;
        least = least.min(index);
        println!("{name:<28}adjusted Rand index {index:.3}, {clusters} clusters of {faults} faults");
    }
    println!("adjusted Rand index, the least: {least:.3}");
    Ok(())
}
