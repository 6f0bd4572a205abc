//! A host of a cluster: the server that answers and the client that asks, on one node.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::dpdk::Clock;
use crate::load::cluster::agent::AgentLink;
use crate::load::cluster::protocol::{Alive, FromAgent, FromCoordinator, LinkError};
use crate::load::payload::{Direction, Pattern};
use crate::node::{App, CallFailed, Cx, Node, NodeError, Request, Response, ShardReport};
use crate::time::Nanos;
use crate::wire::HomaPort;

use super::{
    ClientApp, ClientConfig, ClientLink, ClientResult, ClientWatch, Progress, ServerApp,
    ServerConfig, ServerResult, client_links, message,
};

/// Bytes of the requests that look for the way.
const GREETING_BYTES: u32 = 64;
/// A greeting that failed is sent again after this time.
const GREETING_INTERVAL: Nanos = Nanos::from_ms(100);
/// How soon orders, results and signals are noticed.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// What a host is to do.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// What to answer.
    pub server: ServerConfig,
    /// Whom to ask; `None` for a host that only answers.
    pub client: Option<ClientConfig>,
}

/// Why a host has ended.
#[derive(Debug)]
pub enum HostEnd {
    /// The coordinator said so.
    Told,
    /// The coordinator has sent all home, for this reason.
    Refused(String),
    /// The coordinator is gone.
    Orphaned(LinkError),
    /// A signal said so.
    Signal,
}

/// What a host has to say at its end.
#[derive(Debug)]
pub struct HostRun {
    /// What became of its own load, all shards together; `None` if it sent nothing.
    pub client: Option<ClientResult>,
    /// What it answered, and what that cost.
    pub served: ServerResult,
    /// Counters of the node.
    pub report: ShardReport,
    /// Why it has ended.
    pub end: HostEnd,
}

/// Steps of the run, which the coordinator allows one after the other. Requests are answered always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Find the way to all destinations.
    Greet = 1,
    /// Send the load.
    Load,
}

/// What the shards and the thread that hears the coordinator tell each other.
#[derive(Debug, Default)]
struct Gate {
    /// A [`Phase`], or 0.
    phase: AtomicU8,
    /// Shards that answer.
    up: AtomicUsize,
    /// Shards that know the way to all destinations.
    ready: AtomicUsize,
}

impl Gate {
    fn open(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    #[inline]
    fn allows(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) >= phase as u8
    }
}

/// Runs `node` as a host of the cluster until the coordinator says it is over.
///
/// # Errors
/// As those of [`Node::run_shards`].
pub fn run_host(
    node: &mut Node,
    link: &AgentLink,
    config: &HostConfig,
) -> Result<HostRun, NodeError> {
    let (clock, stop, shards) = (node.eal().clock(), node.stop_flag(), node.shards());
    let gate = Arc::new(Gate::default());
    let served: Arc<Mutex<ServerResult>> = Arc::default();
    let (mut links, mut watches) = (Vec::new(), Vec::new());
    for (link, ClientWatch { progress, give_back, result, .. }) in client_links(shards) {
        links.push(Mutex::new(Some(link)));
        // Without a way for the next run, the first is the only one.
        watches.push(Watch { progress, give_back, result });
    }
    let is_over = AtomicBool::new(false);
    let (ran, (client, end)) = thread::scope(|scope| {
        let ear = Ear {
            link,
            gate: &gate,
            stop: &stop,
            is_over: &is_over,
            shards: shards.into(),
            has_load: config.client.is_some(),
        };
        let listening = scope.spawn(move || ear.listen(watches));
        let ran = node.run_shards(|cx| {
            let shard = usize::from(cx.shard());
            let link = links[shard].lock().ok().and_then(|mut link| link.take());
            let link = link.expect("one link for each shard");
            // The server goes on when the clients are through.
            link.keep_node();
            HostApp::new(cx, clock, config, link, Arc::clone(&gate), Arc::clone(&served))
        });
        // Links of shards that were never built tell their watches so.
        drop(links);
        is_over.store(true, Ordering::Release);
        (ran, listening.join().expect("it does not panic"))
    });
    let report = ran?.merged();
    let served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(HostRun { client, served, report, end })
}

