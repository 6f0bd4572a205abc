//! The client of the load generator.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};

use crate::dpdk::Clock;
use crate::load::cp_node::HEADER_BYTES;
use crate::load::generator::{Failure, Generator, GeneratorConfig, Outcome, Planned, Totals};
use crate::load::payload::{Direction, Pattern};
use crate::load::recorder::{Interval, MergeError, Recorder, RecorderConfig};
use crate::load::report::SideReport;
use crate::node::{App, CallFailed, Cx, Request, Response};
use crate::time::Nanos;
use crate::transport::RpcError;
use crate::wire::HomaPort;

use super::meter::Meter;
use super::{MessageFormat, ResponseKind, check, complain, cp_node, message};

/// Calls started per turn of the loop.
const CALLS_PER_TURN: usize = 32;
/// Progress is reported this often.
const INTERVAL: Nanos = Nanos::from_secs(1);

/// What to ask whom.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The load; `start` is counted from the moment the run starts.
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
    /// What the measured time cost.
    pub side: SideReport,
}

impl ClientResult {
    /// Adds what another shard has of the same run.
    ///
    /// # Errors
    /// They recorded differently.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        self.recorder.merge(&other.recorder)?;
        self.totals.merge(&other.totals);
        self.side.add(&other.side);
        Ok(())
    }
}

/// The load that comes after the one that has ended. All shards of a node need theirs.
#[derive(Clone, Debug)]
pub struct NextRun {
    /// What to do.
    pub config: ClientConfig,
    /// When the first shard began: they all measure from then on. One for the shards of a run.
    pub start: Arc<OnceLock<Nanos>>,
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
    next: Receiver<NextRun>,
}

impl ClientLink {
    /// When the first of the clients started; `now` if that is this one.
    pub(in crate::load) fn start(&self, now: Nanos) -> Nanos {
        *self.start.get_or_init(|| now)
    }

    /// Tells of a second that is over. If nobody took the last ones this one is skipped, and the next
    /// interval is longer.
    pub(in crate::load) fn show(
        &self,
        elapsed: Nanos,
        length: Nanos,
        generator: &Generator,
        recorder: &mut Recorder,
    ) {
        let Ok(mut progress) = self.spare.try_recv() else { return };
        recorder.take_interval(&mut progress.interval);
        progress.elapsed = elapsed;
        progress.length = length;
        progress.outstanding = generator.outstanding();
        progress.totals = *generator.totals();
        let _ = self.progress.try_send(progress);
    }

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
    /// Once at the end of each run.
    pub result: Receiver<ClientResult>,
    /// Takes the next run, after the result of the one before. The client ends when this is gone.
    pub next: SyncSender<NextRun>,
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
    let (next, next_of) = sync_channel(1);
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
    let watch = ClientWatch { progress: progress_of, give_back, result: result_of, next };
    (ClientLink { running, start, progress, spare, result, next: next_of }, watch)
}

/// A load that goes on.
#[derive(Debug)]
struct Run {
    generator: Generator,
    recorder: Recorder,
    meter: Meter,
    start: Nanos,
    last_progress: Nanos,
}

impl Run {
    fn new(start: Nanos, generator: GeneratorConfig, recorder: RecorderConfig, seed: u64) -> Self {
        let generator = GeneratorConfig { start: start + generator.start, ..generator };
        let measured_from = start + recorder.measured_from;
        Self {
            generator: Generator::new(generator, seed),
            recorder: Recorder::new(RecorderConfig { measured_from, ..recorder }),
            meter: Meter::default(),
            start,
            last_progress: start,
        }
    }

    /// Looks at the meter in measured time.
    #[cold]
    fn note_cost(&mut self, cx: &Cx<'_>) {
        if self.generator.is_measuring(cx.now()) {
            self.meter.look(cx);
        } else {
            self.meter.skip(cx.now());
        }
    }

    fn end(mut self, now: Nanos, clock: Clock) -> ClientResult {
        let totals = self.generator.finish(now);
        self.recorder.finish(totals.measured_to);
        ClientResult { totals, recorder: self.recorder, side: self.meter.report("client", clock) }
    }
}

/// Sends requests as the generator plans them and records the responses.
#[derive(Debug)]
pub struct ClientApp {
    servers: Vec<(IpAddr, HomaPort)>,
    response: ResponseKind,
    format: MessageFormat,
    verify: bool,
    /// Responses found wrong so far.
    complaints: u64,
    /// `None` once the result is out.
    run: Option<Run>,
    clock: Clock,
    /// When the node was told to stop before the run was over: nothing more is sent, what is under way
    /// may still arrive.
    stopped: Option<Nanos>,
    link: ClientLink,
}

