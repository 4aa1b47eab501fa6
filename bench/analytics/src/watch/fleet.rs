//! A simulated fleet: what its tools do, what became worse in them by which version or image, and what ails its machines
//! meanwhile. It knows the truth; the watch sees only evaluations.

use crate::noise::Noise;
use std::ops::Range;

/// How long a fleet is watched, in rounds; in each, most cases of each tool are evaluated once.
pub(super) const ROUNDS: u32 = 160;
/// Tools of a fleet, cases of each, workers.
pub(super) const TOOLS: usize = 12;
pub(super) const CASES: usize = 3;
pub(super) const WORKERS: usize = 6;
/// Regressions begin not before this round, so that there is something to become worse than; and not after the other, so
/// that there is time to find them.
const BEGIN: Range<u32> = 40..95;

/// What becomes worse, and by how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    /// Passes with this share of its former rate.
    Failing(f64),
    /// Takes so many times as long.
    Slower(f64),
    /// Takes so many times the memory.
    Memory(f64),
    /// Writes so many times as much.
    Disk(f64),
    /// Clean VMs of the image take so many times as long to make.
    Reset(f64),
}

impl What {
    /// The kind of alert that tells of it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Failing(_) => "failing",
            Self::Slower(_) => "slower",
            Self::Memory(_) => "memory",
            Self::Disk(_) => "disk",
            Self::Reset(_) => "reset",
        }
    }
}

/// By what it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum By {
    /// From this version of its tool on.
    Version(usize),
    /// From this image on.
    Image(usize),
}

/// One injected regression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Regression {
    pub(super) what: What,
    /// None where it is the image's alone.
    pub(super) tool: Option<usize>,
    pub(super) cases: Vec<usize>,
    pub(super) by: By,
    /// The rounds in which the newest version or image has it.
    pub(super) rounds: Range<u32>,
    /// The version or image that is well again, if one is.
    fixed: usize,
}

/// Something that ails machines.
#[derive(Debug, Clone, PartialEq)]
enum Trouble {
    /// A worker's subjects fail with this probability.
    Bad { worker: usize, fails: f64 },
    /// Everything on these workers takes so many times as long.
    Busy { workers: Range<usize>, times: f64 },
    /// This share of evaluations, wherever they run, is spoiled by our machines; one in twenty of these looks as if the
    /// subject had failed.
    Burst { share: f64 },
}

/// What one case usually does.
#[derive(Debug, Clone, Copy)]
struct Case {
    rate: f64,
    wall_ms: f64,
    memory: f64,
    disk: f64,
    /// How much durations scatter, as a share.
    scatter: f64,
}

/// What is evaluated: which case of which tool, in which version and image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) tool: usize,
    pub(super) case: usize,
    pub(super) version: usize,
    pub(super) image: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) outcome: Option<bool>,
    pub(super) wall_ms: f64,
    pub(super) memory: f64,
    pub(super) disk: f64,
    /// None where the VM did not stand ready.
    pub(super) reset_ms: Option<f64>,
}

/// A fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    cases: Vec<Case>,
    /// For each tool, the rounds in which its versions begin.
    versions: Vec<Vec<u32>>,
    images: Vec<u32>,
    speeds: Vec<f64>,
    pub(super) regressions: Vec<Regression>,
    troubles: Vec<(Range<u32>, Trouble)>,
}

fn between(noise: &mut Noise, low: f64, high: f64) -> f64 {
    low + (high - low) * noise.unit()
}

/// Evenly between the logarithms.
fn scale(noise: &mut Noise, low: f64, high: f64) -> f64 {
    between(noise, low.ln(), high.ln()).exp()
}

fn scattered(noise: &mut Noise, usual: f64, scatter: f64) -> f64 {
    usual * (noise.normal() * scatter).exp()
}

/// The rounds in which something begins that comes every `pace` rounds or so, the first at 0.
fn beginnings(noise: &mut Noise, pace: f64) -> Vec<u32> {
    let mut all = vec![0];
    let mut round = 0.0;
    loop {
        round += 1.0 + 2.0 * (pace - 1.0) * noise.unit();
        if round >= f64::from(ROUNDS) {
            return all;
        }
        all.push(round as u32);
    }
}

