//! What is shown while a load runs: a line, or the dashboard.

use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use homa::load::apps::Progress;
use homa::load::dashboard::{Dashboard, Moment, Screen, wants_end};
use homa::load::live::{Live, LiveMode};
use homa::node::{Node, NodeError, ShardCounters, ShardStats};

use crate::args::{LiveArg, OutArgs};
use crate::{WrongArguments, style};

/// How often the keyboard is looked at.
const TICK: Duration = Duration::from_millis(50);

/// What to do with the progress of a second.
pub(crate) type Show = Box<dyn FnMut(&Progress) + Send>;

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

/// Shows progress as is wanted; without a wish a dashboard on a terminal, and nothing elsewhere.
pub(crate) fn show(wanted: Option<LiveArg>, watched: Watched) -> Show {
    let default = || if stdout().is_terminal() { LiveArg::Dashboard } else { LiveArg::Off };
    match wanted.unwrap_or_else(default) {
        LiveArg::Off => Box::new(|_| ()),
        LiveArg::Line => line(LiveMode::Lines),
        LiveArg::Dashboard => match Shown::new(watched) {
            Ok(mut shown) => Box::new(move |sum| shown.update(sum)),
            Err(error) => {
                log::warn!("no dashboard: {error}");
                line(LiveMode::Lines)
            }
        },
    }
}

/// The live line on a terminal, and nothing elsewhere.
pub(crate) fn show_line() -> Show {
    line(LiveMode::Silent)
}

/// The live line on a terminal; `elsewhere` where that is none.
fn line(elsewhere: LiveMode) -> Show {
    let mode = if stdout().is_terminal() { LiveMode::Overwrite } else { elsewhere };
    let line = LiveLine(Live::new(mode, style()));
    Box::new(move |sum| line.show(sum))
}

/// The live line; erased when the client is gone.
struct LiveLine(Live);

impl LiveLine {
    fn show(&self, sum: &Progress) {
        let line =
            self.0.update(sum.elapsed, sum.length, &sum.interval, sum.outstanding, &sum.totals);
        let mut out = stdout().lock();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        print!("{}", self.0.end());
    }
}

/// The dashboard on the terminal, which is as before when this is dropped.
struct Shown {
    dashboard: Dashboard,
    watched: Watched,
    before: Vec<ShardCounters>,
    // In this order: nobody reads keys of a terminal that was given back.
    keyboard: Keyboard,
    screen: Screen,
}

impl Shown {
    fn new(watched: Watched) -> std::io::Result<Self> {
        let mut screen = Screen::take()?;
        let dashboard = Dashboard::new(&watched.title);
        screen.show(&dashboard)?;
        let keyboard = Keyboard::watch(Arc::clone(&watched.stop));
        let before = (watched.counters)();
        Ok(Self { dashboard, watched, before, keyboard, screen })
    }

    fn update(&mut self, sum: &Progress) {
        let now = (self.watched.counters)();
        let resent = |shards: &[ShardCounters]| {
            shards.iter().map(|shard| shard.metrics.bytes_resent).sum::<u64>()
        };
        let cores = self.before.iter().zip(&now).zip(&self.watched.cpus);
        self.dashboard.push(Moment {
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
            resent_bytes: resent(&now).saturating_sub(resent(&self.before)),
        });
        self.before = now;
        if !self.keyboard.is_ended() {
            let _ = self.screen.show(&self.dashboard);
        }
    }
}

/// Waits for the keys that end a run, on a thread of its own.
struct Keyboard {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// Sets `stop` when the user wants the run to end.
    fn watch(stop: Arc<AtomicBool>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                match wants_end(TICK) {
                    Ok(true) => stop.store(true, Ordering::Relaxed),
                    Ok(false) => {}
                    // Nothing comes from there any more.
                    Err(_) => return,
                }
            }
        });
        Self { end, thread: Some(thread) }
    }

    fn is_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The share of the time between two moments in which there was something to do.
fn busy_share(before: &ShardStats, now: &ShardStats) -> f64 {
    let busy = now.busy_ns.saturating_sub(before.busy_ns);
    let idle = now.idle_ns.saturating_sub(before.idle_ns);
    busy as f64 / (busy + idle).max(1) as f64
}
