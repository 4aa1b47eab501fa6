//! Failure messages whose fault is known, as the product, its subjects and the services write them.
//!
//! The faults of [`HELD_OUT`] were not looked at when the clusters' thresholds were chosen.

use crate::noise::Noise;
use anyhow::{Context, Result};
use evalfleet_analytics::cluster::{Clusters, Failure, Settings, adjusted_rand_index};

type Message = fn(&mut Noise) -> String;

/// Faults by which the thresholds were chosen.
const KNOWN: &[Message] = &[
    |n| format!("exit status {}", 1 + n.below(120)),
    |n| format!("ended by signal {}", n.below(31) + 1),
    |n| format!("still running after {}s", number(n)),
    |n| format!("its disk grew by {} bytes, and may grow by {} MiB", number(n), n.below(900)),
    |n| {
        format!(
            "{} of its processes were killed for want of memory; together they may have {}M",
            n.below(9),
            number(n)
        )
    },
    |n| format!("it was denied a process {} times; it may have {} at once", number(n), n.below(99)),
    |n| format!("wrote more than {}K of output", number(n)),
    |n| format!("{}: No such file or directory", path(n)),
    |n| {
        format!(
            "the VM went down during the run: the guest's kernel panicked\nits console ended with: [ {}.{}] Kernel panic",
            n.below(99),
            number(n)
        )
    },
    |n| {
        let status = "API request failed with status 429 Too Many Requests: ";
        format!(
            "{status}{{\n  \"error\": {{\n    \"code\": 429,\n    \"message\": \"You exceeded your current quota, {}\"",
            word(n)
        )
    },
    |n| traceback("KeyError", &format!("'{}'", word(n)), n),
    |n| traceback("ValueError", &format!("invalid literal for int() with base 10: '{}'", word(n)), n),
    |n| traceback("FileNotFoundError", &format!("[Errno 2] No such file or directory: '{}'", path(n)), n),
    |n| panic(&format!("index out of bounds: the len is {} but the index is {}", n.below(9), number(n)), n),
    |n| panic(&format!("called `Option::unwrap()` on a `None` value in {}", path(n)), n),
];

/// Faults held out.
const HELD_OUT: &[Message] = &[
    |n| format!("used more than {}.{}s on the processors", n.below(90), n.below(9)),
    |n| format!("the image base has no tool {}; it has {}, {}", word(n), word(n), word(n)),
    |n| format!("the arguments of {} do not fit: /{} is not of type \"integer\"", word(n), word(n)),
    |n| format!("its deadline was {}, and a worker took it at {}", moment(n), moment(n)),
    |n| format!("there is no directory {}", path(n)),
    |n| format!("{}: Permission denied", path(n)),
    |n| format!("QEMU: was killed by somebody on the host (pid {})", number(n)),
    |n| format!("the guest agent answered frame {} out of turn", number(n)),
    |n| {
        format!(
            "error sending request for url (https://{}.example.com/v1/{}): operation timed out",
            word(n),
            number(n)
        )
    },
    |n| {
        format!("API request failed with status 503 Service Unavailable: the model {} is overloaded", word(n))
    },
    |n| traceback("ZeroDivisionError", "division by zero", n),
    |n| traceback("AttributeError", &format!("'NoneType' object has no attribute '{}'", word(n)), n),
    |n| {
        traceback(
            "json.decoder.JSONDecodeError",
            &format!("Expecting value: line {} column {} (char {})", n.below(9), n.below(80), number(n)),
            n,
        )
    },
    |n| traceback("AssertionError", &format!("expected {} rows, found {}", number(n), number(n)), n),
    |n| panic("attempt to subtract with overflow", n),
    |n| {
        panic(
            &format!(
                "called `Result::unwrap()` on an `Err` value: ParseIntError {{ kind: InvalidDigit, at: {} }}",
                number(n)
            ),
            n,
        )
    },
];

const WORDS: &[&str] = &[
    "alpha", "border", "candle", "delta", "ember", "forest", "garden", "harbor", "island", "jacket",
    "kernel", "ladder", "meadow", "needle", "orchid", "pepper", "quartz", "river", "saddle", "timber",
];

fn word(noise: &mut Noise) -> &'static str {
    WORDS[noise.below(WORDS.len())]
}

fn number(noise: &mut Noise) -> usize {
    10 + noise.below(99_990)
}

fn path(noise: &mut Noise) -> String {
    format!("/workspace/{}/{}_{}.py", word(noise), word(noise), noise.below(30))
}

fn moment(noise: &mut Noise) -> String {
    format!("2026-01-{:02}T{:02}:{:02}:00Z", 1 + noise.below(28), noise.below(24), noise.below(60))
}

fn traceback(kind: &str, said: &str, noise: &mut Noise) -> String {
    let frames: String = (0..=noise.below(4))
        .map(|_| format!("  File \"{}\", line {}, in {}\n", path(noise), number(noise), word(noise)))
        .collect();
    format!("Traceback (most recent call last):\n{frames}{kind}: {said}")
}

fn panic(said: &str, noise: &mut Noise) -> String {
    let place = format!("src/{}.rs:{}:{}", word(noise), noise.below(900), noise.below(80));
    format!(
        "thread 'main' panicked at {place}:\n{said}\nnote: run with `RUST_BACKTRACE=1` environment variable"
    )
}

/// The adjusted Rand index on messages of some faults, and how many clusters there were for how many faults.
pub(crate) struct Agreement {
    pub(crate) index: f64,
    pub(crate) clusters: usize,
    pub(crate) faults: usize,
}

/// On the known faults, the held-out ones, and all together; frequencies are as unequal as life's.
pub(crate) fn agreement(messages: usize) -> Result<[Agreement; 3]> {
    let all: Vec<Message> = KNOWN.iter().chain(HELD_OUT).copied().collect();
    Ok([of(KNOWN, messages)?, of(HELD_OUT, messages)?, of(&all, messages)?])
}

fn of(faults: &[Message], messages: usize) -> Result<Agreement> {
    let mut noise = Noise::of(99, faults.len() as u64);
    let mut clusters = Clusters::new(Settings::default());
    let (mut truth, mut templates) = (Vec::new(), Vec::new());
    for at in 0..messages {
        // The square makes some faults frequent and others rare.
        let fault = (noise.unit().powi(2) * faults.len() as f64) as usize;
        let message = faults[fault](&mut noise);
        truth.push(fault);
        templates.push(clusters.push(&Failure { message: &message, at: at as i64, attributes: &[] }));
    }
    let (found, of) = clusters.report();
    let labels: Vec<usize> = templates.iter().map(|template| of[*template]).collect();
    let index = adjusted_rand_index(&truth, &labels).context("as many labels as messages")?;
    Ok(Agreement { index, clusters: found.len(), faults: faults.len() })
}
