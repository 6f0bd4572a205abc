//! Complete requests that a shard hands to the applications on others, and the answers that come back.
//!
//! The protocol stays where it is: a request has its RPC on the shard that owns it, and the answer is
//! sent from there. What crosses are whole messages, with the packet buffers they lie in.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_utils::CachePadded;

use crate::addr::HostAddr;
use crate::transport::{LooseMessage, RpcHandle};
use crate::wire::{HomaPort, RpcId};

use super::outgoing::SendOutgoing;
use super::payload::SendPacketBytes;
use super::ring::{Consumer, Producer, ring};

/// Requests taken from each other shard per turn.
const BURST: usize = 8;

/// Lets shards hand complete requests to the applications on others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOff {
    /// When.
    pub when: HandOffWhen,
    /// Requests of one shard that may be with another one, 1 to 4096: waiting there, or not yet answered.
    /// Those beyond stay where they are.
    pub requests_max: u16,
}

/// When requests are handed to other shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOffWhen {
    /// While packets wait for this shard, and not for the other.
    Busy,
    /// In turns with those that stay, whether there is need or not.
    Always,
}

impl HandOff {
    /// As much waits for a shard as some of its turns take in.
    pub const REQUESTS_MAX: u16 = 64;
}

impl FromStr for HandOffWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "busy" => Ok(Self::Busy),
            "always" => Ok(Self::Always),
            _ => Err(format!("{text:?} is neither busy nor always")),
        }
    }
}

/// Whose request it is that the application has, if not of its own shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// The shard that has the RPC.
    pub(super) shard: u8,
    /// Packet buffers that the request has in its account.
    pub(super) packets: u32,
}

/// A request on its way to another shard.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) rpc: RpcHandle,
    pub(super) id: RpcId,
    pub(super) client: HostAddr,
    pub(super) client_port: HomaPort,
    pub(super) port: HomaPort,
    pub(super) message: LooseMessage<SendPacketBytes>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) rpc: RpcHandle,
    /// Packet buffers that may leave the account.
    pub(super) packets: u32,
    /// `None` if the application dropped the request.
    pub(super) response: Option<SendOutgoing>,
}

/// The shard's side: where requests go and come from.
pub(super) struct Desk {
    shard: usize,
    always: bool,
    requests_max: u32,
    /// Packets wait for these shards. Each is written by its own alone and is no more than a hint, so that
    /// nothing is ordered by it.
    busy: Arc<[CachePadded<AtomicBool>]>,
    is_busy: bool,
    /// Packets that came from other shards in the last turn.
    crossed: usize,
    /// Whose turn it was last.
    last: usize,
    links: Vec<Option<Link>>,
    /// Answers that the transport has no room for, to be tried again. As many as requests are out, at
    /// most.
    refused: VecDeque<(u8, RpcHandle, SendOutgoing)>,
}

/// The rings to and from another shard.
struct Link {
    requests_out: Producer<Handed>,
    /// Of these, not answered.
    outstanding: u32,
    requests_in: Consumer<Handed>,
    answers_in: Consumer<Answer>,
}

/// The application's side: where answers go.
#[derive(Debug)]
pub(super) struct AnswersOut(Vec<Option<Producer<Answer>>>);

impl AnswersOut {
    /// Sends an answer home.
    ///
    /// # Errors
    /// Gives it back if there is no such other shard. There is room for the answers to all requests that
    /// may come.
    pub(super) fn send(&mut self, home: u8, answer: Answer) -> Result<(), Answer> {
        match self.0.get_mut(usize::from(home)).and_then(Option::as_mut) {
            Some(ring) => {
                ring.push(answer)?;
                ring.flush();
                Ok(())
            }
            None => Err(answer),
        }
    }
}

/// The ends of all rings, by shard.
pub(super) fn desks(config: HandOff, shards: u8) -> Vec<(Desk, AnswersOut)> {
    let shards = usize::from(shards);
    let places = usize::from(config.requests_max);
    let busy: Arc<[_]> = (0..shards).map(|_| CachePadded::new(AtomicBool::new(false))).collect();
    let desk = |shard| Desk {
        shard,
        always: config.when == HandOffWhen::Always,
        requests_max: config.requests_max.into(),
        busy: Arc::clone(&busy),
        is_busy: false,
        crossed: 0,
        last: shard,
        links: Vec::new(),
        refused: VecDeque::with_capacity(places * (shards - 1)),
    };
    let mut ends: Vec<_> = (0..shards).map(|shard| (desk(shard), AnswersOut(Vec::new()))).collect();
    // By the shard that hands over, then by the one that takes.
    let pair = |from, to| (from != to).then(|| (ring(places), ring(places)));
    let mut rings: Vec<Vec<_>> =
        (0..shards).map(|from| (0..shards).map(|to| pair(from, to)).collect()).collect();
    // Each end is taken once, so that the two directions of a pair are put together piece by piece.
    let mut outs: Vec<Vec<_>> = Vec::new();
    let mut ins: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
    for row in rings.drain(..) {
        let mut out = Vec::new();
        for (to, pair) in row.into_iter().enumerate() {
            let (out_ends, in_ends) = pair
                .map(|((requests_out, requests_in), (answers_out, answers_in))| {
                    ((requests_out, answers_in), (requests_in, answers_out))
                })
                .unzip();
            out.push(out_ends);
            ins[to].push(in_ends);
        }
        outs.push(out);
    }
    for ((desk, answers), (outs, ins)) in ends.iter_mut().zip(outs.into_iter().zip(ins)) {
        for (out_ends, in_ends) in outs.into_iter().zip(ins) {
            let (requests_in, answers_out) = in_ends.unzip();
            desk.links.push(out_ends.zip(requests_in).map(
                |((requests_out, answers_in), requests_in)| Link {
                    requests_out,
                    outstanding: 0,
                    requests_in,
                    answers_in,
                },
            ));
            answers.0.push(answers_out);
        }
    }
    ends
}

