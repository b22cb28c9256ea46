//! Kubernetes quantities: read as text or number, kept as read, computed as integers.
//!
//! Grammar: the API reference of `resource.Quantity`. Amounts round up to the unit asked for.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An amount as a manifest gives it: `limits: {cpu: 1000}` is a number, `"1000m"` a text; what was
/// read is what is written back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    Number(i64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantity {found:?}: expected a number with an optional suffix such as 500m, 2, 1.5Gi or 1e3")]
pub struct QuantityError {
    pub found: String,
}

impl Quantity {
    /// Thousandths of the base unit, rounded up.
    pub fn milli(&self) -> Result<i64, QuantityError> {
        match self {
            Self::Number(number) => Ok(number.saturating_mul(1000)),
            Self::Text(text) => milli(text),
        }
    }

    /// The base unit, rounded up.
    pub fn units(&self) -> Result<i64, QuantityError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => units(text),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        })
    }
}

/// Thousandths of the base unit of a quantity's text, rounded up.
pub fn milli(text: &str) -> Result<i64, QuantityError> {
    scaled(text, 3)
}

/// Base units of a quantity's text, rounded up.
pub fn units(text: &str) -> Result<i64, QuantityError> {
    scaled(text, 0)
}

/// The shortest text for a whole quantity in its own kind of suffix, as Go's library writes it: `1024Gi` is `1Ti`,
/// `2000G` is `2T`. What is not one stays as it is.
pub fn canonical(text: &str) -> String {
    let Ok(amount) = units(text) else {
        return text.to_owned();
    };
    if text.ends_with('i') { format_bytes(amount) } else { format_suffixed(amount, 1000, DECIMAL) }
}

/// The text for thousandths of a unit: `1500` is `1500m`, `2000` is `2`.
pub fn format_milli(milli: i64) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// The text for an amount of bytes, with the largest binary suffix that loses nothing.
pub fn format_bytes(bytes: i64) -> String {
    format_suffixed(bytes, 1024, BINARY)
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// The text with the largest suffix that loses nothing.
fn format_suffixed(mut amount: i64, base: i64, suffixes: [&str; 7]) -> String {
    let mut step = 0;
    while amount != 0 && amount % base == 0 && step + 1 < suffixes.len() {
        amount /= base;
        step += 1;
    }
    format!("{amount}{}", suffixes[step])
}

/// `text` × 10^`decimals`, rounded away from zero to an integer; saturates at the limits of i64.
fn scaled(text: &str, decimals: i64) -> Result<i64, QuantityError> {
    let error = || QuantityError { found: text.chars().take(64).collect() };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(error());
    }
    let (power, shift) = suffix_of(suffix).ok_or_else(error)?;
    let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let amount = magnitude(&[whole, fraction].concat(), power.saturating_add(decimals).saturating_sub(places), shift);
    Ok(if text.starts_with('-') { -amount } else { amount })
}

/// Digits that are looked at: with the largest power of two they are less than i128 holds, and what the others add is
/// less than rounding does.
const DIGITS_MAX: usize = 19;

/// `digits` × 10^`power` × 2^`shift`, rounded up.
fn magnitude(digits: &str, power: i64, shift: u32) -> i64 {
    let digits = digits.trim_start_matches('0');
    // Trailing zeros are powers of ten: without them most amounts are read in full.
    let significant = digits.trim_end_matches('0');
    let (read, rest) = significant.split_at(significant.len().min(DIGITS_MAX));
    let power = power.saturating_add(i64::try_from(digits.len() - read.len()).unwrap_or(i64::MAX));
    // No digits left: zero, whatever its suffix.
    let Ok(amount) = read.parse::<i128>() else { return 0 };
    let amount = amount << shift;
    let ten = u32::try_from(power.unsigned_abs()).ok().and_then(|power| 10_i128.checked_pow(power));
    let (whole, inexact) = match ten {
        _ if power >= 0 => (amount.saturating_mul(ten.unwrap_or(i128::MAX)), false),
        Some(ten) => (amount / ten, amount % ten != 0),
        None => (0, true),
    };
    i64::try_from(whole.saturating_add(i128::from(inexact || !rest.is_empty()))).unwrap_or(i64::MAX)
}

/// (power of ten, power of two) of a suffix.
fn suffix_of(suffix: &str) -> Option<(i64, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        exponent => (exponent.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale_and_fractions_round_up() {
        for (text, milli_expected, units_expected) in [
            ("1", 1000, 1),
            ("500m", 500, 1),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("0.1m", 1, 1),
            ("1e3", 1_000_000, 1000),
            ("12E", i64::MAX, i64::MAX),
            (".5", 500, 1),
            ("-1", -1000, -1),
            ("128974848000m", 128_974_848_000, 128_974_848),
            ("-1.5", -1500, -2),
            ("1n", 1, 1),
            ("0e2150000000", 0, 0),
            ("0.000e-2150000000", 0, 0),
            ("1e2150000000", i64::MAX, i64::MAX),
            ("1e-2150000000", 1, 1),
            ("0.00000000000000000000000000002e30", 20_000, 20),
            ("2000000000000000000000000000000000000000e-39", 2000, 2),
            ("2.00000000000000000000000000000000000000001", 2001, 3),
            ("1.0000000000000000000000000000000000000000Ki", 1_024_000, 1024),
            ("00000000000000000000000000000000000000000000007", 7000, 7),
        ] {
            assert_eq!(milli(text), Ok(milli_expected), "{text}");
            assert_eq!(units(text), Ok(units_expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_what_was_found() {
        for text in ["", "abc", "1.2.3", "5 Gi", "1Zi", "--1", "e3", "1e", "1e1.5", "0e9999999999999999999"] {
            assert!(milli(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_read_is_written_back() {
        for json in ["1000", "\"1000\"", "\"1.50Gi\""] {
            let quantity: Quantity = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), json);
        }
    }

    #[test]
    fn amounts_are_told_with_the_largest_exact_suffix() {
        assert_eq!(format_bytes(20 << 30), "20Gi");
        assert_eq!(format_bytes(1000), "1000");
        assert_eq!(format_milli(1930), "1930m");
        assert_eq!(format_milli(4000), "4");
    }
}
