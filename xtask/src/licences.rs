//! Licences and banned packages of everything that is linked, by `deny.toml`: `cargo deny` where it is not installed.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::cargo;

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// What is wrong, a line each.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let deny: Deny = toml::from_str(&std::fs::read_to_string(root.join("deny.toml"))?).context("deny.toml")?;
    let mut metadata = cargo();
    metadata.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
    let output = metadata.arg("--filter-platform=x86_64-unknown-linux-gnu").output().context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        if deny.bans.deny.iter().any(|banned| banned.name == package.name) {
            wrong.push(format!("{name}: banned by deny.toml"));
        }
        let licence = package.license.as_deref().unwrap_or_default();
        if !is_allowed(licence, &deny.licenses.allow) {
            wrong.push(format!("{name}: licence {licence:?}, expected one that deny.toml allows"));
        }
    }
    Ok(wrong)
}

/// An SPDX expression, of which one way to read it must be allowed. Without nested parentheses: `AND` binds what `OR`
/// separates, a parenthesis binds tighter.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let one = |term: &str| {
        let term = term.trim().trim_matches(['(', ')']);
        allowed.iter().any(|known| known == term)
    };
    let any = |part: &str| part.split(" OR ").flat_map(|each| each.split('/')).any(one);
    if expression.contains('(') {
        return expression.split(" AND ").all(any);
    }
    expression.split(" OR ").flat_map(|each| each.split('/')).any(|part| part.split(" AND ").all(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_read_a_licence_must_be_allowed() {
        let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned(), "ISC".to_owned()];
        for fine in ["MIT", "MIT OR GPL-3.0", "GPL-2.0/MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT AND ISC"] {
            assert!(is_allowed(fine, &allowed), "{fine}");
        }
        for wrong in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR Apache-2.0) AND MIT"] {
            assert!(!is_allowed(wrong, &allowed), "{wrong}");
        }
    }
}
