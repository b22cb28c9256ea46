//! Durations as Go writes them (`1h30m`, `500ms`, `1.5h`), and `Never`.

use jiff::SignedDuration;

/// A Go duration; `None` for what is none. It may have a sign, and `0` needs no unit.
pub fn parse(text: &str) -> Option<SignedDuration> {
    let (negative, amount) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let total = if amount == "0" { 0 } else { nanoseconds(amount)? };
    let total = i64::try_from(total).ok()?;
    Some(SignedDuration::from_nanos(if negative { -total } else { total }))
}

/// As [`parse`], for fields in which `Never` stands for no duration at all.
pub fn unless_never(text: Option<&str>) -> Option<SignedDuration> {
    text.filter(|text| *text != "Never").and_then(parse)
}

fn nanoseconds(text: &str) -> Option<i128> {
    let mut total: i128 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        total = total.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = tail;
    }
    Some(total)
}

/// A decimal number of units; what is less than a nanosecond does not count.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i64>().ok().map(i128::from) };
    let fraction = fraction.get(..fraction.len().min(15))?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    digits(whole)?.checked_mul(unit)?.checked_add(digits(fraction)?.checked_mul(unit)? / scale)
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, milliseconds) in [
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            (".5s", Some(500)),
            ("500ms", Some(500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("-5m", Some(-300_000)),
            ("+5m", Some(300_000)),
            ("1m30s500ms", Some(90_500)),
            ("1000us", Some(1)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("5 s", None),
            ("true", None),
            ("99999999999999999999h", None),
        ] {
            let expected = milliseconds.map(SignedDuration::from_millis);
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn never_is_no_duration() {
        assert_eq!(unless_never(Some("Never")), None);
        assert_eq!(unless_never(None), None);
        assert_eq!(unless_never(Some("2s")), Some(SignedDuration::from_secs(2)));
    }
}
