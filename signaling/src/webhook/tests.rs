use pipemesh_service::Secret;
use prometheus::Registry;
use tokio::time::Instant;

use super::*;

const SECRET: &str = "9b1e6f2c7d4a8053b9e1c6f2d7a48350";

fn webhooks(url: &str) -> Webhooks {
    let secret = Secret::new(SECRET, 32).unwrap();
    let name = "APIone".to_owned();
    Webhooks {
        urls: vec![url.parse().unwrap()],
        key: ApiKey { name, secret },
    }
}

fn metrics() -> (Registry, Arc<Metrics>) {
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::register(&registry).unwrap());
    (registry, metrics)
}

/// Events that ended so.
fn counted(registry: &Registry, result: &str) -> f64 {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|it| it.name() == "pipemesh_signal_webhooks_total");
    let series = family.into_iter().flat_map(|it| it.get_metric());
    let counted = series.filter(|it| it.get_label().iter().any(|label| label.value() == result));
    counted.map(|it| it.get_counter().get_value()).sum()
}

/// Says an event to somebody who answers so each time; answers how it ended, how often it was said, and
/// how long that took.
async fn insist_on(
    metrics: &Metrics,
    mut answer: impl FnMut(u32) -> Result<(), Refusal>,
) -> (WebhookEnd, u32, Duration) {
    let began = Instant::now();
    let mut said = 0;
    let end = insist("hooks.example", metrics, || {
        said += 1;
        std::future::ready(answer(said))
    });
    let end = end.await;
    (end, said, began.elapsed())
}

fn passing() -> Refusal {
    Refusal::Passing("503".to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_takes_is_given_up_after_the_last_attempt() {
    let (_, metrics) = metrics();
    let (end, said, took) = insist_on(&metrics, |_| Err(passing())).await;
    assert_eq!((end, said), (WebhookEnd::GivenUp, ATTEMPTS));
    assert_eq!(metrics.webhook_retries.get(), u64::from(ATTEMPTS) - 1);
    // 0.5, 1, 2, 4, 8, 10 and 10 s, each a quarter more or less.
    let pauses = Duration::from_millis(35_500);
    assert!(took >= pauses.mul_f64(0.75), "{took:?}");
    assert!(took <= pauses.mul_f64(1.25), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_said_until_it_is_taken_or_refused() {
    let (_, metrics) = metrics();
    let taken = |attempt| {
        if attempt < ATTEMPTS {
            Err(passing())
        } else {
            Ok(())
        }
    };
    let (end, said, _) = insist_on(&metrics, taken).await;
    assert_eq!((end, said), (WebhookEnd::Delivered, ATTEMPTS));
    let refused = |attempt| match attempt {
        1 => Err(passing()),
        _ => Err(Refusal::Final(StatusCode::GONE)),
    };
    let (end, said, _) = insist_on(&metrics, refused).await;
    assert_eq!((end, said), (WebhookEnd::Refused, 2));
}

/// Nobody waits for an address that takes nothing, neither rooms nor a process that stops.
#[tokio::test(start_paused = true)]
async fn what_a_full_queue_has_no_place_for_is_dropped_and_counted() {
    let (registry, metrics) = metrics();
    // What is said to it is never said: nobody runs the speaker.
    let (hooks, speakers) = Hooks::start(webhooks("https://hooks.example/a"), metrics).unwrap();
    for _ in 0..QUEUE + 3 {
        hooks.say(WebhookEvent::default());
    }
    assert!((counted(&registry, "queue_full") - 3.0).abs() < 0.5);
    assert_eq!(*hooks.pending.borrow(), QUEUE);
    let began = Instant::now();
    hooks.flushed().await;
    assert_eq!(began.elapsed(), FLUSH_LIMIT);
    drop(speakers);
}

#[test]
fn nothing_that_may_be_a_secret_is_printed() {
    let webhooks = webhooks("https://user:hidden@hooks.example:8443/hidden?key=hidden#hidden");
    let printed = format!("{webhooks:?}");
    assert!(printed.contains("hooks.example"), "{printed}");
    for secret in ["hidden", SECRET] {
        assert!(!printed.contains(secret), "{printed}");
    }
    let config = crate::Config {
        webhooks: Some(webhooks),
        ..crate::Config::demo("eu".parse().unwrap(), Vec::new())
    };
    assert!(!format!("{config:?}").contains("hidden"));
}
