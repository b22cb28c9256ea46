//! MIME multipart archives, as cloud-init and nodeadm read them.

use super::BadUserData;

/// The boundary EKS' own user data uses, so that what is written can be recognised.
const BOUNDARY: &str = "//";
const EXPECTED: &str = "a MIME multipart archive: a Content-Type with a boundary, parts, and the closing boundary";

/// One part: its headers and its body.
pub(super) struct Part {
    headers: String,
    body: String,
}

impl Part {
    pub(super) fn new(content_type: &str, body: &str) -> Self {
        Self { headers: format!("Content-Type: {content_type}"), body: body.to_owned() }
    }

    pub(super) fn script(body: &str) -> Self {
        Self::new("text/x-shellscript; charset=\"us-ascii\"", body)
    }
}

/// Whether a text means to be an archive: it begins with one of an archive's headers.
pub(super) fn is_archive(text: &str) -> bool {
    let text = text.trim_start();
    ["MIME-Version:", "Content-Type:"]
        .iter()
        .any(|header| text.get(..header.len()).is_some_and(|start| start.eq_ignore_ascii_case(header)))
}

/// An archive taken apart.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, BadUserData> {
    let bad = |found: &str| BadUserData { found: found.to_owned(), expected: EXPECTED };
    let text = text.trim().replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").ok_or_else(|| bad("headers without a body"))?;
    let content_type = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("content-type:"))
        .ok_or_else(|| bad("no Content-Type header"))?;
    if !content_type.to_ascii_lowercase().contains("multipart/") {
        return Err(bad(&format!("{content_type:?}")));
    }
    let boundary = boundary(head).ok_or_else(|| bad("multipart without a boundary"))?;
    let (delimiter, end) = (format!("--{boundary}"), format!("--{boundary}--"));
    let mut parts: Vec<Vec<&str>> = Vec::new();
    let mut ended = false;
    for line in body.lines() {
        let mark = line.trim_end();
        if mark == end {
            ended = true;
            break;
        }
        if mark == delimiter {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(line);
        }
    }
    if !ended {
        return Err(bad(&format!("no closing boundary {end:?}")));
    }
    parts
        .into_iter()
        .map(|lines| {
            let part = lines.join("\n");
            let (headers, body) = part.split_once("\n\n").ok_or_else(|| bad("a part without a body"))?;
            Ok(Part { headers: headers.trim().to_owned(), body: body.trim_end().to_owned() })
        })
        .collect()
}

/// The boundary may stand on a line of its own: headers fold.
fn boundary(head: &str) -> Option<&str> {
    let (_, rest) = head.split_once("boundary=")?;
    let boundary = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split([';', '\n', ' ']).next(),
    };
    boundary.filter(|boundary| !boundary.is_empty())
}

/// An archive of the parts, in order.
pub(super) fn archive(parts: &[Part]) -> String {
    let mut lines = vec![
        "MIME-Version: 1.0".to_owned(),
        format!("Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\""),
        String::new(),
    ];
    for part in parts {
        lines.extend([format!("--{BOUNDARY}"), part.headers.clone(), String::new(), part.body.trim_end().to_owned()]);
        lines.push(String::new());
    }
    lines.extend([format!("--{BOUNDARY}--"), String::new()]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_survives_being_taken_apart_and_put_together() {
        let text =
            archive(&[Part::script("echo one\n\necho --// is no boundary here"), Part::new("text/plain", "two")]);
        let again = archive(&parts(&text).unwrap());
        assert_eq!(again, text);
        assert_eq!(archive(&parts(&text.replace('\n', "\r\n")).unwrap()), text, "CRLF is read as well");
    }

    #[test]
    fn what_is_not_a_whole_archive_is_refused_with_what_was_found() {
        for (text, found) in [
            ("MIME-Version: 1.0", "headers without a body"),
            ("MIME-Version: 1.0\n\nx", "no Content-Type header"),
            ("Content-Type: text/x-shellscript\n\nx", "\"Content-Type: text/x-shellscript\""),
            ("Content-Type: multipart/mixed\n\nx", "multipart without a boundary"),
            ("Content-Type: multipart/mixed; boundary=B\n\n--B\nA: b\n\nx", "no closing boundary \"--B--\""),
            ("Content-Type: multipart/mixed; boundary=B\n\n--B\nx\n--B--", "a part without a body"),
        ] {
            assert_eq!(parts(text).err().unwrap().found, found, "{text:?}");
        }
    }
}