/// What of a client is heard.
struct Watch {
    progress: Receiver<Box<Progress>>,
    give_back: SyncSender<Box<Progress>>,
    result: Receiver<ClientResult>,
}

/// Hears the coordinator, and tells it how far the shards are.
struct Ear<'a> {
    link: &'a AgentLink,
    gate: &'a Gate,
    stop: &'a AtomicBool,
    is_over: &'a AtomicBool,
    shards: usize,
    has_load: bool,
}

impl Ear<'_> {
    fn listen(self, watches: Vec<Watch>) -> (Option<ClientResult>, HostEnd) {
        let mut end = None;
        let mut results: Vec<Option<ClientResult>> = watches.iter().map(|_| None).collect();
        let (mut is_up, mut is_ready, mut is_finished) = (false, false, false);
        let mut alive = Alive::default();
        while !self.is_over.load(Ordering::Acquire) {
            match self.link.next(CHECK_INTERVAL) {
                None => {}
                Some(Ok(FromCoordinator::Greet)) => self.gate.open(Phase::Greet),
                Some(Ok(FromCoordinator::Start)) => self.gate.open(Phase::Load),
                Some(order) => {
                    end.get_or_insert(match order {
                        Ok(FromCoordinator::Refused { reason }) => HostEnd::Refused(reason),
                        Ok(_) => HostEnd::Told,
                        Err(error) => HostEnd::Orphaned(error),
                    });
                    self.stop.store(true, Ordering::Relaxed);
                    // The loop may take a moment to end; after an error there is nothing to wait for.
                    thread::sleep(CHECK_INTERVAL);
                }
            }
            // What cannot be sent will show in the next order.
            self.say_once(&mut is_up, &self.gate.up, &FromAgent::Up);
            if is_up {
                self.say_once(&mut is_ready, &self.gate.ready, &FromAgent::Ready);
            }
            watch(&watches, &mut alive);
            self.link.set_alive(alive);
            collect(&watches, &mut results);
            let all = !self.has_load || results.iter().all(Option::is_some);
            if !is_finished && all && self.gate.allows(Phase::Load) {
                is_finished = true;
                let _ = self.link.send(&FromAgent::Finished);
            }
        }
        collect(&watches, &mut results);
        (merged(results), end.unwrap_or(HostEnd::Signal))
    }

    /// Sends `message` when all shards are so far, once.
    fn say_once(&self, said: &mut bool, count: &AtomicUsize, message: &FromAgent) {
        if !*said && count.load(Ordering::Acquire) == self.shards {
            *said = true;
            let _ = self.link.send(message);
        }
    }
}

/// Adds up what the clients report once a second.
fn watch(watches: &[Watch], alive: &mut Alive) {
    for watch in watches {
        while let Ok(progress) = watch.progress.try_recv() {
            alive.completed += progress.interval.completed;
            alive.bytes += progress.interval.request_bytes + progress.interval.response_bytes;
            alive.outstanding = progress.outstanding * watches.len() as u32;
            let _ = watch.give_back.try_send(progress);
        }
    }
}

fn collect(watches: &[Watch], results: &mut [Option<ClientResult>]) {
    for (watch, result) in watches.iter().zip(results) {
        if result.is_none() {
            *result = watch.result.try_recv().ok();
        }
    }
}

fn merged(results: Vec<Option<ClientResult>>) -> Option<ClientResult> {
    let mut results = results.into_iter().flatten();
    let mut all = results.next()?;
    for part in results {
        // All were made from one configuration.
        let _ = all.merge(&part);
    }
    Some(all)
}

