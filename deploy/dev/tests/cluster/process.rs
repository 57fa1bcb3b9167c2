//! Programs that a test starts, kills and starts again. None outlives its handle.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::mesh::until;

/// Which programs of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    This,
    /// Of the commit before, as `deploy/scripts/previous` has built them.
    Previous,
}

impl Build {
    fn program(self, name: &str) -> PathBuf {
        // Beside the program that this package tests, and in a folder near it.
        let this = PathBuf::from(env!("CARGO_BIN_EXE_pipemesh-dev")).with_file_name(name);
        let (program, how) = match self {
            Self::This => (this, "cargo build --bins"),
            Self::Previous => (previous().join("bin").join(name), "deploy/scripts/previous"),
        };
        assert!(program.exists(), "{name} is not built: {how}");
        program
    }
}

/// What `deploy/scripts/previous` leaves behind.
fn previous() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_pipemesh-dev")).parent();
    let target = profile
        .and_then(Path::parent)
        .expect("it is in a folder of the target folder");
    target.join("previous")
}

/// Why there are no programs of the commit before, where its source cannot be had.
pub(crate) fn no_previous() -> Option<String> {
    let reason = std::fs::read_to_string(previous().join("none")).ok()?;
    Some(reason.trim().to_owned())
}

pub(crate) struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    child: Child,
    /// What it has written to its log, which is its standard error, since the first start.
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(
        program: impl Into<PathBuf>,
        arguments: Vec<String>,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let program = program.into();
        let log = Arc::default();
        Self {
            child: spawn(&program, &arguments, &environment, &log),
            program,
            arguments,
            environment,
            log,
        }
    }

    /// One of ours.
    pub(crate) fn ours(build: Build, name: &str, environment: Vec<(&'static str, String)>) -> Self {
        Self::start(build.program(name), Vec::new(), environment)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGSTOP: it is there, and does nothing.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: it goes on where it was, and does not know that it was not there.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until it has ended by itself, in order.
    pub(crate) async fn until_ended(&mut self) {
        let what = format!("{} has ended", self.program.display());
        let status = until(&what, async || self.child.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
    }

    /// As it was started before.
    pub(crate) fn start_again(&mut self) {
        let (arguments, environment) = (&self.arguments, &self.environment);
        self.child = spawn(&self.program, arguments, environment, &self.log);
    }

    /// As it was started before, but of another build.
    pub(crate) fn start_again_as(&mut self, build: Build) {
        let name = self.program.file_name().expect("it is a file");
        self.program = build.program(name.to_str().expect("we have named it"));
        self.start_again();
    }

    /// Waits until it says so in its log, and answers the line.
    pub(crate) async fn says(&self, message: &str) -> Value {
        until(
            &format!("{} says {message:?}", self.program.display()),
            async || self.said(message).into_iter().next(),
        )
        .await
    }

    /// The lines of its log that say so.
    pub(crate) fn said(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        let lines = log
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["msg"] == message)
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap().join("\n");
            eprintln!("{}:\n{log}", self.program.display());
        }
    }
}

fn spawn(
    program: &Path,
    arguments: &[String],
    environment: &[(&'static str, String)],
    log: &Arc<Mutex<Vec<String>>>,
) -> Child {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            log.lock().unwrap().push(line);
        }
    });
    child
}
