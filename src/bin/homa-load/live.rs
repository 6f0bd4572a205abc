//! What is shown while a load runs: a line, or the dashboard.

use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use homa::load::apps::Progress;
use homa::load::dashboard::{Dashboard, Moment, Screen};
use homa::load::live::{Live, LiveMode};
use homa::node::{Node, NodeError, ShardCounters, ShardStats};

use crate::args::{LiveArg, OutArgs};
use crate::{WrongArguments, style};

/// How long to wait for the numbers of a further shard.
const LATE: Duration = Duration::from_millis(200);
/// How often the keyboard is looked at.
const TICK: Duration = Duration::from_millis(50);

/// The shard's progress, and the way back for it.
pub(crate) struct Shown {
    pub(crate) progress: Receiver<Box<Progress>>,
    pub(crate) give_back: SyncSender<Box<Progress>>,
}

/// What of a node the dashboard shows besides the progress of its load.
pub(crate) struct Watched {
    title: String,
    stop: Arc<AtomicBool>,
    cpus: Vec<usize>,
    counters: Box<dyn Fn() -> Vec<ShardCounters> + Send>,
}

impl Watched {
    pub(crate) fn new(node: &Node, title: &str) -> Self {
        Self {
            title: title.to_owned(),
            stop: node.stop_flag(),
            cpus: node.cpus().to_vec(),
            counters: Box::new(node.counters_reader()),
        }
    }
}

/// Refuses a dashboard where there is no terminal for it.
pub(crate) fn check(out: &OutArgs) -> Result<(), WrongArguments> {
    if out.live == Some(LiveArg::Dashboard) && !stdout().is_terminal() {
        return Err(WrongArguments(NodeError::Config(
            "--live dashboard needs a terminal on standard output: use --live line".to_owned(),
        )));
    }
    Ok(())
}

/// What to show. Nothing besides the lines of another program.
pub(crate) fn mode(out: &OutArgs, has_lines: bool) -> LiveArg {
    match out.live {
        _ if has_lines => LiveArg::Off,
        Some(wanted) => wanted,
        None if stdout().is_terminal() => LiveArg::Dashboard,
        None => LiveArg::Off,
    }
}

/// Calls `shown` with the sums over all shards, each second until the first of them is gone, and
/// `meanwhile` all the time.
pub(crate) fn each_second(
    shards: &[Shown],
    mut shown: impl FnMut(&Progress),
    mut meanwhile: impl FnMut(),
) {
    let Some((first, others)) = shards.split_first() else { return };
    loop {
        meanwhile();
        let mut sum = match first.progress.recv_timeout(TICK) {
            Ok(sum) => sum,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for shard in others {
            // One that has ended, or is late, is left out of this moment.
            let Ok(part) = shard.progress.recv_timeout(LATE) else { continue };
            sum.interval.merge(&part.interval);
            sum.totals.merge(&part.totals);
            sum.outstanding += part.outstanding;
            let _ = shard.give_back.try_send(part);
        }
        shown(&sum);
        let _ = first.give_back.try_send(sum);
    }
}

/// Writes the live line until the client is gone.
pub(crate) fn show_line(shards: &[Shown]) {
    let out = stdout();
    let mode = if out.is_terminal() { LiveMode::Overwrite } else { LiveMode::Lines };
    let live = Live::new(mode, style());
    let show = |sum: &Progress| {
        let line =
            live.update(sum.elapsed, sum.length, &sum.interval, sum.outstanding, &sum.totals);
        let mut out = out.lock();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    };
    each_second(shards, show, || ());
    print!("{}", live.end());
}

/// Shows the dashboard until the client is gone; the terminal is as before then.
pub(crate) fn show_dashboard(shards: &[Shown], watched: &Watched) {
    let screen = match Screen::take() {
        Ok(screen) => std::cell::RefCell::new(screen),
        Err(error) => {
            log::warn!("no dashboard: {error}");
            return show_line(shards);
        }
    };
    let mut dashboard = Dashboard::new(&watched.title);
    let mut before = (watched.counters)();
    let _ = screen.borrow_mut().show(&dashboard);
    let show = |sum: &Progress| {
        let now = (watched.counters)();
        let resent = |shards: &[ShardCounters]| {
            shards.iter().map(|shard| shard.metrics.bytes_resent).sum::<u64>()
        };
        let cores = before.iter().zip(&now).zip(&watched.cpus);
        dashboard.push(Moment {
            elapsed: sum.elapsed,
            length: sum.length,
            interval: &sum.interval,
            outstanding: sum.outstanding,
            totals: &sum.totals,
            cores: cores
                .map(|((before, now), cpu)| {
                    (format!("CPU {cpu}"), busy_share(&before.stats, &now.stats))
                })
                .collect(),
            resent_bytes: resent(&now).saturating_sub(resent(&before)),
        });
        before = now;
        let _ = screen.borrow_mut().show(&dashboard);
    };
    let meanwhile = || {
        if screen.borrow().wants_end(Duration::ZERO).unwrap_or(false) {
            watched.stop.store(true, Ordering::Relaxed);
        }
    };
    each_second(shards, show, meanwhile);
}

/// The share of the turns of the loop, between two moments, in which there was something to do.
fn busy_share(before: &ShardStats, now: &ShardStats) -> f64 {
    let busy = now.busy_turns.saturating_sub(before.busy_turns);
    let idle = now.idle_turns.saturating_sub(before.idle_turns);
    busy as f64 / (busy + idle).max(1) as f64
}
