//! What happens in a run: hosts and their settings, calls, faults. Made from a seed, written down in
//! full, so that a failing run can be made smaller piece by piece.

use core::fmt;

use crate::sim::config::{Buffer, Framing, NetworkConfig, Routing};
use crate::transport::Config;

use super::dice::Dice;
use super::faults::{Fault, FaultPlan};

/// Everything that a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it comes from, and the source of what is drawn during the run: which packets are lost.
    pub seed: u64,
    /// Links and switches.
    pub(super) network: NetworkConfig,
    /// Software delay on each way, in nanoseconds.
    pub(super) delay_ns: u64,
    pub(super) hosts: Vec<HostPlan>,
    pub(super) calls: Vec<CallPlan>,
    pub(super) faults: Vec<FaultPlan>,
    /// Faults have stopped by then, and no call of the plan starts later.
    pub(super) faults_end_ns: u64,
    /// Nothing happens that could make a call fail: every call must succeed.
    pub(super) is_calm: bool,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPlan {
    pub(super) config: Config,
    /// Payload bytes of full packets it sends.
    pub(super) segment_bytes: u32,
    /// Received packets that wait for the process; more are lost.
    pub(super) ring_packets: usize,
    /// Packets taken in one turn of its loop.
    pub(super) burst_packets: usize,
    /// Time of a turn of its loop that took packets.
    pub(super) turn_ns: u64,
    /// Its NIC takes packets while it has less than this to send.
    pub(super) backlog_ns: u64,
    /// Calls leave from the port that it serves.
    pub(super) one_port: bool,
}

/// One RPC, with what both applications do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallPlan {
    pub(super) at_ns: u64,
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) request_bytes: u32,
    pub(super) response_bytes: u32,
    /// The client gives up after so long.
    pub(super) abort_ns: Option<u64>,
    /// When the server answers, counted from the request; `None`: it drops the request instead.
    pub(super) answer_ns: Option<u64>,
    /// The server drops the request when it hears of its first packet, if the host announces that.
    pub(super) drop_at_head: bool,
    /// How long applications keep messages.
    pub(super) hold_ns: u64,
}

const MS: u64 = 1_000_000;

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x66_757a_7a00);
        let is_calm = dice.chance(200);
        let times = Times::new(&mut dice, is_calm);
        let network = network(&mut dice, is_calm);
        let hosts: Vec<HostPlan> =
            (0..network.hosts()).map(|_| host(&mut dice, &network, &times, is_calm)).collect();
        let faults_end_ns = dice.between(times.timeout_ns / 2, times.timeout_ns * 6);
        let calls = calls(&mut dice, &hosts, &times, faults_end_ns, is_calm);
        let mut plan = Self {
            seed,
            delay_ns: dice.one_of(&[0, 500, 5_000, 20_000]),
            network,
            hosts,
            calls,
            faults: Vec::new(),
            faults_end_ns,
            is_calm,
        };
        let count = if is_calm { dice.below(2) } else { dice.between(1, 6) };
        for _ in 0..count {
            let fault = FaultPlan::draw(&mut dice, &plan, times.timeout_ns);
            plan.faults.push(fault);
            plan.faults.extend(fault.companion(&mut dice, &plan, times.timeout_ns));
        }
        plan
    }

    pub(super) fn has_corruption(&self) -> bool {
        self.faults.iter().any(|plan| matches!(plan.fault, Fault::Corrupt { .. }))
    }

    /// Time after the faults within which every RPC ends and every table is empty, in nanoseconds.
    ///
    /// A client RPC ends, with a response or without, after at most `timeout_ns` of silence. A server
    /// has the rest of an answer asked for by then, or gives it up `response_keep_ns` after it last
    /// heard of the client; a request that does not become complete goes after `timeout_ns`. Before
    /// that, the applications have answered, and what they sent has been carried.
    pub fn settle_ns(&self) -> u64 {
        let most = |of: fn(&HostPlan) -> u64| self.hosts.iter().map(of).max().unwrap_or(0);
        let application = self
            .calls
            .iter()
            .map(|call| call.answer_ns.unwrap_or(0) + call.hold_ns + call.abort_ns.unwrap_or(0))
            .max();
        let bytes: u64 = self
            .calls
            .iter()
            .map(|call| u64::from(call.request_bytes) + u64::from(call.response_bytes))
            .sum();
        let link_bps = self.network.host_bps.min(self.network.core_bps);
        let slowest = self.hosts.iter().map(|host| host.config.link_bps).min().unwrap_or(link_bps);
        // Headers, and everything sent twice.
        let carry_ns = bytes * 4 * 8 * 1_000 / (link_bps.min(slowest) / 1_000_000);
        let timeout_ns = most(|host| host.config.timeout_ns);
        let keep_ns = most(|host| host.config.response_keep_ns);
        // Who may ask for few gaps at a time, or keep few, takes long for a message full of them.
        let packets = bytes / most(|host| host.segment_bytes.into()).clamp(1, 500);
        let fewest = |of: fn(&Config) -> u32| self.hosts.iter().map(|host| of(&host.config)).min();
        let asked = fewest(|config| config.resends_per_rpc_max.min(config.gaps_per_message_max));
        let rounds = if asked.unwrap_or(1) < 16 { packets } else { 0 };
        let resend_ns = rounds * most(|host| host.config.resend_interval_ns);
        let carried_ns = carry_ns + resend_ns + 20 * MS;
        application.unwrap_or(0) + 2 * timeout_ns + 2 * keep_ns + carried_ns
    }
}

