//! Randomness that is the same for the same seed.

use std::sync::OnceLock;

/// What every stream begins with: the figures have one, and settings are chosen with others.
static SEED: OnceLock<u64> = OnceLock::new();

/// Sets the seed of the whole run, once; 0 where it is not set.
pub(crate) fn begin(seed: u64) {
    SEED.get_or_init(|| seed);
}

/// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
pub(crate) struct Noise(u64);

impl Noise {
    /// One stream of its own for each run of each trial.
    pub(crate) fn of(trial: u64, run: u64) -> Self {
        let seed = SEED.get().copied().unwrap_or(0).wrapping_mul(0x9fb2_1c65_1e98_df25);
        let mut noise = Self(trial.wrapping_mul(0xd134_2543_de82_ef95) ^ run ^ seed);
        noise.next();
        Self(noise.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From 0 up to `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
