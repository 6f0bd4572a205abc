//! ICMP errors that anybody can make up, at a whole node: only those about packets that it can have sent
//! end its calls (protocol.md section 15).
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use homa::dpdk::Mempool;
use homa::net::HOMA_PROTOCOL;
use homa::node::{App, CallFailed, Cx, Request, Response};
use homa::transport::RpcError;
use homa::wire::HomaPort;

use support::wire::{self, HEADERS_BYTES, PATIENCE, PEER, StopAtEnd, Wire};

const ICMP: u8 = 1;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
/// What routers quote at least: the IP header and 8 bytes.
const SHORT_BYTES: usize = 28;

/// Makes one call, and says how it failed.
struct Caller(Sender<RpcError>);

impl App for Caller {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        let message = cx.message(&[7; 100]).expect("a buffer");
        cx.call(PEER.into(), HomaPort(4000), message, 1).expect("a call");
    }

    fn on_request(&mut self, _: &mut Cx<'_>, _: Request) {}

    fn on_response(&mut self, _: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        let Err(failed) = response else { panic!("nobody answers") };
        self.0.send(failed.error).expect("the test waits");
    }
}

fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(rest);
    let sum = wire::checksum(&message);
    message[2..4].copy_from_slice(&sum);
    wire::frame(ICMP, &message)
}

/// The IP packet of `frame`, the first `bytes` of it, with `byte` at `at` changed.
fn forged(frame: &[u8], bytes: usize, at: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] ^= 1;
    frame[14..][..bytes].to_vec()
}

/// Waits until the node has dealt with all that was sent: it answers a ping behind it.
fn settle(wire: &mut Wire) {
    wire.send(&icmp(ECHO_REQUEST, 0, b"are you through?"));
    wire.receive(ICMP);
}

fn forge_and_tell(wire: &mut Wire, failures: &Receiver<RpcError>) {
    let request = wire.receive(HOMA_PROTOCOL).remove(0);
    let whole = request.len() - 14;
    let (our_port, peer_port, id) = (HEADERS_BYTES + 1, HEADERS_BYTES + 3, HEADERS_BYTES + 26);
    // Network, host, protocol, port, prohibited.
    for code in [0, 1, 2, 3, 13] {
        for (bytes, at) in
            [(SHORT_BYTES, our_port), (SHORT_BYTES, peer_port), (whole, our_port), (whole, id)]
        {
            wire.send(&icmp(UNREACHABLE, code, &forged(&request, bytes, at)));
        }
    }
    settle(wire);
    assert!(failures.try_recv().is_err(), "an error about a packet that was never sent");
    wire.send(&icmp(UNREACHABLE, 1, &request[14..][..SHORT_BYTES]));
    let failed = failures.recv_timeout(PATIENCE).expect("an error about a packet of the call");
    assert_eq!(failed, RpcError::HostUnreachable);
}

#[test]
fn only_errors_about_packets_of_a_call_end_it() {
    let eal = wire::start_eal();
    let mut node = wire::start_node(&eal);
    let pool = Mempool::builder().mbufs(4_095).build(&eal).expect("a pool");
    let mut wire = Wire::open(&eal, &pool);
    let stop = StopAtEnd(node.stop_flag());
    let (sender, failures) = channel();
    let report = thread::scope(|scope| {
        let running = scope.spawn(|| node.run(|_| Caller(sender.clone())));
        let stop = stop;
        forge_and_tell(&mut wire, &failures);
        drop(stop);
        running.join().expect("the node's thread")
    });
    report.expect("the node ends well");
    wire.close();
    node.close().expect("every packet buffer is back");
    drop(pool);
    eal.shutdown().expect("nothing is left");
}
