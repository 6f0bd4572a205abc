//! Independent runs on several threads, with progress bars.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use homa::load::report::Report;
use homa::load::workload::Workload;
use homa::sim::{
    Cluster, Record, RunRecord, Sample, SimConfig, SimError, Summary, Tally, Traffic, measured,
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Samples of a run, and looks at its progress.
const SAMPLES: u64 = 500;

/// One run: a cluster and its load.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) config: SimConfig,
    pub(crate) workload: Workload,
    pub(crate) payload_bps: f64,
    pub(crate) tally: Tally,
    pub(crate) traffic: Traffic,
    /// Make a report as the load generator's.
    pub(crate) reported: bool,
}

/// What came of a job.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) summary: Summary,
    /// Queues and progress at regular times of the measurement.
    pub(crate) samples: Vec<Sample>,
    /// As the load generator's, if wanted.
    pub(crate) report: Option<Report>,
}

impl Job {
    fn run(&self, bar: &ProgressBar) -> Result<Outcome, SimError> {
        let record = self
            .reported
            .then(|| RunRecord::new(&self.config, &self.workload, self.payload_bps, &self.traffic));
        let observer = (self.tally.clone(), record);
        let mut cluster =
            Cluster::<(), _>::new(&self.config, &self.workload, self.payload_bps, observer)?;
        cluster.set_traffic(&self.traffic)?;
        let time = &self.config.time;
        let end_ns = time.warm_up_ns + time.measure_ns;
        let step_ns = (time.measure_ns / SAMPLES).max(1);
        bar.set_length(end_ns);
        bar.set_message(format!("{} seed {}", self.workload.name(), self.config.seed));
        let mut samples = Vec::new();
        while !cluster.advance(cluster.now_ns() + step_ns) {
            let now_ns = cluster.now_ns();
            if (time.warm_up_ns..end_ns).contains(&now_ns) {
                samples.push(cluster.sample());
            }
            bar.set_position(now_ns.min(end_ns));
        }
        if self.reported {
            // The last responses are still on their way.
            cluster.settle(time.drain_max_ns);
        }
        let (summary, metrics) = (cluster.summary(), cluster.metrics());
        let (tally, record) = cluster.into_observer();
        let report = record.map(|record| record.report(&summary, &metrics));
        Ok(Outcome { tally, summary, samples, report })
    }
}

/// What is kept of jobs that differ in their seeds.
pub(crate) fn record(job: &Job, load: f64, outcomes: &[Outcome], tally: &Tally) -> Record {
    let all = tally.all();
    let (first, runs) = (&outcomes[0], outcomes.len() as u64);
    Record {
        workload: job.workload.name().to_owned(),
        load,
        config: job.config.clone(),
        runs,
        messages: all.count,
        slowdown: (all.mean(), all.quantile(0.5), all.quantile(0.99)),
        curve: measured(tally).0,
        is_by_receiver: tally.is_by_receiver(),
        samples: first.samples.clone(),
        dropped: outcomes.iter().map(|outcome| outcome.summary.packets.dropped).sum(),
    }
}

/// Does all `jobs` on `threads` threads; results in the order of the jobs.
pub(crate) fn run_all(jobs: &[Job], threads: usize) -> Result<Vec<Outcome>, SimError> {
    // Draws on standard error, and only if that is a terminal.
    let bars = MultiProgress::new();
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {percent:>3} %  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let results = in_parallel(jobs, threads, "", |job| {
        let bar = bars.add(ProgressBar::new(0)).with_style(style.clone());
        bar.enable_steady_tick(Duration::from_millis(500));
        let result = job.run(&bar);
        bar.finish_and_clear();
        result
    });
    results.into_iter().collect()
}

/// What was asked for; one per CPU for 0.
pub(crate) fn thread_count(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted,
    }
}

/// `work` on each of `items`, on `threads` threads (0: one per CPU), with a bar that counts `what` unless
/// that is empty. Results come in the order of the items.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    what: &'static str,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = thread_count(threads);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(items.iter().map(|_| None).collect::<Vec<_>>());
    let bar = if what.is_empty() {
        ProgressBar::hidden()
    } else {
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(items.len() as u64).with_message(what).with_style(style)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    results.lock().expect("no thread panics with the lock")[index] = Some(result);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let results = results.into_inner().expect("no thread panics with the lock");
    results.into_iter().flatten().collect()
}