/// Times that all hosts of a run agree on.
struct Times {
    resend_ns: u64,
    timeout_ns: u64,
    response_keep_ns: u64,
    tombstone_keep_ns: u64,
}

impl Times {
    fn new(dice: &mut Dice, is_calm: bool) -> Self {
        // In a calm run nobody may give up because a slow link has much to carry.
        let resend_ns = if is_calm { 5 * MS } else { dice.one_of(&[200_000, MS, 5 * MS]) };
        let timeout_ns = resend_ns * if is_calm { 20 } else { dice.one_of(&[3, 8, 20]) };
        Self {
            resend_ns,
            timeout_ns,
            response_keep_ns: timeout_ns * dice.one_of(&[2, 4, 10]),
            // Advised is twice the time that a client tries.
            tombstone_keep_ns: timeout_ns * dice.one_of(&[0, 1, 2, 4, 8, 8]) / 2,
        }
    }
}

fn network(dice: &mut Dice, is_calm: bool) -> NetworkConfig {
    let racks = if dice.chance(250) { 2 } else { 1 };
    let hosts_per_rack = if racks == 2 { dice.between(1, 3) } else { dice.between(2, 7) } as u32;
    let host_bps = dice.one_of(&[1, 10, 25, 100]) * 1_000_000_000;
    let room = dice.one_of(&[10_000, 50_000, 300_000]);
    let buffer = match dice.below(4) {
        0 if !is_calm => Buffer::PerPort(room),
        1 if !is_calm => Buffer::Shared(room * 2),
        _ => Buffer::Unlimited,
    };
    NetworkConfig {
        racks,
        hosts_per_rack,
        spines: if racks > 1 { dice.between(1, 2) as u32 } else { 0 },
        host_bps,
        core_bps: host_bps * dice.one_of(&[1, 4]),
        propagation_ns: dice.one_of(&[10, 1_000]),
        switch_ns: dice.one_of(&[0, 400, 2_000]),
        cut_through: dice.flag(),
        routing: if dice.flag() { Routing::Spray } else { Routing::FlowHash },
        buffer,
        framing: Framing::Linux,
    }
}

fn host(dice: &mut Dice, network: &NetworkConfig, times: &Times, is_calm: bool) -> HostPlan {
    HostPlan {
        config: config(dice, network, times, is_calm),
        segment_bytes: dice.one_of(&[1_424, 1_424, 1_404, 8_924, 500]),
        ring_packets: if is_calm { 100_000 } else { dice.one_of(&[16, 256, 1_024]) },
        burst_packets: dice.one_of(&[1, 8, 32]),
        turn_ns: dice.one_of(&[50, 500, 5_000]),
        backlog_ns: dice.one_of(&[0, 5_000, 50_000]),
        one_port: dice.flag(),
    }
}

