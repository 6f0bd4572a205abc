//! The client: what the generator plans goes to sockets, what comes back goes into the books.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::poller::Poller;
use super::tcp_client::{TcpClient, TcpClientConfig};
use super::udp_client::{UdpClient, UdpClientConfig};
use super::{
    Ask, Counters, Done, KernelTransport, LOOK_AROUND, Monotonic, SILENCE_MIN, SocketConfig, Wire,
};
use crate::dpdk::pin_current_thread;
use crate::load::apps::{
    ClientLink, ClientResult, ClientWatch, Progress, ResponseKind, Shown, client_links,
    each_progress,
};
use crate::load::generator::{Generator, GeneratorConfig};
use crate::load::recorder::{Recorder, RecorderConfig};
use crate::load::report::SideReport;
use crate::time::Nanos;

/// Calls started per turn of the loop.
const CALLS_PER_TURN: usize = 32;
/// Progress is reported this often.
const INTERVAL: Nanos = Nanos::from_secs(1);
/// How long a client that was stopped waits for what is under way.
const STOP_PATIENCE: Nanos = Nanos::from_ms(500);
/// Turns of a spinning loop between looks at the stop flag.
const TURNS_PER_LOOK: u32 = 256;

/// What to ask whom.
#[derive(Clone, Debug)]
pub struct KernelClientConfig {
    /// How to talk.
    pub socket: SocketConfig,
    /// The load; `start` is counted from the moment the client is connected.
    pub generator: GeneratorConfig,
    /// What to record; `measured_from` is counted as `generator.start` is.
    pub recorder: RecorderConfig,
    /// The servers.
    pub servers: Vec<SocketAddr>,
    /// Our own address, if it is to be a certain one.
    pub source: Option<IpAddr>,
    /// Connections, or sockets, of each thread to each server.
    pub connections: usize,
    /// What the servers answer with.
    pub response: ResponseKind,
    /// Fill requests with bytes that can be checked, and check responses.
    pub verify: bool,
    /// Seed of sizes and arrival times.
    pub seed: u64,
}

/// What a client has to say at its end.
#[derive(Debug)]
pub struct KernelResult {
    /// What became of the RPCs.
    pub result: ClientResult,
    /// What the transport counted.
    pub counters: Counters,
    /// Why the run was broken off, if it was.
    pub broken: Option<String>,
}

/// A client of one thread, turn by turn.
#[derive(Debug)]
pub struct KernelClient {
    wire: Box<dyn Wire>,
    generator: Generator,
    recorder: Recorder,
    response: ResponseKind,
    clock: Monotonic,
    start: Nanos,
    last_progress: Nanos,
    last_look: Nanos,
    /// When nothing more was to be sent, before the run was over.
    stopped: Option<Nanos>,
    broken: Option<String>,
    is_over: bool,
    done: Vec<Done>,
    link: ClientLink,
}

impl KernelClient {
    /// Connects, and starts at once.
    ///
    /// # Errors
    /// Which server cannot be reached, and why.
    pub fn connect(
        config: KernelClientConfig,
        clock: Monotonic,
        link: ClientLink,
    ) -> Result<Self, String> {
        let wire = wire(&config)?;
        let start = link.start(clock.now());
        let generator =
            GeneratorConfig { start: start + config.generator.start, ..config.generator };
        let measured_from = start + config.recorder.measured_from;
        let recorder = RecorderConfig { measured_from, ..config.recorder };
        let calls_max = generator.load.outstanding_max() as usize;
        Ok(Self {
            wire,
            generator: Generator::new(generator, config.seed),
            recorder: Recorder::new(recorder),
            response: config.response,
            clock,
            start,
            last_progress: start,
            last_look: start,
            stopped: None,
            broken: None,
            is_over: false,
            done: Vec::with_capacity(calls_max),
            link,
        })
    }

    /// Sends what is due and takes what came; says whether the run goes on.
    pub fn turn(&mut self) -> bool {
        if self.is_over {
            return false;
        }
        let now = self.clock.now();
        let is_due = self.stopped.is_none() && self.start_calls(now);
        self.recorder.note_outstanding(self.generator.outstanding());
        let patience = if is_due { Duration::ZERO } else { self.patience(now) };
        let exchanged = self.wire.exchange(self.clock, patience, &mut self.done);
        let looked = exchanged.and_then(|()| self.look_around(now));
        if let Err(why) = looked {
            self.wire.give_up(self.clock.now(), &mut self.done);
            self.stop();
            self.broken = Some(why);
        }
        self.settle();
        if now.since(self.last_progress) >= INTERVAL {
            let length = now.since(self.last_progress);
            self.last_progress = now;
            let elapsed = now.since(self.start);
            self.link.show(elapsed, length, &self.generator, &mut self.recorder);
        }
        self.is_over = match self.stopped {
            None => self.generator.is_finished(now),
            Some(stopped) => {
                self.generator.outstanding() == 0 || now.since(stopped) > STOP_PATIENCE
            }
        };
        !self.is_over
    }

    /// Nothing more is to be sent.
    pub fn stop(&mut self) {
        self.stopped.get_or_insert_with(|| self.clock.now());
    }

    /// Hands what is due to the transport; says whether more is due at once.
    fn start_calls(&mut self, now: Nanos) -> bool {
        for _ in 0..CALLS_PER_TURN {
            let Some(planned) = self.generator.next(now) else { return false };
            let ask = Ask {
                cookie: planned.cookie,
                destination: planned.destination as usize,
                request_bytes: planned.size_bytes,
                response_bytes: self.response.bytes(planned.cookie, planned.size_bytes),
            };
            if !self.wire.call(now, &ask) {
                self.generator.on_refused(planned.cookie);
                return false;
            }
            self.generator.on_sent(now, planned.cookie);
        }
        true
    }

