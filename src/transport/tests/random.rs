//! Random configurations, loads and faults. Whatever happens: one event per call, no request
//! delivered twice, bytes intact, grants within the budget (both checked by the bench), and nothing
//! left in any table once the faults have stopped.

use std::collections::BTreeMap;

use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;

/// A splitmix64 generator.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn config(&mut self) -> Config {
        let base = if self.below(4) == 0 { Config::to_the_letter() } else { Config::default() };
        let incoming_max_bytes = self.one_of(&[20_000, 100_000, 400_000, 2_000_000]);
        Config {
            incast_rpcs_min: self.one_of(&[0, 1, 10]),
            incast_unsched_bytes: self.one_of(&[0, 400, 100_000]),
            unsched_by_rtt: self.flag(),
            live_srpt: self.flag(),
            unsched_bytes: self.one_of(&[1, 1_000, 10_000, 40_000, 1_000_000]),
            incoming_max_bytes,
            overcommit_max: 1 + self.below(8) as usize,
            grant_min_bytes: self.one_of(&[0, incoming_max_bytes / 20]),
            grant_fifo_permille: self.one_of(&[0, 50, 500]),
            budget_unscheduled: self.flag(),
            link_bps: self.one_of(&[1_000_000_000, 25_000_000_000, 100_000_000_000]),
            pacing: self.flag(),
            send_fifo_permille: self.one_of(&[0, 50, 500]),
            early_packet: self.flag(),
            num_priorities: 1 + self.below(8) as u8,
            cutoffs_auto: self.flag(),
            ack_delay_ns: self.one_of(&[0, 100_000, u64::MAX]),
            gap_recovery_ns: self.one_of(&[0, 20_000, 100_000]),
            resends_per_rpc_max: self.one_of(&[1, 16]),
            probes_per_peer_ms_max: self.one_of(&[8, 64]),
            gaps_per_message_max: self.one_of(&[2, 64]),
            announce_aborts: self.flag(),
            announce_heads: self.flag(),
            client_rpcs_max: self.one_of(&[16, 1_000]),
            server_rpcs_max: self.one_of(&[16, 1_000]),
            retained_packets_max: self.one_of(&[256, 8_192]),
            // The faults below last longer than anyone would wait otherwise.
            timeout_ns: 10_000_000_000,
            response_keep_ns: 10_000_000_000,
            seed: self.below(u64::MAX),
            ..base
        }
    }

    fn faults(&mut self) -> Faults {
        Faults {
            loss_percent: self.one_of(&[0, 0, 1, 10, 30]),
            duplicate_percent: self.one_of(&[0, 5, 50]),
            jitter_ns: self.one_of(&[0, 1_000, 50_000, 1_000_000]),
        }
    }

    fn length(&mut self) -> usize {
        let bound = self.one_of(&[1, 100, 1_500, 10_000, 50_000]);
        if self.below(60) == 0 { 600_000 } else { 1 + self.below(bound) as usize }
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let config = random.config();
    let other = Config { num_priorities: config.num_priorities, ..random.config() };
    let mut pair = Pair::with_configs(config, other);
    let both = random.flag();
    if both {
        assert!(pair.shards[0].open_server_port(SERVICE));
        pair.ports = [SERVICE; 2];
    }
    pair.seed(seed);
    pair.faults = random.faults();
    pair.segment = random.one_of(&[200, 1_404, 1_424, 8_924]);
    pair.room = random.one_of(&[1, 4, 64]);
    let slow_percent = random.one_of(&[0, 0, 30]);
    // Calls not answered yet, by cookie; aborted ones must stay without an answer.
    let mut open: BTreeMap<u64, (usize, RpcHandle, usize)> = BTreeMap::new();
    let mut started = 0;
    let check = |pair: &mut Pair, open: &mut BTreeMap<u64, (usize, RpcHandle, usize)>| {
        for (cookie, result) in pair.responses.drain(..) {
            let (_, _, len) = open.remove(&cookie).expect("one event per call");
            let message = result.unwrap_or_else(|error| panic!("seed {seed}: {cookie}: {error}"));
            assert!(message.to_vec() == pattern(len, cookie), "seed {seed}: call {cookie}");
        }
    };
    for _ in 0..12 {
        for _ in 0..random.below(12) {
            let side = if both { random.below(2) as usize } else { 0 };
            let len = random.length();
            // Refused when a table is full; another round tries again.
            if let Ok(rpc) = pair.call_from(side, len, started) {
                open.insert(started, (side, rpc, len));
            }
            started += 1;
        }
        let mut slow = Random(random.below(u64::MAX));
        let duration = Nanos(1 + random.below(3_000_000));
        pair.run(
            duration,
            |request| if slow.below(100) < slow_percent { None } else { echo(request) },
        );
        check(&mut pair, &mut open);
        if random.below(4) == 0
            && let Some((&cookie, &(side, rpc, _))) = open.iter().next()
        {
            let now = pair.now;
            assert!(pair.shards[side].abort(now, rpc));
            open.remove(&cookie);
        }
    }
    pair.faults = Faults::default();
    for _ in 0..100 {
        pair.run(Nanos::from_ms(100), echo);
        check(&mut pair, &mut open);
        if open.is_empty() {
            break;
        }
    }
    assert!(open.is_empty(), "seed {seed}: {open:?} {:?}", pair.shards);
    // Server RPCs whose client has aborted in silence end by NEED_ACK, or after their time.
    pair.run(Nanos::from_secs(21), echo);
    pair.assert_empty();
}

#[test]
fn random_configurations_loads_and_faults() {
    for seed in 0..100 {
        run(seed);
    }
}

#[test]
fn more_random_configurations_loads_and_faults() {
    for seed in 100..200 {
        run(seed);
    }
}
