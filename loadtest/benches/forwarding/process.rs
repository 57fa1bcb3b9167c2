//! Processes that are measured: on the first core, with what the kernel says of them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use pipemesh_node_media::thread::{allowed_cores, pin_to_core};

/// The core that what is measured has to itself.
static MEASURED_CORE: OnceLock<usize> = OnceLock::new();

/// Leaves the first core that we may run on to what is measured. Threads and processes begun from here on
/// run on the second one.
pub(crate) fn leave_first_core() -> anyhow::Result<()> {
    let cores = allowed_cores()?;
    let [first, _, ..] = cores.as_slice() else {
        bail!("two cores are needed: one for the server, one for the others");
    };
    MEASURED_CORE.get_or_init(|| *first);
    Ok(pin_to_core(1)?)
}

/// Ends with its owner.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts a program, on the first core if it is what is measured.
    pub(crate) fn start(
        program: &PathBuf,
        arguments: &[String],
        measured: bool,
    ) -> anyhow::Result<Self> {
        let mut command = if measured {
            let core = MEASURED_CORE.get().context("a core was left to it")?;
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("PIPEMESH_LOG", "error")
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// This program once more, as a server.
    pub(crate) fn serve(arguments: &[String], measured: bool) -> anyhow::Result<Self> {
        let mut all = vec!["--serve".to_owned()];
        all.extend_from_slice(arguments);
        Self::start(&std::env::current_exe()?, &all, measured)
    }

    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("it is told once")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// The first line it prints.
    pub(crate) fn answer(&mut self) -> anyhow::Result<String> {
        let output = self.child.stdout.take().context("it answers once")?;
        let mut line = String::new();
        if BufReader::new(output).read_line(&mut line)? == 0 {
            bail!("the server ended without a word");
        }
        Ok(line.trim().to_owned())
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.child.id().to_string())
    }

    /// Memory that is resident, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes << 10)
    }
}

/// CPU time of all threads of a process: what utime and stime are scaled to, without their ticks.
pub(crate) fn cpu(process: &str) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while we look.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let running = stat.split(' ').next().context("schedstat")?;
        nanoseconds += running.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