/// Looks for the way to a server.
#[derive(Debug)]
struct Greeting {
    host: IpAddr,
    port: HomaPort,
    /// When to ask again; `None` while an answer is awaited, or was there.
    next: Option<Nanos>,
    is_answered: bool,
}

/// Server and client of one shard.
#[derive(Debug)]
struct HostApp {
    server: ServerApp,
    /// Once the load has begun.
    client: Option<ClientApp>,
    /// What the client is made from.
    plan: Option<(Clock, ClientConfig, ClientLink)>,
    greetings: Vec<Greeting>,
    is_ready: bool,
    gate: Arc<Gate>,
}

impl HostApp {
    fn new(
        cx: &mut Cx<'_>,
        clock: Clock,
        config: &HostConfig,
        link: ClientLink,
        gate: Arc<Gate>,
        served: Arc<Mutex<ServerResult>>,
    ) -> Self {
        let server = ServerApp::new(cx, clock, config.server.clone(), served);
        let (shard, shards) = (u32::from(cx.shard()), u32::from(cx.shards()));
        let plan = config.client.as_ref().map(|client| (clock, client.part(shard, shards), link));
        let mut greetings: Vec<Greeting> = Vec::new();
        for &(host, port) in config.client.iter().flat_map(|client| &client.servers) {
            // One way leads to all ports of a host.
            if greetings.iter().all(|greeting| greeting.host != host) {
                let next = Some(Nanos::ZERO);
                greetings.push(Greeting { host, port, next, is_answered: false });
            }
        }
        gate.up.fetch_add(1, Ordering::Release);
        Self { server, client: None, plan, greetings, is_ready: false, gate }
    }

    /// Sends the greetings that are due.
    fn greet(&mut self, cx: &mut Cx<'_>) {
        if self.is_ready || !self.gate.allows(Phase::Greet) {
            return;
        }
        let now = cx.now();
        for (index, greeting) in self.greetings.iter_mut().enumerate() {
            if greeting.next.is_none_or(|next| now < next) {
                continue;
            }
            greeting.next = Some(now + GREETING_INTERVAL);
            let Some(id) = cx.next_rpc_id() else { continue };
            let pattern = Some(Pattern::new(id.0, Direction::Request));
            let Ok(request) = message(cx, GREETING_BYTES, pattern) else { continue };
            if cx.call(greeting.host, greeting.port, request, index as u64).is_ok() {
                greeting.next = None;
            }
        }
        if self.greetings.iter().all(|greeting| greeting.is_answered) {
            self.is_ready = true;
            self.gate.ready.fetch_add(1, Ordering::Release);
        }
    }

    fn on_greeted(&mut self, now: Nanos, cookie: u64, is_answered: bool) {
        let Some(greeting) = self.greetings.get_mut(cookie as usize) else { return };
        greeting.is_answered |= is_answered;
        greeting.next = (!is_answered).then_some(now + GREETING_INTERVAL);
    }
}

impl App for HostApp {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.server.on_request(cx, request);
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        // The load begins when all greetings were answered: before, there is nothing else.
        match (&mut self.client, &response) {
            (Some(client), _) => client.on_response(cx, response),
            (None, Ok(response)) => self.on_greeted(cx.now(), response.cookie, true),
            (None, Err(failed)) => self.on_greeted(cx.now(), failed.cookie, false),
        }
    }

    #[inline]
    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        self.server.on_poll(cx);
        if let Some(client) = &mut self.client {
            client.on_poll(cx);
            return;
        }
        self.greet(cx);
        if self.is_ready
            && self.gate.allows(Phase::Load)
            && let Some((clock, config, link)) = self.plan.take()
        {
            self.client = Some(ClientApp::new(cx, clock, config, link));
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: u64) {
        // Clients set no timers.
        self.server.on_timer(cx, token);
    }

    fn on_stop(&mut self, cx: &mut Cx<'_>) {
        if let Some(client) = &mut self.client {
            client.on_stop(cx);
        }
    }
}