fn newest(beginnings: &[u32], round: u32) -> usize {
    beginnings.iter().rposition(|begin| *begin <= round).unwrap_or(0)
}

impl Fleet {
    /// One fleet, by chance.
    pub(super) fn new(noise: &mut Noise) -> Self {
        let case = |noise: &mut Noise, is_flaky: bool| Case {
            rate: if is_flaky { between(noise, 0.6, 0.9) } else { between(noise, 0.97, 1.0) },
            wall_ms: scale(noise, 80.0, 4000.0),
            memory: scale(noise, 24e6, 400e6),
            disk: scale(noise, 4e6, 200e6),
            scatter: between(noise, 0.03, 0.15),
        };
        // A quarter of the tools are flaky, at constant rates.
        let cases = (0..TOOLS * CASES).map(|nth| case(noise, nth / CASES % 4 == 3)).collect();
        // Some change with every other round, some hardly ever.
        let versions = (0..TOOLS).map(|_| scale(noise, 2.0, 40.0)).collect::<Vec<_>>();
        let versions = versions.into_iter().map(|pace| beginnings(noise, pace)).collect();
        let images = beginnings(noise, 25.0);
        let speeds = (0..WORKERS).map(|_| between(noise, 0.92, 1.08)).collect();
        let mut fleet =
            Self { cases, versions, images, speeds, regressions: Vec::new(), troubles: Vec::new() };
        fleet.regress(noise);
        fleet.trouble(noise);
        fleet
    }

    /// In each fleet some tools become worse, each once, and perhaps resets do.
    fn regress(&mut self, noise: &mut Noise) {
        for tool in 0..TOOLS {
            if noise.chance(0.35) {
                let what = match noise.below(6) {
                    0..3 => What::Failing(if noise.chance(0.5) { 0.0 } else { between(noise, 0.1, 0.65) }),
                    3 => What::Slower(between(noise, 1.5, 3.0)),
                    4 => What::Memory(between(noise, 1.5, 3.0)),
                    _ => What::Disk(between(noise, 1.6, 4.0)),
                };
                let all = noise.chance(0.4);
                let cases = if all { (0..CASES).collect() } else { vec![noise.below(CASES)] };
                let by_image = noise.chance(0.25);
                self.inject(noise, what, Some(tool), cases, by_image);
            }
        }
        if noise.chance(0.3) {
            let what = What::Reset(between(noise, 1.5, 3.0));
            self.inject(noise, what, None, Vec::new(), true);
        }
    }

    fn inject(
        &mut self,
        noise: &mut Noise,
        what: What,
        tool: Option<usize>,
        cases: Vec<usize>,
        by_image: bool,
    ) {
        let begun = match tool.filter(|_| !by_image) {
            Some(tool) => &self.versions[tool],
            None => &self.images,
        };
        let fitting: Vec<usize> = (1..begun.len()).filter(|nth| BEGIN.contains(&begun[*nth])).collect();
        // What hardly ever changes may not change in time.
        if fitting.is_empty() {
            return;
        }
        let first = fitting[noise.below(fitting.len())];
        // Some are fixed later, none before there was time to see them.
        let fixed = (first + 1..begun.len()).find(|nth| begun[*nth] >= begun[first] + 50);
        let fixed = fixed.filter(|_| noise.chance(0.5)).unwrap_or(usize::MAX);
        let end = begun.get(fixed).copied().unwrap_or(ROUNDS);
        let by = if by_image || tool.is_none() { By::Image(first) } else { By::Version(first) };
        self.regressions.push(Regression { what, tool, cases, by, rounds: begun[first]..end, fixed });
    }

