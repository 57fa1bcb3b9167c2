//! A folder with a script in it, and the program run there.

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Nothing here takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    began: Instant,
    out: Receiver<String>,
    err: Receiver<String>,
    /// What was read of them.
    said: [String; 2],
}

impl Bench {
    pub(crate) fn new(script: &str) -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        bench.write("script.js", script);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(name));
        String::from_utf8(bytes.unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        let text = self.read(name);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
    }

    /// `run`, with these arguments before the script.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipemesh-loadtest"));
        command
            .arg("run")
            .args(arguments)
            .arg("script.js")
            .current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("K6_") || name.starts_with("PIPEMESH_") {
                command.env_remove(&*name);
            }
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        finish(&mut self.command(arguments))
    }
}

/// Runs a script that needs nothing else.
pub(crate) fn run(script: &str, arguments: &[&str]) -> Ran {
    Bench::new(script).run(arguments)
}

pub(crate) fn finish(command: &mut Command) -> Ran {
    start(command).end()
}

pub(crate) fn start(command: &mut Command) -> Running {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    Running {
        child,
        began: Instant::now(),
        out: pieces(out),
        err: pieces(err),
        said: Default::default(),
    }
}

fn pieces(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    receiver
}

impl Running {
    /// Until it has written this to standard error.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.said[1].contains(text) {
            let left = PATIENCE.saturating_sub(self.began.elapsed());
            match self.err.recv_timeout(left) {
                Ok(piece) => self.said[1] += &piece,
                Err(error) => {
                    let _ = self.child.kill();
                    panic!("it never said {text:?} ({error}): {}", self.said[1]);
                }
            }
        }
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn end(mut self) -> Ran {
        let [mut out, mut err] = std::mem::take(&mut self.said);
        let mut hung = false;
        // Both end when it does.
        for (receiver, text) in [(&self.out, &mut out), (&self.err, &mut err)] {
            loop {
                let left = PATIENCE.saturating_sub(self.began.elapsed());
                match receiver.recv_timeout(left) {
                    Ok(piece) => *text += &piece,
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        hung = true;
                        let _ = self.child.kill();
                        break;
                    }
                }
            }
        }
        let status = self.child.wait().unwrap();
        let ran = Ran {
            code: status.code(),
            out,
            err,
            took: self.began.elapsed(),
        };
        assert!(!hung, "it did not end by itself: {ran}");
        ran
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Somewhere in what it wrote.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        let said = self.out.contains(text) || self.err.contains(text);
        assert!(said, "{text:?} is missing in {self}");
        self
    }

    #[track_caller]
    pub(crate) fn keeps_quiet_about(&self, text: &str) -> &Self {
        let said = self.out.contains(text) || self.err.contains(text);
        assert!(!said, "{text:?} is in {self}");
        self
    }

    /// How often it wrote that.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.out.matches(text).count() + self.err.matches(text).count()
    }

    /// The lines of a script's console, with `--log-format raw`.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.err.lines().collect()
    }

    /// What follows a name in the summary.
    #[track_caller]
    pub(crate) fn row(&self, name: &str) -> &str {
        let found = self.out.lines().rev().find_map(|line| {
            let (begin, rest) = line.split_once("..: ").or_else(|| line.split_once(".: "))?;
            (begin.trim().trim_end_matches('.') == name).then_some(rest.trim())
        });
        found.unwrap_or_else(|| panic!("no row {name} in {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            out,
            err,
            took,
        } = self;
        write!(
            f,
            "exit {code:?} after {took:?}\n--- stdout\n{out}\n--- stderr\n{err}"
        )
    }
}

/// Compresses nothing, undoes what a run has compressed.
pub(crate) fn inflated(bytes: &[u8]) -> String {
    let mut decoder = flate2::write::MultiGzDecoder::new(Vec::new());
    decoder.write_all(bytes).unwrap();
    String::from_utf8(decoder.finish().unwrap()).unwrap()
}
