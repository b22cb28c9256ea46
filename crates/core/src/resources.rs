//! Amounts by resource name: cpu in millicores, everything else in its base unit (bytes, pieces).
//!
//! Fractions of a base unit round up, as Kubernetes' scheduler does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource name. A resource that is absent is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(pub BTreeMap<String, i64>);

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const PODS: &str = "pods";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// Not a kubelet resource: NodePool limits count nodes under this name.
pub const NODES: &str = "nodes";

impl Resources {
    /// Reads what is asked for. An amount that cannot be read, or is negative, counts as more than any node has: the
    /// object waits with a reason rather than being placed where it cannot run.
    pub fn from_quantities(list: &BTreeMap<String, Quantity>) -> Self {
        let read = |name: &str, text: &str| parse_amount(name, text).filter(|amount| *amount >= 0).unwrap_or(i64::MAX);
        list.iter().map(|(name, quantity)| (name.clone(), read(name, &quantity.0))).collect()
    }

    /// Reads what there is. An amount that cannot be read is nothing.
    pub fn offered(list: &BTreeMap<String, Quantity>) -> Self {
        list.iter().map(|(name, quantity)| (name.clone(), parse_amount(name, &quantity.0).unwrap_or(0))).collect()
    }

    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn set(&mut self, name: impl Into<String>, amount: i64) {
        self.0.insert(name.into(), amount);
    }

    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*amount);
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_insert(0);
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// Element-wise maximum.
    pub fn max(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_insert(*amount);
            *most = (*most).max(*amount);
        }
    }

    /// Element-wise minimum.
    pub fn min(&mut self, other: &Self) {
        for (name, amount) in &mut self.0 {
            *amount = (*amount).min(other.get(name));
        }
    }

    /// Whether every amount asked for is there.
    pub fn fits(&self, available: &Self) -> bool {
        self.0.iter().all(|(name, amount)| *amount <= 0 || *amount <= available.get(name))
    }
}

impl<N: Into<String>> FromIterator<(N, i64)> for Resources {
    fn from_iter<T: IntoIterator<Item = (N, i64)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(name, amount)| (name.into(), amount)).collect())
    }
}

/// A quantity in the unit of its resource: millicores for cpu, whole units else, rounded up.
pub fn parse_amount(resource: &str, text: &str) -> Option<i64> {
    let nanos_per_unit = if resource == CPU { 1_000_000 } else { 1_000_000_000 };
    let nanos = parse_nanos(text)?;
    let whole = nanos.div_euclid(nanos_per_unit) + i128::from(nanos.rem_euclid(nanos_per_unit) != 0);
    Some(i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX }))
}

/// Writes an amount the way Kubernetes prints it: `1500m`, `2`, `3Gi`, `1234567`.
pub fn format_amount(resource: &str, amount: i64) -> String {
    if resource == CPU {
        return if amount % 1000 == 0 { (amount / 1000).to_string() } else { format!("{amount}m") };
    }
    if (resource == MEMORY || resource == EPHEMERAL_STORAGE || resource.starts_with("hugepages-")) && amount != 0 {
        for (shift, suffix) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if amount % (1_i64 << shift) == 0 {
                return format!("{}{suffix}", amount >> shift);
            }
        }
    }
    amount.to_string()
}

/// The grammar of Kubernetes quantities: a signed decimal with a binary, decimal or exponent
/// suffix. In 10⁻⁹ units, finer parts rounded up, as Kubernetes does.
fn parse_nanos(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let digits: i128 = [whole, fraction].concat().parse().ok()?;
    let (multiplier, exponent) = suffix_of(suffix)?;
    let places = i32::try_from(fraction.len()).ok()?;
    let power = exponent.checked_add(9)?.checked_sub(places)?;
    let scaled = digits.saturating_mul(multiplier);
    let ten = 10_i128.checked_pow(power.unsigned_abs());
    let nanos = if power >= 0 {
        scaled.saturating_mul(ten.unwrap_or(i128::MAX))
    } else {
        let up = i128::from(!negative);
        ten.map_or(up.min(scaled), |ten| scaled / ten + if scaled % ten == 0 { 0 } else { up })
    };
    Some(if negative { -nanos } else { nanos })
}

/// (factor, power of ten)
fn suffix_of(suffix: &str) -> Option<(i128, i32)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(step) = BINARY.iter().position(|known| *known == suffix) {
        return Some((1_i128 << (10 * (step + 1)), 0));
    }
    let exponent = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() <= 30)?,
    };
    Some((1, exponent))
}

/// The amount of a quantity's text in the unit of its resource: millicores for cpu.
pub fn amount(resource: &str, text: &str) -> Option<i64> {
    let parsed =
        if resource == CPU { karpenter_api::quantity::milli(text) } else { karpenter_api::quantity::units(text) };
    parsed.ok()
}

/// An amount as the API has it.
pub fn quantity(resource: &str, amount: i64) -> karpenter_api::Quantity {
    let text = match resource {
        CPU => karpenter_api::quantity::format_milli(amount),
        MEMORY | EPHEMERAL_STORAGE => karpenter_api::quantity::format_bytes(amount),
        _ => amount.to_string(),
    };
    karpenter_api::Quantity::Text(text)
}

/// Whether a quantity is zero, or no quantity at all.
pub fn is_zero(quantity: &karpenter_api::Quantity) -> bool {
    quantity.milli().is_ok_and(|milli| milli == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_their_unit_and_rounded_up() {
        let cases = [
            ("cpu", "1", Some(1000)),
            ("cpu", "250m", Some(250)),
            ("cpu", "0.5", Some(500)),
            ("cpu", "1n", Some(1)),
            ("cpu", "2e3", Some(2_000_000)),
            ("memory", "1Gi", Some(1 << 30)),
            ("memory", "1.5Gi", Some(3 << 29)),
            ("memory", "128974848", Some(128_974_848)),
            ("memory", "129e6", Some(129_000_000)),
            ("memory", "129M", Some(129_000_000)),
            ("memory", "100m", Some(1)),
            ("memory", "1E", Some(1_000_000_000_000_000_000)),
            ("memory", "-1Ki", Some(-1024)),
            ("memory", "16Ei", Some(i64::MAX)),
            ("pods", "0", Some(0)),
            ("memory", "", None),
            ("memory", "1Xi", None),
            ("memory", "1.2.3", None),
            ("memory", ".", None),
        ];
        for (resource, text, expected) in cases {
            assert_eq!(parse_amount(resource, text), expected, "{resource} {text}");
        }
    }

    #[test]
    fn amounts_are_written_as_kubernetes_does() {
        assert_eq!(format_amount(CPU, 1500), "1500m");
        assert_eq!(format_amount(CPU, 2000), "2");
        assert_eq!(format_amount(MEMORY, 3 << 30), "3Gi");
        assert_eq!(format_amount(MEMORY, 1000), "1000");
        assert_eq!(format_amount(PODS, 110), "110");
    }
}
