//! Watching a run: what recorders and checkers are told.

use crate::transport::RpcError;

/// A message that has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery {
    /// When, in nanoseconds of simulated time.
    pub at_ns: u64,
    /// When the sender's application handed it in.
    pub started_ns: u64,
    /// Sender.
    pub src: u16,
    /// Receiver.
    pub dst: u16,
    /// Message bytes.
    pub size_bytes: u32,
    /// It took so many times as long as alone on the network.
    pub slowdown: f64,
    /// It started in the time that is measured.
    pub measured: bool,
    /// All its bytes are those that were sent (true if [`Contents`](super::Contents) moves none).
    pub intact: bool,
}

/// An exchange that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// When, in nanoseconds of simulated time.
    pub at_ns: u64,
    /// When the client's application handed the request in.
    pub started_ns: u64,
    /// Bytes of the request.
    pub request_bytes: u32,
    /// Bytes of the response; 0 if there is none.
    pub response_bytes: u32,
    /// It started in the time that is measured.
    pub measured: bool,
    /// Whether the bytes that came are those that were sent, or why none came.
    pub result: Result<bool, RpcError>,
}

/// Watches a run. Recorders and checkers implement it; methods not implemented cost nothing.
pub trait Observer {
    /// A request has arrived at the application of the server.
    fn delivered(&mut self, delivery: &Delivery) {
        let _ = delivery;
    }

    /// A host has started an exchange.
    fn started(&mut self, at_ns: u64, measured: bool) {
        let _ = (at_ns, measured);
    }

    /// A host's transport has refused to start one.
    fn refused(&mut self, at_ns: u64, measured: bool) {
        let _ = (at_ns, measured);
    }

    /// An exchange is over: the response has come or the call has failed; a one-way message has arrived.
    fn over(&mut self, exchange: &Exchanged) {
        let _ = exchange;
    }

    /// A call ended: with a response (and whether its bytes are those that were sent) or an error.
    fn ended(&mut self, at_ns: u64, result: Result<bool, RpcError>) {
        let _ = (at_ns, result);
    }
}

impl Observer for () {}

/// Both watch.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn delivered(&mut self, delivery: &Delivery) {
        self.0.delivered(delivery);
        self.1.delivered(delivery);
    }

    fn started(&mut self, at_ns: u64, measured: bool) {
        self.0.started(at_ns, measured);
        self.1.started(at_ns, measured);
    }

    fn refused(&mut self, at_ns: u64, measured: bool) {
        self.0.refused(at_ns, measured);
        self.1.refused(at_ns, measured);
    }

    fn over(&mut self, exchange: &Exchanged) {
        self.0.over(exchange);
        self.1.over(exchange);
    }

    fn ended(&mut self, at_ns: u64, result: Result<bool, RpcError>) {
        self.0.ended(at_ns, result);
        self.1.ended(at_ns, result);
    }
}

/// Watches if it is there.
impl<O: Observer> Observer for Option<O> {
    fn delivered(&mut self, delivery: &Delivery) {
        self.iter_mut().for_each(|observer| observer.delivered(delivery));
    }

    fn started(&mut self, at_ns: u64, measured: bool) {
        self.iter_mut().for_each(|observer| observer.started(at_ns, measured));
    }

    fn refused(&mut self, at_ns: u64, measured: bool) {
        self.iter_mut().for_each(|observer| observer.refused(at_ns, measured));
    }

    fn over(&mut self, exchange: &Exchanged) {
        self.iter_mut().for_each(|observer| observer.over(exchange));
    }

    fn ended(&mut self, at_ns: u64, result: Result<bool, RpcError>) {
        self.iter_mut().for_each(|observer| observer.ended(at_ns, result));
    }
}
