//! The client of the load generator.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use crate::dpdk::Clock;
use crate::load::cp_node::HEADER_BYTES;
use crate::load::generator::{Failure, Generator, GeneratorConfig, Outcome, Planned, Totals};
use crate::load::payload::{Direction, Pattern};
use crate::load::recorder::{Interval, Recorder, RecorderConfig};
use crate::node::{App, CallFailed, Cx, Request, Response};
use crate::time::Nanos;
use crate::transport::RpcError;
use crate::wire::HomaPort;

use super::{MessageFormat, ResponseKind, check, cp_node, message};

/// Calls started per turn of the loop.
const CALLS_PER_TURN: usize = 32;
/// Progress is reported this often.
const INTERVAL: Nanos = Nanos::from_secs(1);

/// What to ask whom.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The load; `start` is counted from the moment the shard starts.
    pub generator: GeneratorConfig,
    /// What to record; `measured_from` is counted as `generator.start` is.
    pub recorder: RecorderConfig,
    /// The servers and their base ports.
    pub servers: Vec<(IpAddr, HomaPort)>,
    /// What the servers answer with.
    pub response: ResponseKind,
    /// What messages look like.
    pub format: MessageFormat,
    /// Fill requests with bytes that can be checked, and check responses.
    pub verify: bool,
    /// Seed of sizes and arrival times.
    pub seed: u64,
}

/// A second of a run that goes on.
#[derive(Debug)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Nanos,
    /// Time since the last progress.
    pub length: Nanos,
    /// What was completed in that time.
    pub interval: Interval,
    /// RPCs under way.
    pub outstanding: u32,
    /// Since the start.
    pub totals: Totals,
}

/// What a run gave.
#[derive(Debug)]
pub struct ClientResult {
    /// What became of the RPCs.
    pub totals: Totals,
    /// Their times.
    pub recorder: Recorder,
}

/// The shard's end of the way to the thread that shows progress. Progress reports go round and
/// round, so that none is allocated while the load runs.
#[derive(Debug)]
pub struct ClientLink {
    /// Clients of the node that are not finished; the last stops it.
    running: Arc<AtomicUsize>,
    /// When the first of them started: they all measure from then on.
    start: Arc<OnceLock<Nanos>>,
    progress: SyncSender<Box<Progress>>,
    spare: Receiver<Box<Progress>>,
    result: SyncSender<ClientResult>,
}

impl ClientLink {
    /// The node goes on when the clients are through, for it does other work as well.
    pub fn keep_node(&self) {
        // One client that never ends.
        self.running.fetch_add(1, Ordering::Relaxed);
    }
}

/// The other end of a [`ClientLink`].
#[derive(Debug)]
pub struct ClientWatch {
    /// Once a second; to be given back.
    pub progress: Receiver<Box<Progress>>,
    /// The way back for progress.
    pub give_back: SyncSender<Box<Progress>>,
    /// Once, at the end.
    pub result: Receiver<ClientResult>,
}

/// Makes the two ends of a link for each of the shards of a node.
pub fn client_links(shards: u8) -> Vec<(ClientLink, ClientWatch)> {
    let running = Arc::new(AtomicUsize::new(shards.into()));
    let start = Arc::default();
    (0..shards).map(|_| client_link(Arc::clone(&running), Arc::clone(&start))).collect()
}

fn client_link(
    running: Arc<AtomicUsize>,
    start: Arc<OnceLock<Nanos>>,
) -> (ClientLink, ClientWatch) {
    let (progress, progress_of) = sync_channel(2);
    let (give_back, spare) = sync_channel(2);
    let (result, result_of) = sync_channel(1);
    let empty = || {
        Box::new(Progress {
            elapsed: Nanos::ZERO,
            length: Nanos::ZERO,
            interval: Interval::new(),
            outstanding: 0,
            totals: Totals::default(),
        })
    };
    // Two, so that one can be filled while the other is shown. There is room: nothing blocks.
    let _ = (give_back.try_send(empty()), give_back.try_send(empty()));
    let watch = ClientWatch { progress: progress_of, give_back, result: result_of };
    (ClientLink { running, start, progress, spare, result }, watch)
}

/// Sends requests as the generator plans them and records the responses.
#[derive(Debug)]
pub struct ClientApp {
    servers: Vec<(IpAddr, HomaPort)>,
    response: ResponseKind,
    format: MessageFormat,
    verify: bool,
    /// `None` once the result is out.
    generator: Option<Generator>,
    recorder: Option<Recorder>,
    clock: Clock,
    start: Nanos,
    last_progress: Nanos,
    /// When the node was told to stop before the run was over: nothing more is sent, what is under way
    /// may still arrive.
    stopped: Option<Nanos>,
    link: ClientLink,
}

impl ClientApp {
    /// A client that starts at once.
    pub fn new(cx: &Cx<'_>, clock: Clock, config: ClientConfig, link: ClientLink) -> Self {
        let start = *link.start.get_or_init(|| cx.now());
        let generator =
            GeneratorConfig { start: start + config.generator.start, ..config.generator };
        let measured_from = start + config.recorder.measured_from;
        let recorder = RecorderConfig { measured_from, ..config.recorder };
        let port = |(host, base): (IpAddr, HomaPort)| match config.format {
            MessageFormat::Plain => (host, config.response.port(base)),
            MessageFormat::CpNode => (host, base),
        };
        Self {
            servers: config.servers.into_iter().map(port).collect(),
            response: config.response,
            format: config.format,
            verify: config.verify,
            generator: Some(Generator::new(generator, config.seed)),
            recorder: Some(Recorder::new(recorder)),
            clock,
            start,
            last_progress: start,
            stopped: None,
            link,
        }
    }

