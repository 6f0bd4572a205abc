//! What crosses from shard to shard: packets that came to the wrong one, frames that concern all, acks
//! without an owner, and messages of the application.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::dpdk::{Mbuf, SendMbuf};
use crate::net::{PORT_BLOCK, Stack, Steering};
use crate::transport::MissedAck;
use crate::wire::{Header, HomaPort};

use super::app::Transport;
use super::ring::{Consumer, Producer, ring};

/// Packets that wait for one shard from one other. More are dropped and counted.
const PACKETS_MAX: usize = 1_024;
/// Letters that wait for one shard from one other.
const LETTERS_MAX: usize = 256;
/// Packets taken from each other shard per turn.
const BURST: usize = 32;
/// Ports of calls that are remembered by their destination.
const PORTS_REMEMBERED: usize = 256;

/// What crosses beside packets.
pub(super) enum Letter {
    /// A frame that all network stacks of the node must see.
    Frame(SendMbuf),
    /// An ack record for whoever has the RPC.
    Ack(MissedAck),
    /// A message of the application.
    Message(Box<dyn Any + Send>),
}

/// What decides on the way of packets, the same for all shards.
pub(super) struct Routes<'a> {
    /// The owners of packets.
    pub(super) steering: &'a Arc<Steering>,
    /// The port has rules that bring packets of IP protocol 146 about RPCs of ours to their shards.
    pub(super) has_id_rules: bool,
    /// Every packet makes a detour through another shard, to test the way.
    pub(super) detour: bool,
}

/// One shard's ends of all rings.
pub(super) struct Crossing {
    shard: usize,
    steering: Arc<Steering>,
    has_id_rules: bool,
    /// Every packet makes a detour through another shard, to test the way.
    detour: bool,
    packets_out: Vec<Option<Producer<SendMbuf>>>,
    packets_in: Vec<Consumer<SendMbuf>>,
    letters_in: Vec<(u8, Consumer<Letter>)>,
    /// Something was pushed since the last flush.
    unflushed: bool,
    /// Shards of the node that have nothing under way and were told to stop.
    drained: Arc<AtomicUsize>,
}

/// The application's end of the rings to other shards, and of the choice of ports.
pub(super) struct Outlet {
    letters_out: Vec<Option<Producer<Letter>>>,
    steering: Arc<Steering>,
    shard: u8,
    /// Blocks of ports that calls rotate among.
    blocks: u16,
    next_block: u16,
    /// Where calls went, and from which port.
    ports: Box<[CallPort]>,
}

/// The port for calls to a destination from a block of ports.
#[derive(Clone, Copy)]
struct CallPort {
    /// `None` at first.
    to: Option<(IpAddr, HomaPort, u16)>,
    from: HomaPort,
}

/// Where a received packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is ours.
    Here,
    /// To another shard.
    To(usize),
    /// Its id names no shard.
    Nowhere,
}

/// The ends of all rings, by shard.
pub(super) fn crossings(routes: &Routes<'_>, shards: u8, blocks: u16) -> Vec<(Crossing, Outlet)> {
    let drained = Arc::new(AtomicUsize::new(0));
    let mut ends: Vec<(Crossing, Outlet)> = (0..shards)
        .map(|shard| {
            let crossing = Crossing {
                shard: shard.into(),
                steering: Arc::clone(routes.steering),
                has_id_rules: routes.has_id_rules,
                detour: routes.detour,
                packets_out: Vec::new(),
                packets_in: Vec::new(),
                letters_in: Vec::new(),
                unflushed: false,
                drained: Arc::clone(&drained),
            };
            let nothing = CallPort { to: None, from: HomaPort(0) };
            let outlet = Outlet {
                letters_out: Vec::new(),
                steering: Arc::clone(routes.steering),
                shard,
                blocks: blocks.max(1),
                next_block: 0,
                ports: vec![nothing; PORTS_REMEMBERED].into(),
            };
            (crossing, outlet)
        })
        .collect();
    for from in 0..usize::from(shards) {
        for to in 0..usize::from(shards) {
            if from == to {
                ends[from].0.packets_out.push(None);
                ends[from].1.letters_out.push(None);
                continue;
            }
            let (packets_out, packets_in) = ring(PACKETS_MAX);
            let (letters_out, letters_in) = ring(LETTERS_MAX);
            ends[from].0.packets_out.push(Some(packets_out));
            ends[from].1.letters_out.push(Some(letters_out));
            ends[to].0.packets_in.push(packets_in);
            ends[to].0.letters_in.push((from as u8, letters_in));
        }
    }
    ends
}

impl Crossing {
    /// Where a packet from `src` to `dst` goes. `crossed`: it came from another shard.
    #[inline]
    pub(super) fn way(&self, src: IpAddr, dst: IpAddr, header: &Header, crossed: bool) -> Way {
        if self.detour && !crossed {
            return Way::To((self.shard + 1) % self.packets_out.len());
        }
        match self.steering.owner(src, dst, header) {
            Some(owner) if usize::from(owner) == self.shard => Way::Here,
            Some(owner) => Way::To(owner.into()),
            None => Way::Nowhere,
        }
    }

