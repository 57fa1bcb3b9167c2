//! Processes that are measured: on the first core, with what the kernel says of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
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

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    /// That of what is measured.
    Measured,
    /// That of everybody else.
    Other,
}

impl Core {
    fn number(self) -> anyhow::Result<usize> {
        let measured = *MEASURED_CORE.get().context("a core was left to it")?;
        match self {
            Self::Measured => Ok(measured),
            Self::Other => {
                let own = allowed_cores()?;
                own.first().copied().context("we run somewhere")
            }
        }
    }
}

/// CPU time of a process: of the threads that serve clients' media, and of all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) shards: Duration,
    pub(crate) others: Duration,
}

/// How the threads are called that count as shards.
pub(crate) const SHARD: &str = "shard-";

/// Ends with its owner.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a program, on the first core if it is what is measured.
    pub(crate) fn start(
        program: &PathBuf,
        arguments: &[String],
        measured: bool,
    ) -> anyhow::Result<Self> {
        Self::start_with(program, arguments, &[], measured)
    }

    /// With this environment, beside its own.
    pub(crate) fn start_with(
        program: &PathBuf,
        arguments: &[String],
        environment: &[(&str, String)],
        measured: bool,
    ) -> anyhow::Result<Self> {
        let mut command = if measured {
            let core = Core::Measured.number()?;
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
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self {
            child,
            input,
            output,
        })
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

    /// The next line it prints.
    pub(crate) fn answer(&mut self) -> anyhow::Result<String> {
        let output = self.output.as_mut().context("it has an output")?;
        let mut line = String::new();
        if output.read_line(&mut line)? == 0 {
            bail!("the server ended without a word");
        }
        Ok(line.trim().to_owned())
    }

    /// All that it still says until it ends by itself, and its exit code.
    pub(crate) fn end(&mut self) -> anyhow::Result<(String, i32)> {
        let mut said = String::new();
        let output = self.output.as_mut().context("it has an output")?;
        output.read_to_string(&mut said)?;
        let code = self.child.wait()?.code().context("it was killed")?;
        Ok((said, code))
    }

    /// All its threads run there from now on.
    pub(crate) fn move_to(&self, core: Core) -> anyhow::Result<()> {
        let (core, process) = (core.number()?.to_string(), self.child.id().to_string());
        let mut command = Command::new("taskset");
        let moved = command.args(["-acp", &core, &process]).output()?;
        anyhow::ensure!(moved.status.success(), "process {process} cannot be moved");
        Ok(())
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.child.id().to_string())
    }

    pub(crate) fn shares(&self) -> anyhow::Result<Shares> {
        let mut shares = Shares {
            shards: Duration::ZERO,
            others: Duration::ZERO,
        };
        each_thread(&self.child.id().to_string(), |name, cpu| {
            match name.starts_with(SHARD) {
                true => shares.shards += cpu,
                false => shares.others += cpu,
            }
        })?;
        Ok(shares)
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
    let mut sum = Duration::ZERO;
    each_thread(process, |_, cpu| sum += cpu)?;
    Ok(sum)
}

/// The name of each thread of a process, and its CPU time.
fn each_thread(process: &str, mut each: impl FnMut(&str, Duration)) -> anyhow::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        // A thread may end while we look.
        let name = std::fs::read_to_string(task.join("comm"));
        let stat = std::fs::read_to_string(task.join("schedstat"));
        let (Ok(name), Ok(stat)) = (name, stat) else {
            continue;
        };
        let running = stat.split(' ').next().context("schedstat")?;
        each(&name, Duration::from_nanos(running.parse()?));
    }
    Ok(())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
