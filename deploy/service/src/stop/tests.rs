use std::time::Duration;

use super::*;

/// A deadline for what should happen at once.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

#[tokio::test]
async fn all_tasks_end_with_close() {
    let stop = Stop::new();
    let mut supervisor = Supervisor::new(stop.clone());
    for name in ["a", "b"] {
        let closing = stop.closing();
        supervisor.spawn_plain(name, async move { closing.cancelled().await });
    }
    let closer = stop.clone();
    supervisor.spawn_plain("drain", async move {
        closer.draining().cancelled().await;
        closer.close();
    });
    let running = tokio::spawn(supervisor.run());
    assert!(!stop.closing().is_cancelled());
    stop.drain();
    soon(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_task_that_ends_early_ends_the_process() {
    #[derive(Debug, thiserror::Error)]
    #[error("no more sockets")]
    struct NoSockets;

    async fn check<E: Into<Failure>>(
        task: impl Future<Output = Result<(), E>> + Send + 'static,
        expected: &str,
    ) {
        let stop = Stop::new();
        let mut supervisor = Supervisor::new(stop.clone());
        let closing = stop.closing();
        supervisor.spawn_plain("other", async move { closing.cancelled().await });
        supervisor.spawn("listener", task);
        let ended = soon(supervisor.run()).await.unwrap_err();
        assert_eq!(ended.task, "listener");
        let said = Chain(&ended).to_string();
        assert!(said.starts_with(expected), "{said}");
        assert!(stop.closing().is_cancelled());
    }
    check(async { Ok::<_, NoSockets>(()) }, "listener ended early").await;
    check(
        async { Err(NoSockets) },
        "listener ended early: no more sockets",
    )
    .await;
    let panics = async {
        if true {
            panic!("of a test")
        } else {
            Ok::<_, NoSockets>(())
        }
    };
    check(panics, "listener ended early: task").await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_end_is_left_behind() {
    let stop = Stop::new();
    let mut supervisor = Supervisor::new(stop.clone());
    supervisor.spawn_plain("stuck", std::future::pending());
    stop.close();
    let begin = tokio::time::Instant::now();
    supervisor.run().await.unwrap();
    assert_eq!(begin.elapsed(), CLOSE_LIMIT);
}

/// Signals go to the whole process, so this is the only test that sends any.
#[tokio::test]
async fn the_first_signal_drains_and_the_second_closes() {
    let stop = Stop::new();
    let signals = stop.on_signals().unwrap();
    let mut supervisor = Supervisor::new(stop.clone());
    supervisor.spawn_plain("signals", signals);
    let running = tokio::spawn(supervisor.run());

    let kill = |name: &str| {
        let id = std::process::id().to_string();
        let status = std::process::Command::new("kill")
            .args(["-s", name, &id])
            .status();
        assert!(status.unwrap().success());
    };
    kill("TERM");
    soon(stop.draining().cancelled()).await;
    assert!(!stop.closing().is_cancelled());
    kill("INT");
    soon(stop.closing().cancelled()).await;
    soon(running).await.unwrap().unwrap();
}