    /// Whether a rule of the port should have brought a packet from a server, with its id in view, to
    /// its shard at once.
    pub(super) fn has_rule_for(&self, header: &Header) -> bool {
        self.has_id_rules && !header.sender_id.is_client()
    }

    /// The hash that the port should have computed.
    pub(super) fn hash(&self, src: IpAddr, dst: IpAddr, header: &Header) -> u32 {
        self.steering.hash(src, dst, header.sport, header.dport)
    }

    /// Hands a packet to another shard; says false if its ring is full and the packet is lost.
    #[inline]
    pub(super) fn send(&mut self, to: usize, packet: Mbuf) -> bool {
        self.unflushed = true;
        let ring = self.packets_out.get_mut(to).and_then(Option::as_mut);
        ring.is_some_and(|ring| ring.push(packet.into_send()).is_ok())
    }

    /// Shows the others what was handed to them.
    #[inline]
    pub(super) fn flush(&mut self) {
        if self.unflushed {
            self.unflushed = false;
            self.packets_out.iter_mut().flatten().for_each(Producer::flush);
        }
    }

    /// Other shards.
    pub(super) fn others(&self) -> usize {
        self.packets_in.len()
    }

    /// The `nth` packet of this turn from the `ring`th other shard.
    #[inline]
    pub(super) fn receive(&mut self, ring: usize, nth: usize) -> Option<Mbuf> {
        if nth >= BURST {
            return None;
        }
        self.packets_in[ring].pop().map(SendMbuf::open)
    }

    /// A letter from the `ring`th other shard, and the number of that shard.
    #[inline]
    pub(super) fn receive_letter(&mut self, ring: usize) -> Option<(u8, Letter)> {
        let (from, letters) = &mut self.letters_in[ring];
        letters.pop().map(|letter| (*from, letter))
    }

    /// Notes that this shard has nothing under way any more.
    pub(super) fn note_drained(&self) {
        self.drained.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no shard has: only then nobody needs this one to pass packets on.
    pub(super) fn all_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed) > self.others()
    }
}

impl Outlet {
    /// Shards of the node.
    pub(super) fn shards(&self) -> usize {
        self.letters_out.len()
    }

    /// Sends a letter.
    ///
    /// # Errors
    /// Gives it back if there is no such other shard, or too much waits for it.
    pub(super) fn send(&mut self, to: u8, letter: Letter) -> Result<(), Letter> {
        match self.letters_out.get_mut(usize::from(to)).and_then(Option::as_mut) {
            Some(ring) => {
                ring.push(letter)?;
                ring.flush();
                Ok(())
            }
            None => Err(letter),
        }
    }

    /// The port that a call to `port` at `host` comes from: one of our blocks in turn, and in it the one
    /// whose replies come to this shard if they are spread by ports.
    pub(super) fn port_for(
        &mut self,
        transport: &mut Transport,
        stack: &Stack,
        host: IpAddr,
        port: HomaPort,
    ) -> HomaPort {
        let block = self.next_block;
        self.next_block = if block + 1 < self.blocks { block + 1 } else { 0 };
        let low = match host {
            IpAddr::V4(addr) => addr.to_bits(),
            IpAddr::V6(addr) => addr.to_bits() as u32,
        };
        let mixed = low.wrapping_mul(0x9E37_79B9) ^ u32::from(port.0) ^ u32::from(block) << 5;
        let place = &mut self.ports[mixed as usize % PORTS_REMEMBERED];
        let wanted = Some((host, port, block));
        if place.to != wanted {
            let number = u16::from(self.shard) * self.blocks + block;
            let offset = number.wrapping_mul(PORT_BLOCK) % HomaPort::FIRST_CLIENT.0;
            let first = HomaPort(HomaPort::FIRST_CLIENT.0 + offset);
            // Without an address to call from, the call will fail anyway.
            let ours = stack.source_for(host).unwrap_or(host);
            let home = self.steering.home_port(host, ours, port, first, self.shard);
            // It may be open already, for another destination.
            transport.open_call_port(home);
            *place = CallPort { to: wanted, from: home };
        }
        place.from
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("shard", &self.shard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RpcId;

    #[test]
    fn rules_are_for_packets_of_servers_alone() {
        let steering = Arc::new(Steering::new(2, 0));
        let has_rule = |has_id_rules, id| {
            let routes = Routes { steering: &steering, has_id_rules, detour: false };
            let header = Header { sport: HomaPort(1), dport: HomaPort(2), sender_id: RpcId(id) };
            crossings(&routes, 2, 1)[0].0.has_rule_for(&header)
        };
        assert!(has_rule(true, 1 << 56 | 1));
        assert!(!has_rule(true, 1 << 56), "from a client: its owner is a matter of a hash");
        assert!(!has_rule(false, 1 << 56 | 1));
    }
}
