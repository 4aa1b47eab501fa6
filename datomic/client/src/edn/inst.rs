//! `#inst`: RFC 3339 in which anything after the year may be left out, UTC unless an offset says else.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// Reads what Clojure's own `#inst` reads, for the years 1 to 9999. `None` where it is no such text.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once('T').map_or((text, None), |(date, rest)| (date, Some(rest)));
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let date =
        Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;

    let (time, offset) = rest.map_or(Some(("00", 0)), split_offset)?;
    let (clock, fraction) = time.split_once('.').map_or((time, None), |(clock, part)| (clock, Some(part)));
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2)?;
    let minute = parts.next().map_or(Some(0), |part| digits(part, 2))?;
    let second = parts.next();
    if parts.next().is_some() || (fraction.is_some() && second.is_none()) {
        return None;
    }
    let second = second.map_or(Some(0), |part| digits(part, 2))?;
    let nanosecond = fraction.map_or(Some(0), nanoseconds)?;
    let civil = date.at(
        i8::try_from(hour).ok().filter(|hour| *hour < 24)?,
        i8::try_from(minute).ok().filter(|minute| *minute < 60)?,
        i8::try_from(second).ok().filter(|second| *second < 60)?,
        nanosecond,
    );
    Offset::from_seconds(offset).ok()?.to_timestamp(civil).ok()
}

/// Writes it to the millisecond, which is Datomic's grain; finer only if it is finer.
pub(super) fn print(time: Timestamp) -> String {
    if time.subsec_nanosecond() % 1_000_000 == 0 { format!("{time:.3}") } else { format!("{time:.9}") }
}

fn digits(text: &str, length: usize) -> Option<u16> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn nanoseconds(text: &str) -> Option<i32> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{text:0<9}").parse().ok()
}

/// The time and its offset in seconds.
fn split_offset(text: &str) -> Option<(&str, i32)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (time, offset) = text.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let seconds = i32::from(digits(hours, 2)?) * 3600 + i32::from(digits(minutes, 2)?) * 60;
    Some((time, sign * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_partial_times() {
        for (text, full) in [
            ("2025", "2025-01-01T00:00:00.000Z"),
            ("2025-07-31", "2025-07-31T00:00:00.000Z"),
            ("2025-07-31T06:00", "2025-07-31T06:00:00.000Z"),
            ("2025-07-31T06:00:01.5-00:00", "2025-07-31T06:00:01.500Z"),
            ("2025-07-31T06:00:00+02:00", "2025-07-31T04:00:00.000Z"),
            ("2025-07-31T06:00:00.123456Z", "2025-07-31T06:00:00.123456000Z"),
        ] {
            assert_eq!(parse(text).map(print).as_deref(), Some(full), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "25",
            "2025-13",
            "2025-02-30",
            "2025-07-31T25",
            "2025-07-31T06:00.5",
            "yesterday",
            "2025-7-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
