//! Loads on a node, one after the other.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::load::recorder::MergeError;
use crate::node::{Node, NodeError, NodeReport};

use super::{ClientApp, ClientConfig, ClientResult, ClientWatch, NextRun, Progress, client_links};

/// How long a sum of progress waits for the numbers of a shard.
const LATE: Duration = Duration::from_millis(200);

/// Why there is no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The node does not run, or did not end well.
    Node(NodeError),
    /// The shards recorded differently.
    Merge(MergeError),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(error) => error.fmt(f),
            Self::Merge(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SessionError {}

impl ClientConfig {
    /// What shard `shard` of `shards` does of this.
    pub(super) fn part(&self, shard: u32, shards: u32) -> Self {
        Self {
            generator: self.generator.part(shard, shards),
            seed: self.seed.wrapping_add(shard.into()),
            ..self.clone()
        }
    }
}

/// Runs `first` on all shards of `node`, and then whatever `next` says to the result of the run
/// before, all shards together; the node ends when that is nothing. `on_progress` is called about once
/// a second with the sums over the shards. Both run on threads of their own.
///
/// A node that is stopped gives the result of the run that was broken off.
///
/// # Errors
/// The node does not run, or did not end well.
pub fn run_loads(
    node: &mut Node,
    first: &ClientConfig,
    on_progress: impl FnMut(&Progress) + Send,
    next: impl FnMut(ClientResult) -> Option<ClientConfig> + Send,
) -> Result<NodeReport, SessionError> {
    let clock = node.eal().clock();
    let shards = u32::from(node.shards());
    let (mut links, mut shown, mut driven) = (Vec::new(), Vec::new(), Vec::new());
    for (link, watch) in client_links(node.shards()) {
        let ClientWatch { progress, give_back, result, next } = watch;
        links.push(Mutex::new(Some(link)));
        shown.push(Shown { progress, give_back });
        driven.push(Driven { result, next });
    }
    std::thread::scope(|scope| {
        scope.spawn(move || each_progress(&shown, on_progress));
        let driver = scope.spawn(move || drive(&driven, next));
        // Each shard takes its own, by its number.
        let ran = node.run_shards(|cx| {
            let link = links[usize::from(cx.shard())].lock().ok().and_then(|mut link| link.take());
            let part = first.part(cx.shard().into(), shards);
            ClientApp::new(cx, clock, part, link.expect("one link for each shard"))
        });
        // What waits for those that never started waits no longer.
        drop(links);
        let driven = driver.join().unwrap_or(Ok(()));
        let report = ran.map_err(SessionError::Node)?;
        driven.map_err(SessionError::Merge)?;
        Ok(report)
    })
}

/// What of a shard the progress needs.
pub(in crate::load) struct Shown {
    pub(in crate::load) progress: Receiver<Box<Progress>>,
    pub(in crate::load) give_back: SyncSender<Box<Progress>>,
}

/// Calls `on_progress` with the sums over all shards until the first of them is gone.
pub(in crate::load) fn each_progress(shards: &[Shown], mut on_progress: impl FnMut(&Progress)) {
    let Some((first, others)) = shards.split_first() else { return };
    while let Ok(mut sum) = first.progress.recv() {
        for shard in others {
            // One that has ended, or is late, is left out.
            let Ok(part) = shard.progress.recv_timeout(LATE) else { continue };
            sum.interval.merge(&part.interval);
            sum.totals.merge(&part.totals);
            sum.outstanding += part.outstanding;
            let _ = shard.give_back.try_send(part);
        }
        on_progress(&sum);
        let _ = first.give_back.try_send(sum);
    }
}

/// What of a shard is needed to go from run to run.
struct Driven {
    result: Receiver<ClientResult>,
    next: SyncSender<NextRun>,
}

/// Goes from run to run until there is no next or the shards are gone.
fn drive(
    shards: &[Driven],
    mut next: impl FnMut(ClientResult) -> Option<ClientConfig>,
) -> Result<(), MergeError> {
    loop {
        let mut all: Option<ClientResult> = None;
        for shard in shards {
            let Ok(part) = shard.result.recv() else { return Ok(()) };
            match &mut all {
                None => all = Some(part),
                Some(all) => all.merge(&part)?,
            }
        }
        let Some(config) = all.and_then(&mut next) else { return Ok(()) };
        let start = Arc::default();
        for (number, shard) in (0..).zip(shards) {
            let part = config.part(number, shards.len() as u32);
            // One that has ended gives no result either.
            let _ = shard.next.send(NextRun { config: part, start: Arc::clone(&start) });
        }
    }
}
