//! A moment of the history, as people write it. Pure.

use crate::problem::Problem;
use evalfleet_datomic::Point;
use evalfleet_proto::Timestamp;

/// Reads RFC 3339; a date alone, which is its midnight in UTC; or a number, which is a transaction.
///
/// # Errors
/// When it is none of these.
pub fn moment(text: &str) -> Result<Point, Problem> {
    if let Ok(t) = text.parse::<u64>() {
        return Ok(Point::T(t));
    }
    let with_time = if text.contains(['T', ' ']) { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let has_zone =
        with_time.ends_with('Z') || with_time.get(10..).is_some_and(|time| time.contains(['+', '-']));
    let whole = if has_zone { with_time } else { format!("{with_time}Z") };
    let parsed: Result<Timestamp, _> = whole.parse();
    parsed.map(Point::Time).map_err(|_| {
        Problem::bad_request(format!(
            "{text:?} must be a moment such as 2026-01-31 or 2026-01-31T06:00:00Z, or a transaction such as 1042"
        ))
    })
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
