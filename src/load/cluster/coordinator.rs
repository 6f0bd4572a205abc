//! The side that starts, stops and collects.

use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{
    Alive, Assignment, FromAgent, FromCoordinator, Hello, Host, HostResult, LinkError, LoadFile,
    MESSAGE_BYTES_MAX, MessageReader, PROTOCOL, write_message,
};

/// How soon a signal to stop is noticed.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Signs of life are sent this often.
pub(super) const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that has not introduced itself after this time is closed.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// An agent that does not take a message for this long is taken for gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long agents may take to stop their nodes and to say what came out.
const RESULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections without a place in the cluster that are heard at a time.
const STRANGERS_MAX: usize = 64;

/// What a cluster is to do.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// How many agents there must be.
    pub agents: usize,
    /// The names of the hosts by rank, when they are known beforehand; empty when any will do.
    pub names: Vec<String>,
    /// Who sends to whom: a pattern by its name.
    pub pattern: String,
    /// The load, as options of the command line of `homa-load client`.
    pub flags: Vec<String>,
    /// The files that further options of the load name.
    pub files: Vec<LoadFile>,
    /// How long to wait for the agents.
    pub register_timeout: Duration,
    /// How long the nodes may take to start, and then to find each other.
    pub setup_timeout: Duration,
    /// Silence after which an agent is taken for gone.
    pub silence: Duration,
}

/// What happens, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A line.
    Said(String),
    /// The load so far; once a second.
    Progress {
        /// Time since the start.
        elapsed: Duration,
        /// The sum over all hosts.
        sum: Alive,
    },
}

/// Why no load was run.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClusterError {
    /// Agents did not come.
    Missing {
        /// How many were wanted.
        wanted: usize,
        /// The names of those that came.
        came: Vec<String>,
        /// The names of those that did not, where names were given.
        missing: Vec<String>,
    },
    /// A host failed before the load began.
    Host {
        /// Its name.
        name: String,
        /// What happened.
        reason: String,
    },
    /// Told to stop before the load began.
    Interrupted,
    /// The control address cannot be used.
    Io(io::Error),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { wanted, came, missing } => {
                write!(f, "{} of {wanted} agents came", came.len())?;
                if !missing.is_empty() {
                    write!(f, "; missing: {}", missing.join(", "))?;
                } else if !came.is_empty() {
                    write!(f, " ({})", came.join(", "))?;
                }
                f.write_str(
                    ": start the others (homa-load agent), and see that they reach this address",
                )
            }
            Self::Host { name, reason } => {
                write!(f, "host {name}: {reason}; the load was not started")
            }
            Self::Interrupted => f.write_str("interrupted before the load began"),
            Self::Io(error) => write!(f, "the control address: {error}"),
        }
    }
}

impl std::error::Error for ClusterError {}

impl From<io::Error> for ClusterError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What became of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostOutcome {
    /// Who it is.
    pub host: Host,
    /// Why it is missing from the result.
    pub lost: Option<String>,
    /// It ended before the coordinator said so.
    pub is_early: bool,
    /// What it gave.
    pub result: Option<HostResult>,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// All hosts by rank.
    pub hosts: Vec<HostOutcome>,
    /// The coordinator was told to stop before the end.
    pub is_interrupted: bool,
}

/// How far an agent is; each state comes after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Registered,
    Up,
    Ready,
    Finished,
    Done,
}

#[derive(Debug)]
struct Agent {
    connection: usize,
    hello: Hello,
    stream: TcpStream,
    state: State,
    alive: Alive,
    lost: Option<String>,
    is_early: bool,
    result: Option<HostResult>,
}

impl Agent {
    fn send(&self, message: &FromCoordinator) -> Result<(), LinkError> {
        write_message(&self.stream, message)
    }

    /// Whether more is to be heard of it.
    fn is_present(&self) -> bool {
        self.lost.is_none() && self.state != State::Done
    }
}

/// What the threads that listen have to say.
#[derive(Debug)]
enum Event {
    Hello(Box<Hello>, TcpStream),
    Message(FromAgent),
    Lost(LinkError),
}

/// Waits for agents, and leads them through one run.
#[derive(Debug)]
pub struct Coordinator {
    listener: TcpListener,
    config: ClusterConfig,
}