fn config(dice: &mut Dice, network: &NetworkConfig, times: &Times, is_calm: bool) -> Config {
    let base = if dice.chance(200) { Config::to_the_letter() } else { Config::default() };
    let incoming_max_bytes = dice.one_of(&[10_000, 20_000, 50_000, 400_000]);
    let overcommit_max = dice.between(1, 8) as usize;
    let num_priorities = if dice.flag() { 8 } else { dice.between(1, 8) as u8 };
    let tiny = !is_calm && dice.chance(300);
    // Limits: tiny ones, or ones that no plan reaches.
    let mut limit = |small: &[u64], large: u64| {
        if tiny && dice.flag() { dice.one_of(small) } else { large }
    };
    let limits = Config {
        client_rpcs_max: limit(&[1, 2, 8], 256) as usize,
        server_rpcs_max: limit(&[1, 2, 8], 512) as usize,
        server_rpcs_per_peer_max: limit(&[1, 2, 4], 512) as u32,
        peers_max: limit(&[2, 3, 4], 64) as usize,
        gaps_per_message_max: limit(&[1, 2], 64) as u32,
        control_packets_max: limit(&[64], 1_024) as usize,
        retransmits_max: limit(&[1, 2], 1_024) as usize,
        outgoing_max_bytes: limit(&[1, 1_000, 50_000], 100_000_000),
        retained_packets_max: limit(&[64, 100], 8_192) as u32,
        tombstones_max: limit(&[4, 8], 1_024) as usize,
        probes_per_peer_ms_max: limit(&[1, 4], 64) as u32,
        resends_per_rpc_max: limit(&[1, 2], 16) as u32,
        ..base
    };
    let windows = incoming_max_bytes / (overcommit_max as u32 + 1);
    Config {
        unsched_bytes: dice.one_of(&[1, 1_000, 10_000, 40_000, 1_000_000]),
        window_bytes: if dice.chance(200) { incoming_max_bytes / 2 } else { 0 },
        incoming_max_bytes,
        overcommit_max,
        grant_min_bytes: dice.one_of(&[0, windows / 4]),
        grant_fifo_permille: dice.one_of(&[0, 50, 500]),
        grant_fifo_bytes: dice.one_of(&[0, 5_000, 50_000]),
        budget_unscheduled: dice.flag(),
        link_bps: network.host_bps,
        pacing: dice.flag(),
        backlog_max_ns: dice.one_of(&[0, 5_000, 100_000]),
        defer_min_bytes: dice.one_of(&[0, 1_000, 20_000]),
        send_fifo_permille: dice.one_of(&[0, 50, 500]),
        early_packet: dice.flag(),
        num_priorities,
        cutoffs_auto: dice.flag(),
        resend_after_ns: times.resend_ns,
        resend_interval_ns: times.resend_ns,
        timeout_ns: times.timeout_ns,
        need_ack_after_ns: times.resend_ns / 2,
        need_ack_interval_max_ns: limits.need_ack_interval_max_ns.min(times.timeout_ns),
        response_keep_ns: times.response_keep_ns,
        ack_delay_ns: dice.one_of(&[0, 20_000, 100_000, u64::MAX]),
        gap_recovery_ns: dice.one_of(&[0, 20_000, 100_000]),
        tombstone_keep_ns: times.tombstone_keep_ns,
        announce_aborts: dice.flag(),
        check_response_source: dice.flag(),
        announce_heads: dice.flag(),
        shard: dice.below(256) as u8,
        ..limits
    }
}

fn calls(
    dice: &mut Dice,
    hosts: &[HostPlan],
    times: &Times,
    end_ns: u64,
    is_calm: bool,
) -> Vec<CallPlan> {
    let count_max = if dice.chance(30) { 200 } else { 40 };
    let count = dice.magnitude(count_max);
    let bytes_max = dice.one_of(&[200, 3_000, 30_000, 100_000, 300_000]);
    let bunched = dice.flag();
    let incast = dice.chance(200).then(|| dice.below(hosts.len() as u64) as u16);
    let slow_permille = dice.one_of(&[0, 200, 700]);
    let last_ns = if bunched { end_ns / 20 } else { end_ns };
    // A server that drops a request and soon forgets it is asked again and again.
    let may_drop = !is_calm && times.tombstone_keep_ns >= 2 * times.timeout_ns;
    let call = |dice: &mut Dice| {
        let from = dice.below(hosts.len() as u64) as u16;
        let other = (u64::from(from) + dice.between(1, hosts.len() as u64 - 1)) as usize;
        let to = incast.filter(|&to| to != from).unwrap_or((other % hosts.len()) as u16);
        let slow = dice.chance(slow_permille);
        let slow_ns = if slow { dice.magnitude(times.timeout_ns * 3) } else { 0 };
        CallPlan {
            at_ns: dice.below(last_ns.max(1)),
            from,
            to,
            request_bytes: dice.magnitude(bytes_max) as u32,
            response_bytes: dice.magnitude(bytes_max) as u32,
            abort_ns: dice.chance(60).then(|| dice.magnitude(times.timeout_ns)),
            answer_ns: (!may_drop || !dice.chance(40)).then_some(slow_ns),
            drop_at_head: may_drop && dice.chance(20),
            hold_ns: if dice.chance(100) { dice.magnitude(times.timeout_ns) } else { 0 },
        }
    };
    (0..count).map(|_| call(dice)).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, hosts, .. } = self;
        writeln!(
            f,
            "{} hosts in {} rack(s), {} Gbps, {:?}, faults end at {} us{}",
            hosts.len(),
            network.racks,
            network.host_bps / 1_000_000_000,
            network.buffer,
            self.faults_end_ns / 1_000,
            if self.is_calm { ", calm" } else { "" },
        )?;
        for (index, call) in self.calls.iter().enumerate() {
            writeln!(f, "call {index}: {call}")?;
        }
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CallPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, request_bytes, response_bytes, .. } = self;
        let at_us = self.at_ns / 1_000;
        write!(f, "at {at_us} us host {from} asks {to}, {request_bytes} B for {response_bytes} B")?;
        match self.answer_ns {
            Some(0) => {}
            Some(after_ns) => write!(f, ", answered after {} us", after_ns / 1_000)?,
            None => f.write_str(", dropped by the server")?,
        }
        if self.drop_at_head {
            f.write_str(", dropped at its head")?;
        }
        if let Some(after_ns) = self.abort_ns {
            write!(f, ", aborted after {} us", after_ns / 1_000)?;
        }
        if self.hold_ns > 0 {
            write!(f, ", messages kept for {} us", self.hold_ns / 1_000)?;
        }
        Ok(())
    }
}
