//! The program, run in a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// For a line, and for an end.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Folder(tempfile::TempDir);

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Both outputs.
    pub(crate) text: String,
}

pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder can be made"))
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.0.path().join(name), content).expect("the folder can be written to");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).expect(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pipemesh-loadtest"))
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|it| Box::new(it) as _),
            child.stderr.take().map(|it| Box::new(it) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Running {
            child,
            lines,
            seen: String::new(),
        }
    }
}

impl Running {
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.next();
            let line = line.unwrap_or_else(|| panic!("no {text} in:\n{}", self.seen));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn end(mut self) -> Ended {
        while self.next().is_some() {}
        let code = self.child.wait().expect("it can be waited for").code();
        Ended {
            code,
            text: std::mem::take(&mut self.seen),
        }
    }

    /// None when it says no more.
    fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push_str(&line);
                self.seen.push('\n');
                Some(line)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing more after:\n{}", self.seen),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        assert!(self.text.contains(text), "no {text} in:\n{}", self.text);
    }
}