    /// How long nothing will be due.
    fn patience(&self, now: Nanos) -> Duration {
        match self.generator.next_arrival().filter(|&due| due > now) {
            Some(due) => LOOK_AROUND.min(Duration::from_nanos(due.since(now).0)),
            // A closed loop, or an open one that waits for room.
            None => LOOK_AROUND,
        }
    }

    fn look_around(&mut self, now: Nanos) -> Result<(), String> {
        if now.since(self.last_look).0 < LOOK_AROUND.as_nanos() as u64 {
            return Ok(());
        }
        self.last_look = now;
        self.wire.look_around(now, &mut self.done)
    }

    /// Puts what is over into the books.
    fn settle(&mut self) {
        for done in self.done.drain(..) {
            if let Some(sample) = self.generator.on_done(done.at, done.cookie, done.outcome) {
                self.recorder.record(&sample);
            }
        }
    }

    /// The end.
    pub fn finish(mut self) -> KernelResult {
        let now = self.stopped.unwrap_or_else(|| self.clock.now());
        let totals = self.generator.finish(now);
        self.recorder.finish(totals.measured_to);
        let side = SideReport {
            name: "client".to_owned(),
            cores: vec![self.wire.usage()],
            ..SideReport::default()
        };
        KernelResult {
            result: ClientResult { totals, recorder: self.recorder, side },
            counters: self.wire.counters(),
            broken: self.broken,
        }
    }
}

fn wire(config: &KernelClientConfig) -> Result<Box<dyn Wire>, String> {
    let SocketConfig { transport, poll, idle, mtu, timeout } = config.socket;
    let poller = Poller::new(poll, idle).map_err(|error| format!("no epoll: {error}"))?;
    let calls_max = config.generator.load.outstanding_max();
    let silence = timeout.max(SILENCE_MIN);
    Ok(match transport {
        KernelTransport::Tcp => {
            let config = TcpClientConfig {
                servers: &config.servers,
                source: config.source,
                per_server: config.connections,
                calls_max,
                silence,
                verify: config.verify,
            };
            Box::new(TcpClient::connect(&config, poller)?)
        }
        KernelTransport::Udp => {
            let config = UdpClientConfig {
                servers: &config.servers,
                source: config.source,
                per_server: config.connections,
                calls_max,
                mtu,
                timeout,
                silence,
                verify: config.verify,
            };
            Box::new(UdpClient::open(&config, poller)?)
        }
    })
}

/// Runs a client on each of `cpus` (one, wherever it likes, if there are none) with its part of the
/// load, until the end or until `stop` is set, and merges what they say. `on_progress` is called about
/// once a second with the sums.
///
/// # Errors
/// A server that cannot be reached, or a CPU that may not be used.
pub fn run_clients(
    config: &KernelClientConfig,
    cpus: &[usize],
    stop: &AtomicBool,
    on_progress: impl FnMut(&Progress) + Send,
) -> Result<KernelResult, String> {
    let clock = Monotonic::new();
    let parts = u8::try_from(cpus.len().max(1)).map_err(|_| "more than 255 CPUs".to_owned())?;
    let (mut links, mut shown) = (Vec::new(), Vec::new());
    for (link, watch) in client_links(parts) {
        let ClientWatch { progress, give_back, .. } = watch;
        links.push(link);
        shown.push(Shown { progress, give_back });
    }
    let parts = u32::from(parts);
    let results: Vec<_> = thread::scope(|scope| {
        scope.spawn(move || each_progress(&shown, on_progress));
        let mut threads = Vec::new();
        for (part, link) in (0..).zip(links) {
            let config = KernelClientConfig {
                generator: config.generator.part(part, parts),
                seed: config.seed.wrapping_add(part.into()),
                ..config.clone()
            };
            let cpu = cpus.get(part as usize).copied();
            threads.push(scope.spawn(move || run(config, cpu, clock, link, stop)));
        }
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("a client failed, see above".to_owned()))
        };
        threads.into_iter().map(join).collect()
    });
    merge(results)
}

fn run(
    config: KernelClientConfig,
    cpu: Option<usize>,
    clock: Monotonic,
    link: ClientLink,
    stop: &AtomicBool,
) -> Result<KernelResult, String> {
    if let Some(cpu) = cpu {
        pin_current_thread(cpu).map_err(|error| error.to_string())?;
    }
    let sleeps = config.socket.poll == super::Poll::Epoll;
    let mut client = KernelClient::connect(config, clock, link)?;
    let mut turns = 0_u32;
    while client.turn() {
        turns = turns.wrapping_add(1);
        if (sleeps || turns.is_multiple_of(TURNS_PER_LOOK)) && stop.load(Ordering::Relaxed) {
            client.stop();
        }
    }
    Ok(client.finish())
}

fn merge(results: Vec<Result<KernelResult, String>>) -> Result<KernelResult, String> {
    let mut all: Option<KernelResult> = None;
    for part in results {
        let part = part?;
        let Some(all) = &mut all else {
            all = Some(part);
            continue;
        };
        all.result.merge(&part.result).map_err(|error| error.to_string())?;
        all.counters.merge(&part.counters);
        all.broken = all.broken.take().or(part.broken);
    }
    all.ok_or_else(|| "no client ran".to_owned())
}