impl Coordinator {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(address: SocketAddr, config: ClusterConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, config })
    }

    /// Where agents find it.
    ///
    /// # Errors
    /// As [`TcpListener::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs the load once, from the registration of the agents to their end. When `stop` is set, all
    /// agents end in order and what they have measured is the outcome.
    ///
    /// # Errors
    /// When the load was not started; the agents were told to end then.
    pub fn run(
        self,
        stop: &AtomicBool,
        notes: &mut dyn FnMut(Note),
    ) -> Result<Outcome, ClusterError> {
        let Self { listener, config } = self;
        let (sender, events) = channel();
        let is_closing = AtomicBool::new(false);
        let silence = config.silence;
        thread::scope(|scope| {
            let closing = &is_closing;
            scope.spawn(move || accept(&listener, silence, closing, &sender));
            let now = Instant::now();
            let mut session = Session {
                config,
                agents: Vec::new(),
                events,
                stop,
                notes,
                next_alive: now,
                started: None,
            };
            let outcome = session.run();
            is_closing.store(true, Ordering::Relaxed);
            outcome
        })
    }
}

/// Takes connections until `is_closing`, each with a thread that listens to it. Threads end with their
/// connections.
fn accept(
    listener: &TcpListener,
    silence: Duration,
    is_closing: &AtomicBool,
    events: &Sender<(usize, Event)>,
) {
    let strangers = Arc::new(AtomicUsize::new(0));
    let mut connection = 0;
    while !is_closing.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(STOP_CHECK_INTERVAL / 2);
            continue;
        };
        if strangers.load(Ordering::Relaxed) >= STRANGERS_MAX {
            continue;
        }
        connection += 1;
        strangers.fetch_add(1, Ordering::Relaxed);
        let (events, strangers) = (events.clone(), Arc::clone(&strangers));
        thread::spawn(move || listen(connection, &stream, silence, &strangers, &events));
    }
}

/// Hands on what comes over one connection, until it fails.
fn listen(
    connection: usize,
    stream: &TcpStream,
    silence: Duration,
    strangers: &AtomicUsize,
    events: &Sender<(usize, Event)>,
) {
    let mut reader = MessageReader::new(stream);
    let hello = introduce(stream, &mut reader, silence);
    strangers.fetch_sub(1, Ordering::Relaxed);
    let (hello, writer) = match hello {
        Ok(hello) => hello,
        Err(error) => {
            log::warn!("{}: {error}", peer(stream));
            refuse(stream, &error.to_string());
            return;
        }
    };
    let mut event = Event::Hello(Box::new(hello), writer);
    loop {
        let is_last = matches!(event, Event::Lost(_));
        if events.send((connection, event)).is_err() || is_last {
            return;
        }
        event = reader.read().map_or_else(Event::Lost, Event::Message);
    }
}

/// Hears the first message of an agent.
fn introduce(
    stream: &TcpStream,
    reader: &mut MessageReader<&TcpStream>,
    silence: Duration,
) -> Result<(Hello, TcpStream), LinkError> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
    let hello = reader.read_hello()?;
    reader.allow(MESSAGE_BYTES_MAX);
    stream.set_read_timeout(Some(silence))?;
    Ok((hello, stream.try_clone()?))
}

/// The last message to an agent that is not wanted.
fn refuse(stream: &TcpStream, reason: &str) {
    let _ = write_message(stream, &FromCoordinator::Refused { reason: reason.to_owned() });
    let _ = stream.shutdown(Shutdown::Write);
}

fn peer(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "a connection".to_owned(), |peer| peer.to_string())
}

/// Why waiting ended early.
enum Broken {
    /// The coordinator was told to stop.
    Stopped,
    /// The time is up.
    Late,
    /// The agent of this index is gone.
    Lost(usize),
}

struct Session<'a> {
    config: ClusterConfig,
    /// In the order in which they came; by rank once the cluster is complete.
    agents: Vec<Agent>,
    events: Receiver<(usize, Event)>,
    stop: &'a AtomicBool,
    notes: &'a mut dyn FnMut(Note),
    next_alive: Instant,
    /// When the load began.
    started: Option<Instant>,
}

