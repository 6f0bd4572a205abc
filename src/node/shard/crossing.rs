//! What a shard takes from the others and hands to them.

use crate::dpdk::Mbuf;
use crate::net::{self, Datagram};
use crate::time::Nanos;
use crate::wire::Packet;

use super::super::app::App;
use super::super::crossing::{Letter, Way};
use super::Shard;

impl<A: App> Shard<'_, A> {
    /// Takes in what other shards have for us, and hands over what we have for them. Gives the number
    /// of packets.
    pub(super) fn cross(&mut self, now: Nanos) -> usize {
        let others = self.crossing.as_ref().map_or(0, |crossing| crossing.others());
        let mut received = 0;
        for ring in 0..others {
            received += self.take_packets(now, ring);
            while let Some((from, letter)) =
                self.crossing.as_mut().and_then(|crossing| crossing.receive_letter(ring))
            {
                self.take_letter(now, from, letter);
            }
        }
        self.stats.redirected_in += received as u64;
        if let Some(desk) = &mut self.desk {
            desk.note_crossed(received);
            received += self.exchange(now);
        }
        self.pass_acks_on();
        if let Some(crossing) = &mut self.crossing {
            crossing.flush();
        }
        received
    }

    fn take_packets(&mut self, now: Nanos, ring: usize) -> usize {
        let mut nth = 0;
        while let Some(mbuf) =
            self.crossing.as_mut().and_then(|crossing| crossing.receive(ring, nth))
        {
            nth += 1;
            self.input(now, mbuf, true);
        }
        nth
    }

    fn take_letter(&mut self, now: Nanos, from: u8, letter: Letter) {
        match letter {
            Letter::Frame(frame) => {
                let mbuf = frame.open();
                let checksum = super::input::checksum_of(&mbuf);
                // For the stack, which has its answers and events fetched as always.
                self.stack.receive(now, mbuf.data(), mbuf.data_len(), checksum);
                self.stats.not_homa += 1;
            }
            Letter::Ack(ack) => self.transport.on_missed_ack(now, &ack),
            Letter::Message(message) => {
                self.with_app_at(now, |app, cx| app.on_message(cx, from, message));
            }
        }
    }

    /// Sends a packet where it belongs.
    pub(super) fn redirect(&mut self, way: Way, mbuf: Mbuf) {
        match (way, &mut self.crossing) {
            (Way::To(shard), Some(crossing)) => {
                if crossing.send(shard, mbuf) {
                    self.stats.redirected_out += 1;
                } else {
                    self.stats.redirects_dropped += 1;
                }
            }
            _ => self.stats.no_such_shard += 1,
        }
    }

    /// Shows a frame to the stacks of all other shards if it concerns them.
    #[cold]
    pub(super) fn tell_all(&mut self, mbuf: &Mbuf) {
        if !net::concerns_all_shards(mbuf.data()) {
            return;
        }
        let Some(outlet) = &mut self.state.outlet else { return };
        for shard in (0..outlet.shards() as u8).filter(|&shard| shard != self.state.shard) {
            let copy = self.rx_pool.copy_of(mbuf);
            let sent = copy
                .is_some_and(|copy| outlet.send(shard, Letter::Frame(copy.into_send())).is_ok());
            self.stats.letters_dropped += u64::from(!sent);
        }
    }

    fn pass_acks_on(&mut self) {
        while let Some(ack) = self.transport.poll_missed_ack() {
            let Some(outlet) = &mut self.state.outlet else { return };
            for shard in (0..outlet.shards() as u8).filter(|&shard| shard != self.state.shard) {
                let sent = outlet.send(shard, Letter::Ack(ack)).is_ok();
                self.stats.letters_dropped += u64::from(!sent);
            }
        }
    }

    /// Compares the hash that the port has computed with ours: if they differ, the port has another key
    /// or table, and packets take a way round through the wrong shard.
    pub(super) fn check_hash(&mut self, mbuf: &Mbuf, datagram: &Datagram, packet: &Packet) {
        let (Some(theirs), Some(crossing)) = (mbuf.rss_hash(), &self.crossing) else { return };
        let ours = crossing.hash(datagram.src.ip(), datagram.dst.ip(), &packet.header);
        if theirs != ours {
            if self.stats.hash_mismatches == 0 {
                log::warn!(
                    "the port hashes a packet from {} to {theirs:#010x}, not {ours:#010x}: packets \
                     arrive at the wrong shards and are passed on",
                    datagram.src
                );
            }
            self.stats.hash_mismatches += 1;
        }
    }

    /// Notes a packet that a rule of the port should have brought to its shard: then the port does not
    /// do what it has agreed to.
    #[cold]
    pub(super) fn check_rule(&mut self, way: Way, datagram: &Datagram, packet: &Packet) {
        let Way::To(shard) = way else { return };
        if datagram.encapsulation == net::Encapsulation::MarkedTcp {
            return;
        }
        if self.stats.rule_misses == 0 {
            log::warn!(
                "the port brings a packet from {} about RPC {} to shard {}, not {shard}, in spite of \
                 its rules: such packets are passed on",
                datagram.src,
                packet.header.sender_id,
                self.state.shard
            );
        }
        self.stats.rule_misses += 1;
    }
}
