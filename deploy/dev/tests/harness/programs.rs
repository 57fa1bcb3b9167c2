//! The mesh and the harness, each a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A mesh. Ends with its handle.
pub(crate) struct Mesh {
    process: Child,
    /// `http://127.0.0.1:7880/`.
    pub(crate) url: String,
}

impl Mesh {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pipemesh-dev"))
            .args(["--http-listen", "127.0.0.1:0"])
            .args(["--operator-listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = process.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.strip_prefix("ready: ").map(str::to_owned));
        Self {
            process,
            url: url.expect("it says that it is ready"),
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a run of the harness left behind.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    summary: Value,
    output: String,
}

/// Runs a script to its end.
pub(crate) fn run(script: &Path, url: &str, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.json");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(harness())
        .args([
            "run",
            "--env",
            &format!("SFU_URL={url}"),
            "--summary-export",
        ])
        .arg(&summary)
        .args(["--summary-trend-stats", "min,med,avg,p(95),max,count"])
        .args(arguments)
        .arg(script)
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    let output = format!("{stdout}\n{stderr}");
    println!("{output}");
    let summary = std::fs::read_to_string(summary).unwrap();
    Run {
        code: status.code(),
        summary: serde_json::from_str(&summary).unwrap(),
        output,
    }
}

impl Run {
    /// A value of a metric or sub-metric.
    pub(crate) fn value(&self, metric: &str, value: &str) -> f64 {
        let found = self.summary["metrics"][metric][value].as_f64();
        found.unwrap_or_else(|| {
            panic!(
                "no {value} of {metric}: {:#}\n{}",
                self.summary["metrics"], self.output
            )
        })
    }
}

/// Beside the program that this package tests.
fn harness() -> PathBuf {
    let program =
        PathBuf::from(env!("CARGO_BIN_EXE_pipemesh-dev")).with_file_name("pipemesh-loadtest");
    assert!(
        program.exists(),
        "pipemesh-loadtest is not built: cargo build --bins"
    );
    program
}
