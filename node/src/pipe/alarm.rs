//! A task's timer, for one that waits again and again, mostly for something else.

use std::pin::Pin;
use std::time::Instant;

use tokio::time::Sleep;

/// Set anew only if it is to ring earlier than it would: for each packet, that would cost as much as the
/// packet does.
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// When it rings next; `None`: it has rung.
    at: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep_until(Instant::now().into())),
            at: None,
        }
    }

    /// Waits until then, or until it was to ring before: who asks looks at the clock, and asks again.
    /// `None`: for ever.
    pub(super) async fn rung_by(&mut self, at: Option<Instant>) {
        let Some(at) = at else {
            return std::future::pending().await;
        };
        if self.at.is_none_or(|set| at < set) {
            self.sleep.as_mut().reset(at.into());
            self.at = Some(at);
        }
        self.sleep.as_mut().await;
        self.at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How long it takes.
    async fn waited(alarm: &mut Alarm, time: Duration) -> Duration {
        let began = tokio::time::Instant::now();
        alarm.rung_by(Some((began + time).into())).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_in_time_and_sometimes_before() {
        let (short, long) = (Duration::from_millis(10), Duration::from_millis(50));
        let mut alarm = Alarm::new();
        assert_eq!(waited(&mut alarm, long).await, long);
        assert_eq!(waited(&mut alarm, short).await, short);
        // Given up while it was set for later: it rings earlier if that is wanted, …
        let given_up = tokio::time::timeout(short, waited(&mut alarm, long)).await;
        assert!(given_up.is_err());
        assert_eq!(waited(&mut alarm, short).await, short);
        // … and where later is wanted, rings once too early.
        let given_up = tokio::time::timeout(short, waited(&mut alarm, long)).await;
        assert!(given_up.is_err());
        assert_eq!(waited(&mut alarm, 2 * long).await, long - short);
        assert_eq!(waited(&mut alarm, long).await, long);
        // Waiting for ever leaves it alone.
        let forever = tokio::time::timeout(2 * long, alarm.rung_by(None)).await;
        assert!(forever.is_err());
    }
}
