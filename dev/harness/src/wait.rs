//! Waiting on a condition with a deadline, never on the clock alone.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// What one look at a condition showed.
#[derive(Debug)]
pub enum Seen<T> {
    Done(T),
    /// Not yet, and what was there instead.
    NotYet(String),
}

impl Seen<()> {
    /// Done if it holds; otherwise `instead` says what was there.
    pub fn holds(condition: bool, instead: impl Debug) -> Self {
        if condition { Self::Done(()) } else { Self::NotYet(format!("{instead:?}")) }
    }
}

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks until it is done. When `within` has passed, the error says what was seen last.
pub async fn until<T, F>(what: &str, within: Duration, mut look: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<Seen<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        let last = match look().await {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(last)) => last,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("{what}: not within {within:?}; last seen: {last}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
