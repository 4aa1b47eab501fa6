//! A moment of the history, as people write it. Pure.

use crate::problem::Problem;
use evalfleet_datomic::{NoPoint, Point};

/// Reads a moment.
///
/// # Errors
/// When it is none.
pub fn moment(text: &str) -> Result<Point, Problem> {
    text.parse().map_err(|error: NoPoint| Problem::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_may_be_a_date_or_lack_its_zone_or_be_a_transaction() {
        for (text, expected) in [
            ("2025-07-31", "2025-07-31T00:00:00Z"),
            ("2025-07-31T06:00", "2025-07-31T06:00:00Z"),
            ("2025-07-31T06:00:00Z", "2025-07-31T06:00:00Z"),
            ("2025-07-31T08:00:00+02:00", "2025-07-31T06:00:00Z"),
        ] {
            assert_eq!(moment(text).unwrap(), Point::Time(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(moment("1042").unwrap(), Point::T(1042));
        for text in ["", "yesterday", "2025-13-01", "T"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
