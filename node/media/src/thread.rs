//! What a shard asks of the scheduler.

use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Pins the calling thread, and the threads it will start, to one of the cores it may run on: the
/// `n`th in their order, from 0. In a container that was given cores 4 to 7, 0 means core 4.
///
/// # Errors
///
/// `InvalidInput` if the thread may run on `n` cores or fewer, otherwise what the kernel says.
pub fn pin_to_core(n: usize) -> io::Result<()> {
    let allowed = allowed_cores()?;
    let core = *allowed.get(n).ok_or(io::ErrorKind::InvalidInput)?;
    let mut pinned = CpuSet::new();
    pinned.set(core);
    Ok(sched_setaffinity(None, &pinned)?)
}

/// The cores that the calling thread may run on, in their order.
///
/// # Errors
///
/// What the kernel says.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Ok(cores.collect())
}

/// CPU time the calling thread has used, user and system.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: the affinity of the test's thread is not ours to change.
    #[test]
    fn pins_to_an_allowed_core() {
        std::thread::spawn(|| {
            let allowed = allowed_cores().unwrap();
            let last = allowed.len() - 1;
            let error = pin_to_core(last + 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            pin_to_core(last).unwrap();
            assert_eq!(allowed_cores().unwrap(), [allowed[last]]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn cpu_time_counts_work_and_not_sleep() {
        let start = cpu_time();
        while cpu_time() == start {
            std::hint::spin_loop();
        }
        let worked = cpu_time();
        std::thread::sleep(Duration::from_millis(100));
        assert!(cpu_time() - worked < Duration::from_millis(50));
    }
}
