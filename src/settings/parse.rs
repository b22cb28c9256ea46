//! Values of settings as Karpenter's flags take them (Go's grammar), each refusal with what was expected.

use std::collections::BTreeMap;
use std::time::Duration;

/// As Go reads a boolean.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("found {text:?}, expected true or false")),
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("found {text:?}, expected a port from 0 (any free one) to 65535"))
}

/// A whole number that is not negative.
pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("found {text:?}, expected a whole number, 0 or more"))
}

pub(super) fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("found {text:?}, expected a whole number"))
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    let wrong = || format!("found {text:?}, expected a fraction from 0 up to 1, e.g. 0.075");
    text.parse().ok().filter(|fraction| (0.0..1.0).contains(fraction)).ok_or_else(wrong)
}

/// An interval between polls: anything shorter would ask AWS all the time.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let found = duration(text)?;
    if found < Duration::from_mins(1) {
        return Err(format!("found {text:?}, expected at least 1m"));
    }
    Ok(found)
}

/// A Go duration: `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = karpenter_api::duration::parse(text).and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| format!("found {text:?}, expected a duration such as 500ms, 10s, 1m30s or 2h"))
}

/// `A=true,B=false`; gates nobody knows are kept, and told by whoever reads them.
pub(super) fn gates(text: &str) -> Result<BTreeMap<String, bool>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("found {part:?}, expected Gate=true"))?;
            Ok((name.to_owned(), boolean(value).map_err(|wrong| format!("{name}: {wrong}"))?))
        })
        .collect()
}

/// An absolute URL with a host, or nothing.
pub(super) fn url(text: &str) -> Result<String, String> {
    let host = |rest: &str| rest.split(['/', '?', '#']).next().is_some_and(|host| !host.is_empty());
    let scheme =
        |scheme: &str| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    match text.split_once("://") {
        Some((before, rest)) if scheme(before) && host(rest) => Ok(text.to_owned()),
        _ if text.is_empty() => Ok(String::new()),
        _ => Err(format!("found {text:?}, expected a URL with a host, e.g. https://example.com")),
    }
}

/// Standard base64 (RFC 4648), or nothing.
pub(super) fn base64(text: &str) -> Result<String, String> {
    let unpadded = text.trim_end_matches('=');
    let known = unpadded.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/');
    if known && text.len().is_multiple_of(4) && text.len() - unpadded.len() <= 2 {
        return Ok(text.to_owned());
    }
    let start: String = text.chars().take(40).collect();
    Err(format!("found {start:?}, expected base64 of a PEM certificate"))
}

pub(super) fn log_level(text: &str) -> Result<String, String> {
    match text {
        "" | "debug" | "info" | "error" => Ok(text.to_owned()),
        other => Err(format!("found {other:?}, expected debug, info or error")),
    }
}

/// Sinks of the log: `stdout`, `stderr` or files, separated by commas.
pub(super) fn paths(text: &str) -> Result<String, String> {
    let all: Vec<&str> = text.split(',').map(str::trim).collect();
    if all.iter().all(|path| !path.is_empty()) {
        return Ok(text.to_owned());
    }
    Err(format!("found {text:?}, expected stdout, stderr or paths of files, separated by commas"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1.5h"), Ok(Duration::from_mins(90)));
        for wrong in ["", "10", "5 s", "1d", "s", "-1s"] {
            assert!(duration(wrong).is_err_and(|e| e.contains("expected a duration")), "{wrong}");
        }
    }

    #[test]
    fn gates_name_what_is_wrong() {
        assert_eq!(gates("A=true, B=false").map(|gates| gates.len()), Ok(2));
        assert_eq!(gates("A=yes"), Err("A: found \"yes\", expected true or false".to_owned()));
        assert!(gates("A").is_err_and(|wrong| wrong.contains("expected Gate=true")));
    }

    #[test]
    fn urls_and_certificates() {
        for right in ["", "https://a", "https://a:443/x", "http://[::1]:6443"] {
            assert!(url(right).is_ok(), "{right}");
        }
        for wrong in ["a", "https://", "https:///x", "://a", "ht tp://a"] {
            assert!(url(wrong).is_err_and(|e| e.contains("expected a URL")), "{wrong}");
        }
        for right in ["", "LS0t", "LS0tCg=="] {
            assert!(base64(right).is_ok(), "{right}");
        }
        for wrong in ["LS0", "-----BEGIN", "LS0=t==="] {
            assert!(base64(wrong).is_err_and(|e| e.contains("expected base64")), "{wrong}");
        }
    }
}
