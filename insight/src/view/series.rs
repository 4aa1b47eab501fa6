//! Rates over time: a window, cut into buckets of whole hours or days. Pure.

use super::rates::{Causes, Rate};
use super::time;
use crate::projection::{Counts, HOUR, Line};
use evalfleet_proto::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Milliseconds of a day.
pub const DAY: i64 = 24 * HOUR;
/// The most buckets of a series: what a chart can show.
const BUCKETS_MAX: i64 = 120;
/// A window with fewer evaluations than this is too narrow to choose by itself.
const ENOUGH: u64 = 50;

/// How far back one looks, from now or from the moment asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Window {
    /// The narrowest of the others that has something to show.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// A day.
    #[serde(rename = "24h")]
    Day,
    /// A week.
    #[serde(rename = "7d")]
    Week,
    /// Thirty days.
    #[serde(rename = "30d")]
    Month,
    /// Everything.
    #[serde(rename = "all")]
    All,
}

/// A stretch of event time, in milliseconds, and how long its buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The window that it is.
    pub window: Window,
    /// Its beginning, at a whole bucket.
    pub from: i64,
    /// Its end, not included.
    pub to: i64,
    /// Whole hours.
    pub bucket: i64,
}

impl Window {
    /// The stretch that ends at `until`, for evaluations that `line` counts.
    pub fn span(self, line: &Line, until: i64) -> Span {
        let first = line.hours.keys().next().map_or(until, |hour| hour * HOUR);
        // What finished after the last recorded moment by another clock is not cut off.
        let last = line.hours.keys().next_back().map_or(until, |hour| (hour + 1) * HOUR);
        let to = if last - until < DAY { until.max(last) } else { until };
        let days = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 30,
            Self::All => {
                let length = (to - first.min(to)).max(HOUR);
                let hours = (length / HOUR + BUCKETS_MAX) / BUCKETS_MAX;
                // Whole hours up to a day, then whole days.
                let hours = [1, 2, 3, 6, 12, 24].into_iter().find(|step| *step >= hours);
                let bucket =
                    hours.map_or_else(|| (length / BUCKETS_MAX / DAY + 1) * DAY, |hours| hours * HOUR);
                return Span { window: Self::All, from: first.div_euclid(bucket) * bucket, to, bucket };
            }
            Self::Auto => {
                let narrow = [Self::Day, Self::Week, Self::Month].map(|window| window.span(line, until));
                let enough =
                    narrow.into_iter().find(|span| line.between(span.from, span.to).total() >= ENOUGH);
                return enough.unwrap_or_else(|| Self::All.span(line, until));
            }
        };
        let bucket = if days == 1 {
            HOUR
        } else if days == 7 {
            6 * HOUR
        } else {
            DAY
        };
        Span { window: self, from: (to - days * DAY).div_euclid(bucket) * bucket, to, bucket }
    }
}

/// One bucket of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Its beginning.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What ended in it.
    pub evaluations: Causes,
    /// How often subjects passed, where they were put to the test.
    pub rate: Rate,
}

/// A window and its buckets; those without evaluations are left out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Series {
    /// Which window it is.
    pub window: Window,
    /// Its beginning.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// How long a bucket is.
    pub bucket_ms: i64,
    /// The buckets in order.
    pub points: Vec<Point>,
}

impl Series {
    /// The buckets of `line` over `span`.
    pub fn of(line: &Line, span: Span) -> Self {
        let mut points: Vec<(i64, Counts)> = Vec::new();
        for (hour, counts) in line.hours.range(span.from.div_euclid(HOUR)..=(span.to - 1).div_euclid(HOUR)) {
            let begin = (hour * HOUR).div_euclid(span.bucket) * span.bucket;
            match points.last_mut() {
                Some((at, sum)) if *at == begin => sum.merge(counts),
                _ => points.push((begin, *counts)),
            }
        }
        let point = |(at, counts): &(i64, Counts)| Point {
            at: time(*at),
            evaluations: counts.into(),
            rate: counts.attributed().into(),
        };
        Self {
            window: span.window,
            from: time(span.from),
            to: time(span.to),
            bucket_ms: span.bucket,
            points: points.iter().map(point).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(hours: &[(i64, u64)]) -> Line {
        let mut line = Line::default();
        for (hour, passed) in hours {
            let counts = Counts { passed: *passed, ..Counts::default() };
            line.total.merge(&counts);
            line.hours.entry(*hour).or_default().merge(&counts);
        }
        line
    }

    #[test]
    fn the_narrowest_window_with_enough_is_chosen() {
        let now = 10_000 * HOUR;
        assert_eq!(Window::Auto.span(&line(&[(9_990, 60)]), now).window, Window::Day);
        assert_eq!(Window::Auto.span(&line(&[(9_900, 60), (9_999, 2)]), now).window, Window::Week);
        assert_eq!(Window::Auto.span(&line(&[(100, 60)]), now).window, Window::All);
        assert_eq!(Window::Auto.span(&line(&[]), now).window, Window::All);
    }

    proptest! {
        #[test]
        fn a_series_loses_nothing_of_its_window_and_stays_small(
            hours in prop::collection::vec((0_i64..200_000, 1_u64..9), 1..60),
        ) {
            let line = line(&hours);
            let until = 200_000 * HOUR;
            for window in [Window::Day, Window::Week, Window::Month, Window::All] {
                let span = window.span(&line, until);
                let series = Series::of(&line, span);
                let shown: u64 = series.points.iter().map(|point| point.evaluations.total).sum();
                prop_assert_eq!(shown, line.between(span.from, span.to).total());
                prop_assert!((span.to - span.from) / span.bucket <= BUCKETS_MAX + 1);
                if window == Window::All {
                    prop_assert_eq!(shown, line.total.total());
                }
            }
        }
    }
}