impl Session<'_> {
    fn run(&mut self) -> Result<Outcome, ClusterError> {
        if let Err(error) = self.set_up() {
            self.dismiss(&error.to_string());
            return Err(error);
        }
        self.say("all hosts are ready; the load begins".to_owned());
        self.started = Some(Instant::now());
        self.tell_all(&FromCoordinator::Start);
        let is_interrupted =
            matches!(self.wait(State::Finished, None, false), Err(Broken::Stopped));
        let said = if is_interrupted { "interrupted" } else { "the load is over" };
        self.started = None;
        self.say(format!("{said}; collecting results"));
        self.tell_all(&FromCoordinator::Stop);
        self.collect();
        let hosts = self.agents.drain(..).map(|agent| HostOutcome {
            host: host(&agent.hello),
            lost: agent.lost,
            is_early: agent.is_early,
            result: agent.result,
        });
        Ok(Outcome { hosts: hosts.collect(), is_interrupted })
    }

    /// Everything up to the start.
    fn set_up(&mut self) -> Result<(), ClusterError> {
        self.register()?;
        self.assign();
        self.all_reach(State::Up, "its node did not start in time")?;
        self.say("all nodes are up; looking for the ways between them".to_owned());
        self.tell_all(&FromCoordinator::Greet);
        self.all_reach(State::Ready, "it did not get an answer from all it will send to")
    }

    /// Waits until there are enough agents.
    fn register(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + self.config.register_timeout;
        while self.agents.len() < self.config.agents {
            match self.next_event(Some(deadline)) {
                Ok((connection, Event::Hello(hello, stream))) => {
                    self.admit(connection, *hello, stream);
                }
                Ok((connection, event)) => {
                    let Some(index) = self.index_of(connection) else { continue };
                    let reason = match event {
                        Event::Lost(error) => error.to_string(),
                        Event::Message(FromAgent::Failed { reason }) => reason,
                        Event::Message(_) | Event::Hello(..) => continue,
                    };
                    // It may come back.
                    let agent = self.agents.remove(index);
                    self.say(format!("{} has left: {reason}", agent.hello.name));
                }
                Err(Broken::Stopped) => return Err(ClusterError::Interrupted),
                Err(_) => return Err(self.missing()),
            }
        }
        Ok(())
    }

    fn missing(&self) -> ClusterError {
        let came: Vec<String> = self.agents.iter().map(|agent| agent.hello.name.clone()).collect();
        let is_missing = |name: &&String| !came.contains(name);
        let missing = self.config.names.iter().filter(is_missing).cloned().collect();
        ClusterError::Missing { wanted: self.config.agents, came, missing }
    }

    /// Takes an agent in, or says why not.
    fn admit(&mut self, connection: usize, hello: Hello, stream: TcpStream) {
        let name = hello.name.clone();
        if let Some(reason) = self.objection(&hello) {
            log::warn!("{name} was refused: {reason}");
            refuse(&stream, &reason);
            return;
        }
        let address = hello.address;
        self.agents.push(Agent {
            connection,
            hello,
            stream,
            state: State::Registered,
            alive: Alive::default(),
            lost: None,
            is_early: false,
            result: None,
        });
        let (have, wanted) = (self.agents.len(), self.config.agents);
        self.say(format!("{name} ({address}) is here: {have} of {wanted}"));
    }

    /// Why this agent cannot be taken in.
    fn objection(&self, hello: &Hello) -> Option<String> {
        let Hello { name, rank, address, .. } = hello;
        let taken = |is_same: &dyn Fn(&Hello) -> bool| {
            self.agents.iter().find(|agent| is_same(&agent.hello)).map(|agent| &agent.hello.name)
        };
        if self.agents.len() >= self.config.agents {
            return Some(format!("the cluster is complete with {} hosts", self.agents.len()));
        }
        if !self.config.names.is_empty() && !self.config.names.contains(name) {
            return Some(format!(
                "the inventory has no host \"{name}\", but {}",
                self.config.names.join(", ")
            ));
        }
        if taken(&|other| other.name == *name).is_some() {
            return Some(format!(
                "there is a host named \"{name}\" already: give each its own --name"
            ));
        }
        if let Some(other) = taken(&|other| other.address == *address) {
            return Some(format!("{other} has the address {address} already"));
        }
        let rank = (*rank)?;
        if rank as usize >= self.config.agents {
            return Some(format!(
                "rank {rank} is too large for {} hosts: ranks begin at 0",
                self.config.agents
            ));
        }
        taken(&|other| other.rank == Some(rank))
            .map(|other| format!("{other} has the rank {rank} already"))
    }

    /// Brings the agents into the order of their ranks and tells them what to do.
    fn assign(&mut self) {
        let agents = std::mem::take(&mut self.agents);
        self.agents = by_rank(agents, &self.config.names, |agent| {
            (agent.hello.name.clone(), agent.hello.rank)
        });
        let hosts: Vec<Host> = self.agents.iter().map(|agent| host(&agent.hello)).collect();
        for rank in 0..self.agents.len() {
            let assignment = Assignment {
                rank: rank as u32,
                hosts: hosts.clone(),
                pattern: self.config.pattern.clone(),
                flags: self.config.flags.clone(),
                files: self.config.files.clone(),
                silence_ms: self.config.silence.as_millis() as u64,
            };
            self.tell(rank, &FromCoordinator::Assign(assignment));
        }
    }

    /// Waits until all agents are in `state`; `late` is what is wrong with one that is not in time.
    fn all_reach(&mut self, state: State, late: &str) -> Result<(), ClusterError> {
        let deadline = Instant::now() + self.config.setup_timeout;
        let error = |agent: &Agent, reason: &str| ClusterError::Host {
            name: agent.hello.name.clone(),
            reason: reason.to_owned(),
        };
        match self.wait(state, Some(deadline), true) {
            Ok(()) => Ok(()),
            Err(Broken::Stopped) => Err(ClusterError::Interrupted),
            Err(Broken::Lost(index)) => {
                let agent = &self.agents[index];
                Err(error(agent, agent.lost.as_deref().unwrap_or("it has ended")))
            }
            Err(Broken::Late) => {
                let is_late = |agent: &&Agent| agent.state < state;
                let agent = self.agents.iter().find(is_late).unwrap_or(&self.agents[0]);
                Err(error(agent, late))
            }
        }
    }

    /// Waits until all agents that are left are in `state` or beyond. With `needs_all` the first that is
    /// lost ends it.
    fn wait(
        &mut self,
        state: State,
        deadline: Option<Instant>,
        needs_all: bool,
    ) -> Result<(), Broken> {
        loop {
            let gone = |agent: &Agent| agent.lost.is_some() || agent.state == State::Done;
            if needs_all && let Some(index) = self.agents.iter().position(gone) {
                return Err(Broken::Lost(index));
            }
            if self.agents.iter().all(|agent| agent.lost.is_some() || agent.state >= state) {
                return Ok(());
            }
            let (connection, event) = self.next_event(deadline)?;
            self.hear(connection, event);
        }
    }

    /// Waits for the results of all agents that are left.
    fn collect(&mut self) {
        let deadline = Instant::now() + RESULT_TIMEOUT;
        while self.agents.iter().any(Agent::is_present) && Instant::now() < deadline {
            // A second signal ends the program at once; the first is why we are here, perhaps.
            match self.next_event_whatever(Some(deadline)) {
                Some((connection, event)) => self.hear(connection, event),
                None => continue,
            }
        }
        for index in 0..self.agents.len() {
            if self.agents[index].is_present() {
                self.lose(index, format!("no result within {} s", RESULT_TIMEOUT.as_secs()));
            }
        }
    }

    /// What an agent says after its registration.
    fn hear(&mut self, connection: usize, event: Event) {
        let index = self.index_of(connection);
        let (index, event) = match (index, event) {
            (None, Event::Hello(hello, stream)) => return self.admit(connection, *hello, stream),
            (None, _) => return,
            (Some(index), event) => (index, event),
        };
        let state = self.agents[index].state;
        let next = match event {
            Event::Message(FromAgent::Alive(alive)) => {
                self.agents[index].alive = alive;
                return;
            }
            Event::Message(FromAgent::Up) if state == State::Registered => State::Up,
            Event::Message(FromAgent::Ready) if state == State::Up => State::Ready,
            Event::Message(FromAgent::Finished) if state == State::Ready => State::Finished,
            Event::Message(FromAgent::Result(result)) => {
                let agent = &mut self.agents[index];
                agent.is_early = self.started.is_some();
                agent.result = Some(*result);
                // It waits for this.
                let _ = agent.stream.shutdown(Shutdown::Write);
                if agent.is_early {
                    let name = agent.hello.name.clone();
                    self.say(format!("{name} has ended early; the others go on"));
                }
                State::Done
            }
            Event::Message(FromAgent::Failed { reason }) => return self.lose(index, reason),
            Event::Lost(error) => {
                let silence = self.config.silence.as_secs_f64();
                let reason = match error {
                    LinkError::Silent => format!("nothing heard for {silence} s"),
                    error => error.to_string(),
                };
                return self.lose(index, reason);
            }
            Event::Message(_) | Event::Hello(..) => {
                return self.lose(index, "it said something out of turn".to_owned());
            }
        };
        self.agents[index].state = next;
    }

    fn lose(&mut self, index: usize, reason: String) {
        let agent = &mut self.agents[index];
        if !agent.is_present() {
            return;
        }
        let text = format!("{} is lost: {reason}", agent.hello.name);
        let _ = agent.stream.shutdown(Shutdown::Both);
        agent.lost = Some(reason);
        let text = if self.started.is_some() { text + "; the others go on" } else { text };
        self.say(text);
    }

    fn index_of(&self, connection: usize) -> Option<usize> {
        self.agents.iter().position(|agent| agent.connection == connection)
    }

    fn tell(&mut self, index: usize, message: &FromCoordinator) {
        if self.agents[index].is_present()
            && let Err(error) = self.agents[index].send(message)
        {
            self.lose(index, error.to_string());
        }
    }

    fn tell_all(&mut self, message: &FromCoordinator) {
        for index in 0..self.agents.len() {
            self.tell(index, message);
        }
    }

    /// Sends all agents home before the load has begun.
    fn dismiss(&mut self, reason: &str) {
        for agent in self.agents.iter().filter(|agent| agent.is_present()) {
            refuse(&agent.stream, reason);
        }
    }

    fn say(&mut self, text: String) {
        (self.notes)(Note::Said(text));
    }

    /// The next event; gives signs of life while it waits.
    fn next_event(&mut self, deadline: Option<Instant>) -> Result<(usize, Event), Broken> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Broken::Stopped);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Broken::Late);
            }
            if let Some(event) = self.next_event_whatever(deadline) {
                return Ok(event);
            }
        }
    }

    /// One event, or `None` after a moment.
    fn next_event_whatever(&mut self, deadline: Option<Instant>) -> Option<(usize, Event)> {
        let now = Instant::now();
        if now >= self.next_alive {
            self.next_alive = now + ALIVE_INTERVAL;
            self.tell_all(&FromCoordinator::Alive);
            self.show_progress();
        }
        let left = deadline.map_or(STOP_CHECK_INTERVAL, |at| at.saturating_duration_since(now));
        self.events.recv_timeout(left.min(STOP_CHECK_INTERVAL)).ok()
    }

    fn show_progress(&mut self) {
        let Some(started) = self.started else { return };
        let mut sum = Alive::default();
        for agent in &self.agents {
            sum.completed += agent.alive.completed;
            sum.bytes += agent.alive.bytes;
            sum.outstanding += agent.alive.outstanding;
        }
        (self.notes)(Note::Progress { elapsed: started.elapsed(), sum });
    }
}

