//! What happened, a line each: the same seed gives the same bytes.

use std::fmt;

use crate::agenda::{HOUR, MINUTE, Ms, SECOND};

/// Lines kept of a run; the oldest go first.
const LINES_MAX: usize = 400_000;

#[derive(Debug, Default)]
pub struct Log {
    lines: Vec<(Ms, String)>,
    hash: u64,
    written: u64,
}

impl Log {
    pub(crate) fn write(&mut self, at: Ms, line: fmt::Arguments<'_>) {
        let line = line.to_string();
        let bytes = at.to_le_bytes();
        self.hash = bytes.iter().chain(line.as_bytes()).fold(self.hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        if self.lines.len() >= LINES_MAX {
            self.lines.drain(..LINES_MAX / 2);
        }
        self.lines.push((at, line));
        self.written += 1;
    }

    /// Of every line ever written.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|(at, line)| format!("{} {line}", clock(*at)))
    }

    /// The last lines that name one of `subjects`, and every crash between them.
    pub fn around(&self, subjects: &[String], max: usize) -> Vec<String> {
        let names = |line: &str| {
            line.starts_with("controller ") || subjects.iter().any(|s| s.len() > 2 && line.contains(s.as_str()))
        };
        // What repeats itself is shown once, when it was last said, with how often.
        let mut found: Vec<(Ms, &str, u32)> = Vec::new();
        for (at, line) in self.lines.iter().rev().filter(|(_, line)| names(line)) {
            if let Some((_, _, times)) = found.iter_mut().rev().take(8).find(|(_, known, _)| known == line) {
                *times += 1;
                continue;
            }
            if found.len() >= max {
                break;
            }
            found.push((*at, line, 1));
        }
        let shown = |(at, line, times): &(Ms, &str, u32)| match times {
            1 => format!("{} {line}", clock(*at)),
            _ => format!("{} {line} (and {} times before)", clock(*at), times - 1),
        };
        found.iter().rev().map(shown).collect()
    }
}

/// `hh:mm:ss.mmm` of the world's time.
pub(crate) fn clock(at: Ms) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", at / HOUR, at / MINUTE % 60, at / SECOND % 60, at % SECOND)
}

/// A line of the world's log.
macro_rules! told {
    ($sim:expr, $($text:tt)*) => {
        $sim.log.write($sim.now, format_args!($($text)*))
    };
}

pub(crate) use told;