    fn trouble(&mut self, noise: &mut Noise) {
        let mut add = |noise: &mut Noise, longest: f64, trouble: Trouble| {
            let begin = 10 + noise.below(ROUNDS as usize - 20) as u32;
            let end = begin + between(noise, longest / 4.0, longest) as u32;
            self.troubles.push((begin..end, trouble));
        };
        for _ in 0..2 {
            let (worker, fails) = (noise.below(WORKERS), between(noise, 0.3, 1.0));
            add(noise, 40.0, Trouble::Bad { worker, fails });
            let (worker, times) = (noise.below(WORKERS), between(noise, 1.4, 3.0));
            add(noise, 40.0, Trouble::Busy { workers: worker..worker + 1, times });
            let share = between(noise, 0.2, 0.7);
            add(noise, 15.0, Trouble::Burst { share });
        }
        if noise.chance(0.5) {
            let times = between(noise, 1.3, 2.5);
            add(noise, 40.0, Trouble::Busy { workers: 0..WORKERS, times });
        }
    }

    /// What is evaluated of a case in a round: the newest of everything.
    pub(super) fn job(&self, tool: usize, case: usize, round: u32) -> Job {
        let version = newest(&self.versions[tool], round);
        Job { tool, case, version, image: newest(&self.images, round) }
    }

    /// Runs a job by a worker in a round.
    pub(super) fn run(&self, job: Job, worker: usize, round: u32, noise: &mut Noise) -> Seen {
        let usual = &self.cases[job.tool * CASES + job.case];
        let (mut rate, mut slower, mut memory, mut disk, mut reset) = (usual.rate, 1.0, 1.0, 1.0, 1.0);
        for regression in self.regressions.iter().filter(|one| one.has(job)) {
            match regression.what {
                What::Failing(share) => rate *= share,
                What::Slower(times) => slower *= times,
                What::Memory(times) => memory *= times,
                What::Disk(times) => disk *= times,
                What::Reset(times) => reset *= times,
            }
        }
        let (mut fails, mut spoiled, mut busy) = (0.0_f64, 0.0_f64, 1.0);
        for (_, trouble) in self.troubles.iter().filter(|(rounds, _)| rounds.contains(&round)) {
            match trouble {
                Trouble::Bad { worker: bad, fails: share } if *bad == worker => fails = fails.max(*share),
                Trouble::Busy { workers, times } if workers.contains(&worker) => busy *= times,
                Trouble::Burst { share } => spoiled = spoiled.max(*share),
                Trouble::Bad { .. } | Trouble::Busy { .. } => {}
            }
        }
        let passed = noise.chance(rate) && !noise.chance(fails);
        let outcome = match noise.chance(spoiled) {
            true if noise.chance(0.95) => None,
            true => Some(false),
            false => Some(passed),
        };
        let pace = self.speeds[worker] * busy;
        Seen {
            outcome,
            wall_ms: scattered(noise, usual.wall_ms * slower * pace, usual.scatter),
            memory: scattered(noise, usual.memory * memory, 0.03),
            disk: scattered(noise, usual.disk * disk, 0.05),
            reset_ms: noise.chance(0.8).then(|| scattered(noise, 300.0 * reset * pace, 0.1)),
        }
    }

    /// Whether a worker is busy, or was lately.
    pub(super) fn was_busy(&self, worker: usize, round: u32) -> bool {
        let is_it =
            |trouble: &Trouble| matches!(trouble, Trouble::Busy { workers, .. } if workers.contains(&worker));
        self.troubles
            .iter()
            .any(|(rounds, trouble)| is_it(trouble) && rounds.start <= round && round < rounds.end + 20)
    }

    /// What ails machines in a round, or did lately.
    pub(super) fn ails(&self, round: u32) -> String {
        let lately = |rounds: &Range<u32>| rounds.start <= round && round < rounds.end + 20;
        let all = self.troubles.iter().filter(|(rounds, _)| lately(rounds));
        all.map(|(rounds, trouble)| format!("{trouble:?} in {rounds:?}")).collect::<Vec<_>>().join(", ")
    }
}

impl Regression {
    /// Whether a job has it.
    pub(super) fn has(&self, job: Job) -> bool {
        let nth = match self.by {
            By::Version(first) => (job.version, first),
            By::Image(first) => (job.image, first),
        };
        let is_meant = self.tool.is_none_or(|tool| tool == job.tool && self.cases.contains(&job.case));
        is_meant && nth.0 >= nth.1 && nth.0 < self.fixed
    }
}
