//! Everything that happens by chance, out of one seed: what breaks, when, and for how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// How often what goes wrong, out of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    /// A connection breaks before what was asked is done.
    pub(crate) broken_before: u32,
    /// It breaks when that is done, and nobody hears of it.
    pub(crate) broken_after: u32,
    /// The answer never comes.
    pub(crate) silent: u32,
    /// The broker says no to a publish.
    pub(crate) refused: u32,
    /// The store does not do as asked.
    pub(crate) store_before: u32,
    /// The store does it, and its answer is lost.
    pub(crate) store_after: u32,
    /// The store does it when its caller has given up.
    pub(crate) store_late: u32,
    /// A try ends in a fault of ours.
    pub(crate) fault: u32,
    /// A VM cannot be made.
    pub(crate) unmade: u32,
    /// A spare VM dies while it waits.
    pub(crate) spare_dies: u32,
    /// The broker holds a message twice.
    pub(crate) doubled: u32,
    /// A message is handed out before older ones.
    pub(crate) reordered: u32,
    /// Whoever asked the client for something gives up in the middle.
    pub(crate) impatient: u32,
}

impl Rates {
    /// Nothing goes wrong.
    pub(crate) const CALM: Self = Self {
        broken_before: 0,
        broken_after: 0,
        silent: 0,
        refused: 0,
        store_before: 0,
        store_after: 0,
        store_late: 0,
        fault: 0,
        unmade: 0,
        spare_dies: 0,
        doubled: 0,
        reordered: 0,
        impatient: 0,
    };

    /// Some of it, more in one schedule than in another.
    fn draw(random: &mut fastrand::Rng) -> Self {
        let mut up_to = |most: u32| random.u32(0..=most);
        Self {
            broken_before: up_to(20),
            broken_after: up_to(30),
            silent: up_to(5),
            refused: up_to(30),
            store_before: up_to(100),
            store_after: up_to(150),
            store_late: up_to(50),
            fault: up_to(200),
            unmade: up_to(200),
            spare_dies: up_to(100),
            doubled: up_to(30),
            reordered: up_to(200),
            impatient: up_to(200),
        }
    }
}

/// The one source of chance of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Chance(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    rates: Rates,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let rates = Rates::draw(&mut random);
        Self(Arc::new(Mutex::new(State { random, rates })))
    }

    /// Times are drawn from it, and nothing goes wrong but that clients give up so often.
    pub(crate) fn calm(seed: u64, impatient: u32) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(State { random, rates: Rates { impatient, ..Rates::CALM } })))
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm_down(&self) {
        self.with(|state| state.rates = Rates::CALM);
    }

    /// Whether something happens that happens so often.
    pub(crate) fn strikes(&self, rate: impl FnOnce(&Rates) -> u32) -> bool {
        self.with(|state| {
            let rate = rate(&state.rates);
            // Drawn even if it cannot happen: calm changes no later draw.
            state.random.u32(0..1000) < rate
        })
    }

    /// A number from `range`.
    pub(crate) fn number(&self, range: std::ops::Range<u64>) -> u64 {
        self.with(|state| state.random.u64(range))
    }

    /// A time within `milliseconds`.
    pub(crate) fn time(&self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.number(milliseconds))
    }

    /// What anything takes that goes over a network.
    pub(crate) async fn latency(&self) {
        tokio::time::sleep(self.time(0..20)).await;
    }

    /// Waits for `future`, or gives up in the middle and drops it: then there is no answer.
    pub(crate) async fn patience<F: Future>(&self, future: F) -> Option<F::Output> {
        if self.strikes(|rates| rates.impatient) {
            polled(self.number(0..8), future).await
        } else {
            Some(future.await)
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Polls `future` so often and once more, and then drops it.
pub(crate) async fn polled<F: Future>(times: u64, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (std::pin::pin!(future), times);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
