//! Figures of `spec.kubelet` that are computed for each instance type: `maxPods`, and values of `kubeReserved` and
//! `systemReserved`, may be expressions (feature gate NodeClassCEL). They are the arithmetic of CEL: numbers, text and
//! truth without implicit conversion, `? :`, `in`, and the functions `min`, `max`, `int`, `double`.

mod eval;
mod parse;
mod resolve;

pub(crate) use resolve::{resolved, without_expressions};

/// What an expression may read of an instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine<'a> {
    pub(crate) vcpus: i64,
    pub(crate) memory_mib: i64,
    /// Interfaces of the default network card.
    pub(crate) default_enis: i64,
    pub(crate) ips_per_eni: i64,
    pub(crate) max_pods: i64,
    pub(crate) instance_type: &'a str,
}

/// An expression whose kinds are right: it can only fail on figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expression(parse::Node);

impl Expression {
    /// Reads an expression; the error says what was found and what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let node = parse::parse(text)?;
        match eval::kind(&node)? {
            eval::Kind::Int | eval::Kind::Double => Ok(Self(node)),
            other => Err(format!("found a result that is {other}, expected a number")),
        }
    }

    /// The figure for a machine; what is behind the point does not count.
    pub(crate) fn figure(&self, machine: &Machine<'_>) -> Result<i64, String> {
        match eval::eval(&self.0, machine)? {
            eval::Value::Int(figure) => Ok(figure),
            #[expect(clippy::cast_possible_truncation, reason = "a conversion that saturates, which is what is wanted")]
            eval::Value::Double(figure) if figure.is_finite() => Ok(figure as i64),
            eval::Value::Double(figure) => Err(format!("found {figure}, expected a finite number")),
            other => Err(format!("found {other:?}, expected a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M5_LARGE: Machine<'static> = Machine {
        vcpus: 2,
        memory_mib: 8192,
        default_enis: 3,
        ips_per_eni: 10,
        max_pods: 29,
        instance_type: "m5.large",
    };

    fn figure(text: &str) -> Result<i64, String> {
        Expression::parse(text)?.figure(&M5_LARGE)
    }

    #[test]
    fn figures_are_those_of_cel() {
        for (text, expected) in [
            ("1 + 2 * 3", 7),
            ("(1 + 2) * 3", 9),
            ("7 / 2", 3),
            ("-7 / 2", -3),
            ("7 % 4", 3),
            ("10 - 3 - 2", 5),
            ("7.9", 7),
            ("0.5 * 7.0", 3),
            ("double(vcpus) * 1.5", 3),
            ("int(2.9) + 1", 3),
            ("default_enis * (ips_per_eni - 1) + 2", 29),
            ("min(max_pods, 20)", 20),
            ("max(60, vcpus * 30)", 60),
            ("max(1.5, 2)", 2),
            ("memory_mib / 100", 81),
            ("vcpus > 4 ? 100 : 50", 50),
            ("vcpus >= 2 && memory_mib < 10000 ? 1 : 0", 1),
            ("!(vcpus == 2) || false ? 1 : 0", 0),
            ("instance_type.startsWith('m5.') ? 1 : 0", 1),
            ("instance_type.endsWith(\"large\") && instance_type.contains('5') ? 1 : 0", 1),
            ("instance_type in ['m5.large', 'c5.large'] ? 7 : 8", 7),
            ("vcpus in [4, 8] ? 7 : 8", 8),
            ("true ? 1 : false ? 2 : 3", 1),
            ("1e3", 1000),
            // The side that does not count is not computed.
            ("false && 1 / 0 == 0 ? 1 : 2", 2),
            ("true ? 1 : 1 / 0", 1),
        ] {
            assert_eq!(figure(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, says) in [
            ("", "found the end"),
            ("1 +", "found the end"),
            ("(1", "expected \")\""),
            ("1 2", "found \"2\""),
            ("1 $ 2", "found \"$\""),
            ("'open", "expected a closing quote"),
            ("cpus * 2", "found the name \"cpus\""),
            ("round(1.5)", "found the function \"round\""),
            ("min(1)", "2 arguments"),
            ("instance_type", "found a result that is text"),
            ("vcpus > 2", "found a result that is true or false"),
            ("vcpus * 1.5", "int * double"),
            ("1 + 'a'", "int + text"),
            ("1 == 1.0 ? 1 : 2", "int == double"),
            ("vcpus ? 1 : 2", "expected a condition"),
            ("true ? 1 : 2.0", "int and double"),
            ("99999999999999999999", "99999999999999999999"),
            ("-'a'", "text"),
            ("1 in [1, 'a'] ? 1 : 2", "expected int"),
            ("vcpus / 0", "division by zero"),
            ("vcpus % 0", "division by zero"),
            ("9223372036854775807 + vcpus", "too large"),
            ("1.0 / 0.0", "finite"),
        ] {
            let error = figure(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let deep = "(".repeat(100) + "1" + &")".repeat(100);
        assert!(figure(&deep).unwrap_err().contains("deep"));
        assert!(figure(&"1+".repeat(5000)).unwrap_err().contains("long"));
    }
}
