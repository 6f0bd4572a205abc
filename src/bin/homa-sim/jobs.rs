//! Independent runs on several threads, with a progress line.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use homa::load::workload::Workload;
use homa::sim::{Cluster, SimConfig, SimError, Summary, Tally};

/// Simulated time between two looks at the progress, in nanoseconds.
const PROGRESS_NS: u64 = 100_000;

/// One run: a cluster and its load.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) config: SimConfig,
    pub(crate) workload: Workload,
    pub(crate) payload_bps: f64,
    pub(crate) tally: Tally,
}

impl Job {
    pub(crate) fn run(&self, progress: bool) -> Result<(Tally, Summary), SimError> {
        let tally = self.tally.clone();
        let mut cluster =
            Cluster::<(), _>::new(&self.config, &self.workload, self.payload_bps, tally)?;
        let time = &self.config.time;
        let end_ns = time.warm_up_ns + time.measure_ns;
        while !cluster.advance(cluster.now_ns() + PROGRESS_NS) {
            if progress {
                let percent = (cluster.now_ns() * 100 / end_ns).min(100);
                eprint!("\r{} {percent:3} %", self.workload);
            }
        }
        if progress {
            eprint!("\r\x1b[K");
        }
        let _ = std::io::stderr().flush();
        let summary = cluster.summary();
        Ok((cluster.into_observer(), summary))
    }
}

/// Does all `jobs` on `threads` threads; results in the order of the jobs.
pub(crate) fn run_all(jobs: &[Job], threads: usize) -> Result<Vec<(Tally, Summary)>, SimError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new((0..jobs.len()).map(|_| None).collect::<Vec<_>>());
    let progress = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let result = job.run(progress && threads == 1);
                    results.lock().expect("no job panics with the lock")[index] = Some(result);
                    if progress && threads > 1 {
                        eprint!("\r{} of {} runs", index + 1, jobs.len());
                    }
                }
            });
        }
    });
    if progress && threads > 1 {
        eprint!("\r\x1b[K");
    }
    let results = results.into_inner().expect("no job panics with the lock");
    results.into_iter().flatten().collect()
}
