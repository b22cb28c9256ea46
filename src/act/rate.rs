//! How fast the API server is written to: a bucket of tokens, as client-go's. Who comes first is served first.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rate {
    /// So many a second on average, so many at once after a rest. Zero is no limit, as in client-go.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        let bucket = Mutex::new(Bucket { tokens: burst, at: Instant::now() });
        Self { per_second: f64::from(per_second), burst, bucket }
    }

    /// Waits for its turn.
    pub(crate) async fn turn(&self) {
        if self.per_second <= 0.0 {
            return;
        }
        let mut bucket = self.bucket.lock().await;
        let wait = bucket.take(self.per_second, self.burst, Instant::now());
        if !wait.is_zero() {
            // The others stand in line behind the lock.
            tokio::time::sleep(wait).await;
        }
    }
}

impl Bucket {
    /// Takes a token, which may be one that is still to come: then says how long that takes.
    fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * per_second).min(burst) - 1.0;
        self.at = now;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / per_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_each_waits_its_share() {
        let began = Instant::now();
        let mut bucket = Bucket { tokens: 3.0, at: began };
        let waits: Vec<u128> = (0..5).map(|_| bucket.take(10.0, 3.0, began).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        // What was taken in advance is paid back first; a rest fills the bucket, and no more than that.
        assert_eq!(bucket.take(10.0, 3.0, began + Duration::from_millis(200)).as_millis(), 100);
        let rested = began + Duration::from_mins(1);
        let waits: Vec<u128> = (0..4).map(|_| bucket.take(10.0, 3.0, rested).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }
}