fn host(hello: &Hello) -> Host {
    Host { name: hello.name.clone(), address: hello.address, port: hello.port }
}

/// Sorts hosts by rank: by `names` where there are some; else each that wants a rank gets it, and the
/// others get those left in the order of their names.
fn by_rank<T>(
    hosts: Vec<T>,
    names: &[String],
    name_and_rank: impl Fn(&T) -> (String, Option<u32>),
) -> Vec<T> {
    let mut hosts = hosts;
    if !names.is_empty() {
        let place = |host: &T| names.iter().position(|name| *name == name_and_rank(host).0);
        hosts.sort_by_key(place);
        return hosts;
    }
    hosts.sort_by_cached_key(|host| name_and_rank(host).0);
    let (ranked, others): (Vec<T>, Vec<T>) =
        hosts.into_iter().partition(|host| name_and_rank(host).1.is_some());
    let mut places: Vec<Option<T>> = Vec::new();
    places.resize_with(ranked.len() + others.len(), || None);
    for host in ranked {
        // Ranks are below the number of hosts and differ: both was checked.
        let rank = name_and_rank(&host).1.unwrap_or(0) as usize;
        places[rank] = Some(host);
    }
    let mut others = others.into_iter();
    places.into_iter().filter_map(|place| place.or_else(|| others.next())).collect()
}

/// The introduction of a host to a coordinator of this version.
pub fn hello(name: &str, rank: Option<u32>, address: IpAddr, port: u16) -> Hello {
    Hello {
        protocol: PROTOCOL.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: name.to_owned(),
        rank,
        address,
        port,
    }
}

#[cfg(test)]
mod tests;
