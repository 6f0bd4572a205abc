//! Clients and servers in one process, over loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::dpdk::allowed_cpus;
use crate::load::apps::ResponseKind;
use crate::load::arrival::{Arrival, Load};
use crate::load::classes::SizeClasses;
use crate::load::generator::{End, GeneratorConfig};
use crate::load::recorder::RecorderConfig;
use crate::load::response::ServiceTime;
use crate::load::slowdown::BestCase;
use crate::load::workload::Workload;

const EVERYTHING: [(KernelTransport, Poll); 4] = [
    (KernelTransport::Tcp, Poll::Spin),
    (KernelTransport::Tcp, Poll::Epoll),
    (KernelTransport::Udp, Poll::Spin),
    (KernelTransport::Udp, Poll::Epoll),
];

/// Other tests use the cores as well: a loop that finds nothing to do makes room.
fn socket(transport: KernelTransport, poll: Poll) -> SocketConfig {
    let timeout = Nanos::from_secs(20);
    SocketConfig { transport, poll, idle: IdlePolicy::Yield, mtu: 1500, timeout }
}

fn client(
    socket: SocketConfig,
    server: SocketAddr,
    workload: &str,
    outstanding: u32,
    rpcs: u64,
) -> KernelClientConfig {
    let workload: Workload = workload.parse().unwrap();
    let workload = Arc::new(workload.cut_at(1_000_000).unwrap());
    let classes = SizeClasses::deciles(&workload);
    let recorder =
        RecorderConfig::new(classes, BestCase::LeastSeen, Nanos::ZERO, Nanos::from_secs(1));
    KernelClientConfig {
        socket,
        generator: GeneratorConfig {
            workload,
            load: Load::Closed { outstanding },
            start: Nanos::ZERO,
            warm_up: Nanos::ZERO,
            end: End::Rpcs(rpcs),
            drain: Nanos::from_secs(20),
            destinations: 1,
        },
        recorder,
        servers: vec![server],
        source: None,
        connections: 3,
        response: ResponseKind::Echo,
        verify: true,
        seed: 1,
    }
}

fn serve(
    socket: SocketConfig,
    threads: usize,
    ask: impl FnOnce(SocketAddr) -> Result<KernelResult, String>,
) -> (Result<KernelResult, String>, Served) {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    // Without CPUs there is one thread; several share one.
    let cpus = if threads == 1 { vec![] } else { vec![allowed_cpus()[0]; threads] };
    let config =
        KernelServerConfig { socket, listen, cpus, verify: true, service_time: ServiceTime::None };
    let server = KernelServer::bind(&config).unwrap();
    let (address, stop) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(&stop).map_err(|error| error.to_string()));
        let result = ask(address);
        stop.store(true, Ordering::Relaxed);
        (result, serving.join().unwrap().unwrap())
    })
}

fn run(config: &KernelClientConfig, threads: usize) -> Result<KernelResult, String> {
    let cpus = if threads == 1 { vec![] } else { vec![allowed_cpus()[0]; threads] };
    run_clients(config, &cpus, &AtomicBool::new(false), |_| ())
}

fn expect_clean(result: &KernelResult, served: &Served, rpcs: u64) {
    let totals = &result.result.totals;
    assert_eq!(result.broken, None);
    assert_eq!((totals.sent, totals.completed), (rpcs, rpcs), "{totals:?}");
    assert_eq!((totals.corrupted, totals.lost, totals.stale), (0, 0, 0), "{totals:?}");
    assert_eq!(totals.failures(), 0, "{totals:?}");
    assert_eq!((served.counts.requests, served.counts.corrupted), (rpcs, 0), "{served:?}");
    assert_eq!(served.counts.request_bytes, totals.traffic.request_bytes);
    assert_eq!(served.counts.response_bytes, totals.traffic.response_bytes);
    assert_eq!(result.result.recorder.latency().len(), rpcs);
}

#[test]
fn every_byte_arrives_whatever_the_transport_and_the_loop() {
    for (transport, poll) in EVERYTHING {
        for (workload, outstanding, rpcs) in [("w2", 16, 2_000), ("w4", 4, 150), ("1MB", 1, 5)] {
            let socket = socket(transport, poll);
            let (result, served) = serve(socket, 1, |address| {
                run(&client(socket, address, workload, outstanding, rpcs), 1)
            });
            println!("{transport}, {poll}, {workload}: {:?}", served.counters);
            expect_clean(&result.unwrap(), &served, rpcs);
        }
    }
}

#[test]
fn threads_share_the_load() {
    for transport in [KernelTransport::Tcp, KernelTransport::Udp] {
        let socket = socket(transport, Poll::Epoll);
        let (result, served) =
            serve(socket, 2, |address| run(&client(socket, address, "w1", 10, 1_001), 2));
        let result = result.unwrap();
        expect_clean(&result, &served, 1_001);
        let windows = result.result.recorder.windows();
        assert!(windows.iter().any(|window| window.outstanding == 10), "{windows:?}");
    }
}

