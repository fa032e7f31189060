//! Waiting on conditions, always with a bound.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` answers with a value.
///
/// # Panics
/// When `bound` is over first; `what` is named.
pub async fn wait_for<T, F, Fut>(bound: Duration, what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When `bound` is over first; `what` is named.
pub async fn wait_until<F, Fut>(bound: Duration, what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    wait_for(bound, what, || {
        let answer = condition();
        async move { answer.await.then_some(()) }
    })
    .await;
}

/// [`wait_until`] for tests without a runtime.
///
/// # Panics
/// When `bound` is over first; `what` is named.
#[expect(clippy::disallowed_methods, reason = "its callers have no runtime to wait on")]
pub fn wait_until_blocking(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut left = 3;
        let got = wait_for(Duration::from_secs(5), "a countdown", || {
            left -= 1;
            let done = left == 0;
            async move { done.then_some("zero") }
        })
        .await;
        assert_eq!(got, "zero");
    }

    #[tokio::test]
    #[should_panic(expected = "not within 30ms: the moon")]
    async fn a_condition_that_never_comes_true_is_named() {
        wait_until(Duration::from_millis(30), "the moon", || async { false }).await;
    }
}
