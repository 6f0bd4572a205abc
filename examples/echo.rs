//! Echo over Homa: a server that answers every request with the request's own bytes, and a client
//! that sends requests one after another and says how long they took.
//!
//! Two processes on one machine, joined by shared memory. Start the server first:
//!
//! ```text
//! cargo run --release --example echo -- server memif:/tmp/echo.sock,role=server 10.0.0.2
//! cargo run --release --example echo -- client memif:/tmp/echo.sock,role=client 10.0.0.1 10.0.0.2
//! ```
//!
//! On two hosts the device is `pci:ADDRESS` on both; nothing else changes. Every device is described
//! at `homa::dpdk::DeviceSpec`.

use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};

use bytes::BufMut;
use homa::dpdk::allowed_cpus;
use homa::node::{App, CallFailed, Cx, Node, NodeConfig, Request, Response, stop_on_signals};
use homa::time::Nanos;
use homa::wire::HomaPort;

const PORT: HomaPort = HomaPort(4000);

struct EchoServer;

impl App for EchoServer {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.open_server_port(PORT);
    }

    fn on_request(&mut self, cx: &mut Cx<'_>, Request { message, responder }: Request) {
        // Without a free buffer the request is dropped, and its client times out.
        let Ok(mut response) = cx.alloc(message.len()) else { return };
        response.put(message.reader());
        if let Err(refused) = responder.reply(cx, response) {
            eprintln!("no reply: {}", refused.reason);
        }
    }

    fn on_response(&mut self, _: &mut Cx<'_>, _: Result<Response, CallFailed>) {}
}

fn serve(config: &NodeConfig) -> Result<(), Box<dyn Error>> {
    let mut node = Node::start(config)?;
    stop_on_signals(&node.stop_flag())?;
    node.run(|_| EchoServer)?;
    Ok(node.close()?)
}

/// Bytes of each request of the client.
const REQUEST_BYTES: usize = 100;
/// Requests of the client, one after another.
const REQUESTS: usize = 10_000;

/// Sends one request at a time and sends the round trip times to `done` at the end.
struct EchoClient {
    server: IpAddr,
    sent_at: Nanos,
    round_trips: Vec<Nanos>,
    done: Sender<Result<Vec<Nanos>, String>>,
}

impl EchoClient {
    fn send(&mut self, cx: &mut Cx<'_>) {
        self.sent_at = cx.now();
        let sent = cx
            .message(&content(self.round_trips.len()))
            .map_err(|error| error.to_string())
            .and_then(|request| {
                cx.call(self.server, PORT, request, 0).map_err(|refused| refused.reason.to_string())
            });
        if let Err(reason) = sent {
            self.finish(cx, Err(reason));
        }
    }

    fn finish(&self, cx: &mut Cx<'_>, result: Result<Vec<Nanos>, String>) {
        // The receiver lives as long as the node runs.
        let _ = self.done.send(result);
        cx.stop();
    }
}

impl App for EchoClient {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        self.send(cx);
    }

    fn on_request(&mut self, _: &mut Cx<'_>, _: Request) {
        // No port is open for requests.
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        match response {
            Err(failed) => return self.finish(cx, Err(failed.to_string())),
            Ok(response) if response.message.to_vec() != content(self.round_trips.len()) => {
                return self.finish(cx, Err(format!("RPC {}: not an echo", response.id)));
            }
            Ok(_) => self.round_trips.push(cx.now() - self.sent_at),
        }
        if self.round_trips.len() == REQUESTS {
            let round_trips = std::mem::take(&mut self.round_trips);
            self.finish(cx, Ok(round_trips));
        } else {
            self.send(cx);
        }
    }
}

/// The bytes of request `number`: no two neighbours are alike.
fn content(number: usize) -> [u8; REQUEST_BYTES] {
    std::array::from_fn(|at| (number + at) as u8)
}

fn call(config: &NodeConfig, server: IpAddr) -> Result<(), Box<dyn Error>> {
    let mut node = Node::start(config)?;
    stop_on_signals(&node.stop_flag())?;
    let (done, result) = channel();
    let round_trips = Vec::with_capacity(REQUESTS);
    node.run(|_| EchoClient { server, sent_at: Nanos::ZERO, round_trips, done })?;
    node.close()?;
    let mut round_trips = result.try_recv().map_err(|_| "interrupted")??;
    round_trips.sort_unstable();
    println!(
        "{REQUESTS} requests of {REQUEST_BYTES} bytes echoed: median {}, 99th percentile {}",
        round_trips[REQUESTS / 2],
        round_trips[REQUESTS * 99 / 100]
    );
    Ok(())
}

const USAGE: &str = "usage: echo server DEVICE ADDRESS
       echo client DEVICE ADDRESS SERVER-ADDRESS";

/// What the arguments ask for.
enum Role {
    Server(NodeConfig),
    Client(NodeConfig, IpAddr),
}

impl Role {
    /// `None` if there are too few arguments or too many.
    fn parse(arguments: &[&str]) -> Result<Option<Self>, Box<dyn Error>> {
        let cpus = allowed_cpus();
        Ok(Some(match *arguments {
            ["server", device, address] => Self::Server(config(device, address, cpus.last())?),
            ["client", device, address, server] => {
                let config = config(device, address, cpus.first())?;
                let server = server.parse().map_err(|_| bad_address(server))?;
                Self::Client(config, server)
            }
            _ => return Ok(None),
        }))
    }

    fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Server(config) => serve(&config),
            Self::Client(config, server) => call(&config, server),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let role = match Role::parse(&arguments) {
        Ok(Some(role)) => role,
        Ok(None) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match role.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A shard polls all the time, so a server and a client on one machine want a CPU each: the last one
/// and the first one that they may use.
fn config(device: &str, address: &str, cpu: Option<&usize>) -> Result<NodeConfig, Box<dyn Error>> {
    let config = NodeConfig::of_addresses(device.parse()?, vec![address.parse()?]);
    Ok(NodeConfig { cpus: cpu.copied().into_iter().collect(), ..config })
}

fn bad_address(text: &str) -> String {
    format!("'{text}' is not an address such as 10.0.0.1 or fd00::1")
}