    /// Starts one call; says whether the node took it.
    fn send(&self, cx: &mut Cx<'_>, planned: Planned) -> bool {
        let (host, port) = self.servers[planned.destination as usize % self.servers.len()];
        let Some(id) = cx.next_rpc_id() else { return false };
        let pattern = self.verify.then(|| Pattern::new(id.0, Direction::Request));
        let request = match self.format {
            MessageFormat::Plain => message(cx, planned.size_bytes, pattern),
            MessageFormat::CpNode => {
                let what = (planned.cookie, planned.destination, request_bytes(planned.size_bytes));
                cp_node::request(cx, what, &self.response, pattern)
            }
        };
        let Ok(request) = request else { return false };
        cx.call(host, port, request, planned.cookie).is_ok()
    }

    fn outcome(&self, response: &Response, planned_bytes: u32) -> Outcome {
        let size_bytes = response.message.len() as u32;
        let request_bytes = match self.format {
            MessageFormat::Plain => planned_bytes,
            MessageFormat::CpNode => request_bytes(planned_bytes),
        };
        let expected = self.response.bytes(response.id.0, request_bytes);
        if size_bytes != expected {
            log::error!(
                "response {}: {size_bytes} bytes instead of {expected}: server and client must be \
                 given the same --response",
                response.id
            );
            return Outcome::Corrupted;
        }
        if self.format == MessageFormat::CpNode {
            let what = (response.cookie, response.id.0);
            let checked =
                cp_node::check_response(&response.message, what, &self.response, self.verify);
            if let Err(error) = checked {
                log::error!("response {}: {error}", response.id);
                return Outcome::Corrupted;
            }
        } else if self.verify {
            let pattern = Pattern::new(response.id.0, Direction::Response);
            if let Err(mismatch) = check(&response.message, pattern) {
                log::error!("response {}: {mismatch}", response.id);
                return Outcome::Corrupted;
            }
        }
        Outcome::Response { size_bytes }
    }

    fn show_progress(&mut self, now: Nanos) {
        let (Some(generator), Some(recorder)) = (&self.generator, &mut self.recorder) else {
            return;
        };
        let length = now.since(self.last_progress);
        self.last_progress = now;
        // Nobody took the last ones: skip this one, the next interval is longer then.
        let Ok(mut progress) = self.link.spare.try_recv() else { return };
        recorder.take_interval(&mut progress.interval);
        progress.elapsed = now.since(self.start);
        progress.length = length;
        progress.outstanding = generator.outstanding();
        progress.totals = *generator.totals();
        let _ = self.link.progress.try_send(progress);
    }

    /// Hands the result over, once.
    fn finish(&mut self, now: Nanos) {
        let (Some(generator), Some(mut recorder)) = (self.generator.take(), self.recorder.take())
        else {
            return;
        };
        let totals = generator.finish(now);
        recorder.finish(totals.measured_to);
        let _ = self.link.result.try_send(ClientResult { totals, recorder });
    }
}

impl App for ClientApp {
    fn on_request(&mut self, _cx: &mut Cx<'_>, _request: Request) {
        // No port is open for requests.
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        let cookie = match &response {
            Ok(response) => response.cookie,
            Err(failed) => failed.cookie,
        };
        let request_bytes =
            self.generator.as_ref().and_then(|generator| generator.request_bytes(cookie));
        let outcome = match &response {
            Ok(response) => self.outcome(response, request_bytes.unwrap_or(0)),
            Err(failed) => Outcome::Failed(failure(failed.error)),
        };
        let (Some(generator), Some(recorder)) = (&mut self.generator, &mut self.recorder) else {
            return;
        };
        if let Some(sample) = generator.on_done(cx.now(), cookie, outcome) {
            recorder.record(&sample);
        }
    }

    #[inline]
    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if self.stopped.is_some() {
            return;
        }
        let now = cx.now();
        for _ in 0..CALLS_PER_TURN {
            let Some(planned) = self.generator.as_mut().and_then(|generator| generator.next(now))
            else {
                break;
            };
            let sent = self.send(cx, planned);
            let Some(generator) = &mut self.generator else { return };
            if !sent {
                generator.on_refused(planned.cookie);
                break;
            }
            generator.on_sent(now, planned.cookie);
        }
        if now.since(self.last_progress) >= INTERVAL {
            self.show_progress(now);
        }
        if self.generator.as_ref().is_none_or(|generator| generator.is_finished(now)) {
            self.finish(now);
            self.stopped = Some(now);
            if self.link.running.fetch_sub(1, Ordering::Relaxed) == 1 {
                cx.stop();
            }
        }
    }

    fn on_stop(&mut self, cx: &mut Cx<'_>) {
        self.stopped.get_or_insert_with(|| cx.now());
    }
}

impl Drop for ClientApp {
    fn drop(&mut self) {
        self.finish(self.stopped.unwrap_or_else(|| self.clock.now()));
    }
}

/// A message of `cp_node` has at least a header.
fn request_bytes(planned_bytes: u32) -> u32 {
    planned_bytes.max(HEADER_BYTES as u32)
}

fn failure(error: RpcError) -> Failure {
    match error {
        RpcError::Timeout => Failure::Timeout,
        RpcError::HostUnreachable | RpcError::PortUnreachable | RpcError::ProtocolUnreachable => {
            Failure::Unreachable
        }
        RpcError::PortClosed | RpcError::Aborted => Failure::Aborted,
        _ => Failure::Other,
    }
}