impl Desk {
    /// Notes whether packets wait for this shard: its receive burst was full, or as much came from other
    /// shards.
    #[inline]
    pub(super) fn note_burst(&mut self, full: bool, burst: usize) {
        let is_busy = full || self.crossed >= burst;
        self.crossed = 0;
        if is_busy != self.is_busy {
            self.is_busy = is_busy;
            self.busy[self.shard].store(is_busy, Ordering::Relaxed);
        }
    }

    /// Notes packets that other shards have passed on.
    pub(super) fn note_crossed(&mut self, packets: usize) {
        self.crossed += packets;
    }

    /// Whether requests may leave now.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.always || self.is_busy
    }

    /// The shard that gets the next request; `None` if it stays, and whether for want of room elsewhere.
    pub(super) fn choose(&mut self) -> (Option<usize>, bool) {
        let mut is_full = false;
        for _ in 0..self.links.len() {
            self.last = (self.last + 1) % self.links.len();
            let Some(link) = &self.links[self.last] else { return (None, is_full) };
            if link.outstanding >= self.requests_max {
                is_full = true;
            } else if self.always || !self.busy[self.last].load(Ordering::Relaxed) {
                return (Some(self.last), false);
            }
        }
        (None, is_full)
    }

    /// Hands a request to the shard that was chosen.
    ///
    /// # Errors
    /// Gives it back if there is no room, which was looked at when the shard was chosen.
    pub(super) fn hand_over(&mut self, to: usize, request: Handed) -> Result<(), Box<Handed>> {
        let Some(link) = self.links.get_mut(to).and_then(Option::as_mut) else {
            return Err(Box::new(request));
        };
        link.requests_out.push(request).map_err(Box::new)?;
        link.requests_out.flush();
        link.outstanding += 1;
        Ok(())
    }

    /// Shards of the node.
    pub(super) fn shards(&self) -> usize {
        self.links.len()
    }

    /// The `nth` request of this turn from shard `from`.
    pub(super) fn take(&mut self, from: usize, nth: usize) -> Option<Handed> {
        if nth >= BURST {
            return None;
        }
        self.links[from].as_mut()?.requests_in.pop()
    }

    /// An answer to a request that shard `from` had.
    pub(super) fn answer(&mut self, from: usize) -> Option<Answer> {
        self.links[from].as_mut()?.answers_in.pop()
    }

    /// One request less is with shard `by`.
    pub(super) fn settle(&mut self, by: usize) {
        if let Some(link) = self.links.get_mut(by).and_then(Option::as_mut) {
            link.outstanding -= 1;
        }
    }

    /// Keeps an answer of shard `by` that the transport does not take yet.
    pub(super) fn keep(&mut self, by: u8, rpc: RpcHandle, response: SendOutgoing) {
        self.refused.push_back((by, rpc, response));
    }

    /// The oldest of these.
    pub(super) fn kept(&mut self) -> Option<(u8, RpcHandle, SendOutgoing)> {
        self.refused.pop_front()
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("shard", &self.shard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desks_of(when: HandOffWhen, shards: u8) -> Vec<Desk> {
        let config = HandOff { when, requests_max: 2 };
        desks(config, shards).into_iter().map(|(desk, _)| desk).collect()
    }

    fn set_outstanding(desk: &mut Desk, by: usize, requests: u32) {
        desk.links[by].as_mut().expect("another shard").outstanding = requests;
    }

    #[test]
    fn requests_go_round_and_some_stay() {
        let mut desk = desks_of(HandOffWhen::Always, 3).remove(0);
        assert!(desk.is_open());
        let chosen: Vec<_> = (0..6).map(|_| desk.choose()).collect();
        let round = [(Some(1), false), (Some(2), false), (None, false)];
        assert_eq!(chosen, [round, round].concat());
        set_outstanding(&mut desk, 1, 2);
        assert_eq!(desk.choose(), (Some(2), false));
        set_outstanding(&mut desk, 2, 2);
        assert_eq!((desk.choose(), desk.choose()), ((None, false), (None, true)));
        desk.settle(1);
        assert_eq!((desk.choose(), desk.choose()), ((Some(1), false), (None, true)));
    }

    #[test]
    fn a_busy_shard_hands_to_those_that_are_not() {
        let [mut a, mut b] = <[Desk; 2]>::try_from(desks_of(HandOffWhen::Busy, 2)).expect("two");
        assert!(!a.is_open());
        a.note_burst(true, 8);
        assert!(a.is_open());
        assert_eq!((a.choose(), a.choose()), ((Some(1), false), (None, false)));
        b.note_crossed(5);
        b.note_crossed(5);
        b.note_burst(false, 8);
        assert!(b.is_open());
        assert_eq!((a.choose(), a.choose()), ((None, false), (None, false)), "both are busy");
        b.note_burst(false, 8);
        assert!(!b.is_open(), "nothing came any more");
        a.note_burst(false, 8);
        assert!(!a.is_open());
    }

    #[test]
    fn words_of_the_command_line() {
        assert_eq!("busy".parse(), Ok(HandOffWhen::Busy));
        assert_eq!("always".parse(), Ok(HandOffWhen::Always));
        let error = "often".parse::<HandOffWhen>().expect_err("no such word");
        assert_eq!(error, "\"often\" is neither busy nor always");
    }
}
