//! MIME multipart archives, as cloud-init and nodeadm read them.

use super::BadUserData;

const BOUNDARY: &str = "//";

/// One part: its headers and its body.
pub(super) struct Part {
    headers: String,
    body: String,
}

impl Part {
    pub(super) fn new(content_type: &str, body: &str) -> Self {
        Self { headers: format!("Content-Type: {content_type}"), body: body.to_owned() }
    }
}

/// The user's data as parts: an archive is taken apart, anything else is one part of the type
/// given.
pub(super) fn parts(custom: Option<&str>, otherwise: fn(&str) -> &'static str) -> Result<Vec<Part>, BadUserData> {
    let Some(text) = custom.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let head: String = text.lines().take_while(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n");
    if !head.to_ascii_lowercase().contains("multipart/mixed") {
        return Ok(vec![Part::new(otherwise(text), text)]);
    }
    let bad = |found: &str| BadUserData {
        found: found.to_owned(),
        expected: "a MIME multipart archive with a boundary in its Content-Type and a closing boundary",
    };
    let boundary = head
        .split_once("boundary=")
        .map(|(_, rest)| rest.trim_start_matches('"').split(['"', ';', '\n', '\r']).next().unwrap_or_default())
        .filter(|boundary| !boundary.is_empty())
        .ok_or_else(|| bad("multipart/mixed without a boundary"))?;
    let delimiter = format!("--{boundary}");
    let normalized = text.replace("\r\n", "\n");
    if !normalized.contains(&format!("{delimiter}--")) {
        return Err(bad("an archive that does not end"));
    }
    let mut parts = Vec::new();
    for chunk in normalized.split(&delimiter).skip(1).take_while(|chunk| !chunk.starts_with("--")) {
        let (headers, body) = chunk.trim_start_matches('\n').split_once("\n\n").ok_or_else(|| bad("a part without a body"))?;
        parts.push(Part { headers: headers.trim().to_owned(), body: body.trim_end().to_owned() });
    }
    Ok(parts)
}

/// An archive of the parts, in order.
pub(super) fn archive(parts: &[Part]) -> String {
    let mut text = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\n\n");
    for part in parts {
        text.push_str(&format!("--{BOUNDARY}\n{}\n\n{}\n\n", part.headers, part.body.trim_end()));
    }
    text.push_str(&format!("--{BOUNDARY}--\n"));
    text
}