#[test]
fn an_open_loop_sleeps_until_its_next_request_is_due() {
    let socket = socket(KernelTransport::Tcp, Poll::Epoll);
    let (result, served) = serve(socket, 1, |address| {
        let mut config = client(socket, address, "100", 1, 50);
        config.generator.load = Load::Open {
            rate: "1k".parse().unwrap(),
            arrival: Arrival::Poisson,
            outstanding_max: 1_000,
        };
        run(&config, 1)
    });
    expect_clean(&result.unwrap(), &served, 50);
}

#[test]
fn short_responses_and_ipv6() {
    let socket = socket(KernelTransport::Udp, Poll::Epoll);
    let (result, served) = serve(socket, 1, |address| {
        let mut config = client(socket, address, "20KB", 2, 20);
        config.response = ResponseKind::Short;
        config.source = Some(Ipv4Addr::new(127, 0, 0, 9).into());
        run(&config, 1)
    });
    expect_clean(&result.unwrap(), &served, 20);
    assert_eq!(served.counts.response_bytes, 2_000);
    // A machine without IPv6 has no such address.
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    for transport in [KernelTransport::Tcp, KernelTransport::Udp] {
        let socket = self::socket(transport, Poll::Spin);
        let listen = (Ipv6Addr::LOCALHOST, 0).into();
        let config = KernelServerConfig {
            socket,
            listen,
            cpus: vec![],
            verify: true,
            service_time: ServiceTime::None,
        };
        let server = KernelServer::bind(&config).unwrap();
        let (address, stop) = (server.address(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| server.serve(&stop).map(|_| ()).map_err(|error| error.to_string()));
            let result = run(&client(socket, address, "w3", 2, 50), 1);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(result.unwrap().result.totals.completed, 50);
        });
    }
}

#[test]
fn a_server_that_leaves_ends_the_run_and_is_named() {
    let socket = socket(KernelTransport::Tcp, Poll::Epoll);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = client(socket, address, "100", 4, 1_000_000);
    config.connections = 1;
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
        });
        run(&config, 1).unwrap()
    });
    let why = result.broken.unwrap();
    assert!(why.contains(&address.to_string()) && why.contains("did it stop?"), "{why}");
    let totals = result.result.totals;
    assert_eq!((totals.sent, totals.completed, totals.failures()), (4, 0, 4), "{totals:?}");
}

#[test]
fn nobody_there_is_said_at_once() {
    // A port that was free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let tcp = socket(KernelTransport::Tcp, Poll::Spin);
    let why = run(&client(tcp, address, "100", 4, 10), 1).unwrap_err();
    assert!(why.contains("start the server first"), "{why}");
    let udp = socket(KernelTransport::Udp, Poll::Spin);
    let result = run(&client(udp, address, "100", 4, 10), 1).unwrap();
    assert!(result.broken.unwrap().contains("nobody listens there"));
}

#[test]
fn a_lost_datagram_costs_its_rpc_and_no_other() {
    let socket =
        SocketConfig { timeout: Nanos::from_ms(300), ..socket(KernelTransport::Udp, Poll::Epoll) };
    // A server that swallows every tenth request and answers the others by hand.
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let mut datagram = [0; 200];
            for request in 0..40 {
                let (bytes, peer) = server.recv_from(&mut datagram).unwrap();
                let (header, _) = datagram::Header::parse(&datagram[..bytes]).unwrap();
                let mut answer = [0; 200];
                datagram::Header { kind: datagram::Kind::Response, ..header }.write(&mut answer);
                let pattern = crate::load::payload::Pattern::new(
                    header.id,
                    crate::load::payload::Direction::Response,
                );
                pattern.fill(0, &mut answer[datagram::HEADER_BYTES..bytes]);
                if request % 10 != 3 {
                    server.send_to(&answer[..bytes], peer).unwrap();
                }
            }
        });
        run(&client(socket, address, "100", 1, 40), 1).unwrap()
    });
    assert_eq!(result.broken, None);
    let totals = result.result.totals;
    assert_eq!((totals.completed, totals.failed[0]), (36, 4), "{totals:?}");
    assert_eq!((totals.lost, totals.stale), (0, 0), "{totals:?}");
}

#[test]
fn who_speaks_something_else_is_shown_the_door_and_others_are_served() {
    let socket = socket(KernelTransport::Tcp, Poll::Epoll);
    let (result, served) = serve(socket, 1, |address| {
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        // Closed without an answer; a reset says as much.
        assert_eq!(stranger.read(&mut [0; 10]).unwrap_or(0), 0);
        run(&client(socket, address, "w1", 4, 100), 1)
    });
    expect_clean(&result.unwrap(), &served, 100);
    assert_eq!((served.counters.tcp_not_ours, served.counters.tcp_connections), (1, 4));
}
