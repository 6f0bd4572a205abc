//! A host of a cluster over sockets: the server that answers and the client that asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::{KernelClientConfig, KernelResult, KernelServer, Served, run_clients};
use crate::load::apps::{HostEnd, Progress};
use crate::load::cluster::agent::AgentLink;
use crate::load::cluster::protocol::{Alive, FromAgent, FromCoordinator};

/// How soon orders, results and signals are noticed.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// What a host has to say at its end.
#[derive(Debug)]
pub struct KernelHostRun {
    /// What became of its own load; `None` if it sent nothing.
    pub client: Option<KernelResult>,
    /// What it answered.
    pub served: Served,
    /// Why it has ended.
    pub end: HostEnd,
}

/// Serves, and sends the load of `client` from threads on `cpus` when the coordinator says so, until it says
/// that all is over or `stop` is set.
///
/// # Errors
/// The server has failed, or a destination could not be reached.
pub fn run_kernel_host(
    link: &AgentLink,
    server: KernelServer,
    client: Option<&KernelClientConfig>,
    cpus: &[usize],
    stop: &AtomicBool,
) -> Result<KernelHostRun, String> {
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(stop).map_err(|error| error.to_string()));
        // The sockets are open: requests that come now are answered.
        let _ = link.send(&FromAgent::Up);
        let mut result: Option<Receiver<_>> = None;
        let mut asked: Option<Result<KernelResult, String>> = None;
        let mut end = None;
        while !stop.load(Ordering::Relaxed) {
            match link.next(CHECK_INTERVAL) {
                None => {}
                // There is no way to be found: connections are made at the start.
                Some(Ok(FromCoordinator::Greet)) => drop(link.send(&FromAgent::Ready)),
                Some(Ok(FromCoordinator::Start)) => match client {
                    Some(config) => {
                        let (sender, receiver) = channel();
                        result = Some(receiver);
                        scope.spawn(move || {
                            let ran = run_clients(config, cpus, stop, signs_of_life(link));
                            let _ = sender.send(ran);
                        });
                    }
                    None => drop(link.send(&FromAgent::Finished)),
                },
                Some(order) => {
                    end.get_or_insert(match order {
                        Ok(FromCoordinator::Refused { reason }) => HostEnd::Refused(reason),
                        Ok(_) => HostEnd::Told,
                        Err(error) => HostEnd::Orphaned(error),
                    });
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if let Some(ran) = result.as_ref().and_then(|result| result.try_recv().ok()) {
                result = None;
                match &ran {
                    Ok(_) => drop(link.send(&FromAgent::Finished)),
                    // There is no use in going on.
                    Err(_) => stop.store(true, Ordering::Relaxed),
                }
                asked = Some(ran);
            }
        }
        // A client that is told to stop still waits for what is under way.
        let asked = asked.or_else(|| result.and_then(|result| result.recv().ok()));
        let served = serving.join().unwrap_or_else(|_| Err("the server failed".to_owned()))?;
        Ok(KernelHostRun {
            client: asked.transpose()?,
            served,
            end: end.unwrap_or(HostEnd::Signal),
        })
    })
}

/// Tells the coordinator how far the load is.
fn signs_of_life(link: &AgentLink) -> impl FnMut(&Progress) + Send + '_ {
    let mut alive = Alive::default();
    move |progress| {
        alive.completed += progress.interval.completed;
        alive.bytes += progress.interval.request_bytes + progress.interval.response_bytes;
        alive.outstanding = progress.outstanding;
        link.set_alive(alive);
    }
}