impl ClientApp {
    /// A client that starts at once.
    pub fn new(cx: &Cx<'_>, clock: Clock, config: ClientConfig, link: ClientLink) -> Self {
        let start = link.start(cx.now());
        let mut client = Self {
            servers: Vec::new(),
            response: ResponseKind::Echo,
            format: MessageFormat::Plain,
            verify: false,
            complaints: 0,
            run: None,
            clock,
            stopped: None,
            link,
        };
        client.begin(start, config);
        client
    }

    fn begin(&mut self, start: Nanos, config: ClientConfig) {
        let port = |(host, base): (IpAddr, HomaPort)| match config.format {
            MessageFormat::Plain => (host, config.response.port(base)),
            MessageFormat::CpNode => (host, base),
        };
        self.servers = config.servers.into_iter().map(port).collect();
        self.response = config.response;
        self.format = config.format;
        self.verify = config.verify;
        self.run = Some(Run::new(start, config.generator, config.recorder, config.seed));
    }

    /// Nothing more will be asked.
    #[cold]
    fn end(&mut self, cx: &mut Cx<'_>) {
        self.stopped = Some(cx.now());
        if self.link.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            cx.stop();
        }
    }

    /// Waits for the next run; says whether there may be one.
    #[cold]
    fn await_next(&mut self, now: Nanos) -> bool {
        match self.link.next.try_recv() {
            Ok(next) => {
                let start = *next.start.get_or_init(|| now);
                self.begin(start, next.config);
                true
            }
            Err(error) => error == TryRecvError::Empty,
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

    fn outcome(&mut self, response: &Response, planned_bytes: u32) -> Outcome {
        match self.check(response, planned_bytes) {
            Ok(size_bytes) => Outcome::Response { size_bytes },
            Err(error) => {
                self.complaints += 1;
                complain(self.complaints, "response", response.id, &error);
                Outcome::Corrupted
            }
        }
    }

    /// The length of a response, or what is wrong with it.
    fn check(&self, response: &Response, planned_bytes: u32) -> Result<u32, String> {
        let size_bytes = response.message.len() as u32;
        let request_bytes = match self.format {
            MessageFormat::Plain => planned_bytes,
            MessageFormat::CpNode => request_bytes(planned_bytes),
        };
        let expected = self.response.bytes(response.id.0, request_bytes);
        if size_bytes != expected {
            return Err(format!(
                "{size_bytes} bytes instead of {expected}: server and client must be given the same \
                 --response"
            ));
        }
        if self.format == MessageFormat::CpNode {
            let what = (response.cookie, response.id.0);
            cp_node::check_response(&response.message, what, &self.response, self.verify)?;
        } else if self.verify {
            let pattern = Pattern::new(response.id.0, Direction::Response);
            check(&response.message, pattern).map_err(|mismatch| mismatch.to_string())?;
        }
        Ok(size_bytes)
    }

    #[cold]
    fn show_progress(&mut self, now: Nanos) {
        let Some(run) = &mut self.run else { return };
        let length = now.since(run.last_progress);
        run.last_progress = now;
        self.link.show(now.since(run.start), length, &run.generator, &mut run.recorder);
    }

    /// Hands the result over, once for each run.
    fn finish(&mut self, now: Nanos) {
        if let Some(run) = self.run.take() {
            let _ = self.link.result.try_send(run.end(now, self.clock));
        }
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
        let run = self.run.as_ref();
        let request_bytes = run.and_then(|run| run.generator.request_bytes(cookie));
        let outcome = match (&response, request_bytes) {
            (Ok(response), Some(request_bytes)) => self.outcome(response, request_bytes),
            (Err(failed), _) => Outcome::Failed(failure(failed.error)),
            // Of a run before this one, or delivered twice: counted whatever it is.
            (Ok(_), None) => Outcome::Corrupted,
        };
        let Some(run) = &mut self.run else { return };
        if let Some(sample) = run.generator.on_done(cx.now(), cookie, outcome) {
            run.recorder.record(&sample);
        }
    }

    #[inline]
    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        if self.stopped.is_some() {
            return;
        }
        let now = cx.now();
        for _ in 0..CALLS_PER_TURN {
            let Some(planned) = self.run.as_mut().and_then(|run| run.generator.next(now)) else {
                break;
            };
            let sent = self.send(cx, planned);
            let Some(run) = &mut self.run else { return };
            if !sent {
                run.generator.on_refused(planned.cookie);
                break;
            }
            run.generator.on_sent(now, planned.cookie);
        }
        let Some(run) = &mut self.run else {
            if !self.await_next(now) {
                self.end(cx);
            }
            return;
        };
        run.recorder.note_outstanding(run.generator.outstanding());
        if run.meter.is_due(now) {
            run.note_cost(cx);
        }
        let (progressed, is_finished) = (run.last_progress, run.generator.is_finished(now));
        if now.since(progressed) >= INTERVAL {
            self.show_progress(now);
        }
        if is_finished {
            self.finish(now);
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
