use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;

const PROGRAM: Program = Program {
    name: "pipemesh-test",
    about: "",
    version: "1.2.3",
    settings: &[],
};

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn tells_how_the_process_is() {
    let metrics = Registry::new();
    register_process(&metrics, &PROGRAM).unwrap();
    let draining = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&draining);
    let health = Health {
        metrics,
        not_live: Box::new(Vec::new),
        not_ready: Box::new(move || match seen.load(Ordering::Relaxed) {
            true => vec!["draining".to_owned(), "not registered".to_owned()],
            false => Vec::new(),
        }),
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let operator = bind(listen, &PROGRAM, health).await.unwrap();
    let address = operator.address();
    assert_ne!(address.port(), 0);
    let stop = CancellationToken::new();
    let served = tokio::spawn(operator.serve(stop.clone()));

    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".to_owned()));
    draining.store(true, Ordering::Relaxed);
    assert_eq!(
        get(address, "/readyz").await,
        (503, "draining\nnot registered\n".to_owned())
    );
    assert_eq!(get(address, "/healthz").await.0, 200);
    let version = r#"{"name":"pipemesh-test","version":"1.2.3"}"#;
    assert_eq!(get(address, "/version").await, (200, version.to_owned()));
    let (code, metrics) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    let line = r#"pipemesh_build_info{program="pipemesh-test",version="1.2.3"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    for name in ["resident_memory_bytes", "open_fds", "max_fds"] {
        assert!(value(&metrics, &format!("process_{name}")) > 0.0, "{name}");
    }
    // A process this young has used less than one tick; asking costs some.
    let begin = Instant::now();
    while value(
        &get(address, "/metrics").await.1,
        "process_cpu_seconds_total",
    ) == 0.0
    {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "no CPU time is counted"
        );
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let age = now - value(&metrics, "process_start_time_seconds");
    assert!((-1.0..600.0).contains(&age), "{age}");
    assert_eq!(get(address, "/other").await.0, 404);

    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
