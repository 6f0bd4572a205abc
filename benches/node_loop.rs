//! Cost of RPCs through the whole loop of a shard: one node on a ring port calls itself, so that one
//! core does all four handlings of an RPC and nothing crosses between cores. Prints ns per RPC. For
//! profiles; for instruction counts that repeat use `core`, which does not wait for a clock.

use std::time::Instant;

use homa::dpdk::{DeviceSpec, Hugepages};
use homa::node::{App, CallFailed, Cx, Node, NodeConfig, NodeError, Request, Response};
use homa::wire::HomaPort;

const PORT: HomaPort = HomaPort(99);
const ADDR: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);

/// Client and server in one: calls itself.
struct Both {
    request_bytes: usize,
    window: u64,
    rpcs: u64,
    started: u64,
    done: u64,
    begin: Instant,
}

impl Both {
    fn call(&mut self, cx: &mut Cx<'_>) {
        let Ok(mut request) = cx.alloc(self.request_bytes) else { return };
        request.write_with(|_, _| ());
        if cx.call(ADDR.into(), PORT, request, 0).is_ok() {
            self.started += 1;
        }
    }
}

impl App for Both {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.open_server_port(PORT);
    }

    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        let Request { message, responder } = request;
        drop(message);
        if let Ok(mut response) = cx.alloc(100) {
            response.write_with(|_, _| ());
            let _ = responder.reply(cx, response);
        }
    }

    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        drop(response);
        self.done += 1;
        if self.done == self.rpcs / 10 {
            self.begin = Instant::now();
        }
        if self.done == self.rpcs {
            let measured = self.rpcs - self.rpcs / 10;
            let ns = self.begin.elapsed().as_nanos() as f64 / measured as f64;
            println!("{} B x {}: {ns:.1} ns per RPC", self.request_bytes, self.window);
            cx.stop();
        }
    }

    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        while self.started < self.rpcs && self.started - self.done < self.window {
            let before = self.started;
            self.call(cx);
            if self.started == before {
                break;
            }
        }
    }
}

/// `node_loop [BYTES [WINDOW [RPCS]]]`; DPDK starts once, so one run is one figure.
fn main() -> Result<(), NodeError> {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let request_bytes = numbers.next().unwrap_or(100);
    let window = numbers.next().unwrap_or(1) as u64;
    let rpcs = numbers.next().unwrap_or(1_000_000) as u64;
    let device: DeviceSpec = match "ring".parse() {
        Ok(device) => device,
        Err(error) => return Err(NodeError::Dpdk(error)),
    };
    let mut config = NodeConfig::new(device, ADDR, 24);
    config.net.loopback = true;
    // So that it runs under valgrind too.
    config.hugepages = Hugepages::Never;
    let mut node = Node::start(&config)?;
    let begin = Instant::now();
    node.run(|_| Both { request_bytes, window, rpcs, started: 0, done: 0, begin })?;
    node.close()
}
