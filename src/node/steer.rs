//! Sets the port up so that packets arrive at the shard they belong to, as far as the port can.

use std::fmt;

use crate::dpdk::{Eal, FlowForm, FlowRule, Port, PortBuilder};
use crate::net::{HOMA_PROTOCOL, HeaderBytes, RSS_KEY, Steering};

use super::{NodeConfig, NodeError};

/// How received packets come to their shards, as far as the port was willing. What arrives at the wrong
/// shard is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Packets whose ports the network interface knows, which are those of marked TCP.
    pub by_ports: PortSpread,
    /// Packets of IP protocol 146 about RPCs of ours.
    pub by_id: IdRules,
}

/// How a port spreads packets over its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortSpread {
    /// There is one shard.
    OneShard,
    /// There is one queue, which shards poll in turns.
    OneQueue,
    /// By the hash and the table that we have, too.
    OurTable,
    /// By the hash that we have, and a table of the port that we have taken over.
    TableOfPort,
    /// In a way of its own.
    Otherwise,
}

/// Whether the port looks at the ids of RPCs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdRules {
    /// It brings packets to the shard in their id.
    Taken(FlowForm),
    /// It was not asked: there is one queue, or not one for each shard.
    NotAsked,
    /// It does not, for this reason.
    Refused(String),
}

impl Arrival {
    const ONE_SHARD: Self = Self { by_ports: PortSpread::OneShard, by_id: IdRules::NotAsked };

    /// Whether packets of IP protocol 146 about RPCs of ours should arrive at their shards.
    pub fn has_id_rules(&self) -> bool {
        matches!(self.by_id, IdRules::Taken(_))
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.by_ports {
            PortSpread::OneShard => "one shard gets all",
            PortSpread::OneQueue => "one queue, polled in turns",
            PortSpread::OurTable => "marked TCP arrives at its shard",
            PortSpread::TableOfPort => "marked TCP arrives at its shard, by the port's own table",
            PortSpread::Otherwise => "packets are spread by the port in a way of its own",
        })?;
        match &self.by_id {
            IdRules::Taken(form) => {
                write!(f, "; packets about own RPCs arrive at their shard, by rules for {form}")
            }
            IdRules::NotAsked => Ok(()),
            IdRules::Refused(reason) => write!(f, "; no rules for ids of RPCs ({reason})"),
        }
    }
}

/// Opens device `index` with a pair of queues for each shard, or as many as it has; gives the port, the
/// function that says where packets belong, which agrees with the port as far as possible, and what
/// was got, which is in the log as well.
pub(super) fn open(
    builder: PortBuilder,
    eal: &Eal,
    index: usize,
    config: &NodeConfig,
) -> Result<(Port, Steering, Arrival), NodeError> {
    let shards = config.shards();
    if shards == 1 {
        return Ok((builder.open(eal, index)?, Steering::new(1, 0), Arrival::ONE_SHARD));
    }
    let builder = builder.queues_up_to(eal, index, shards.into())?;
    let mut port = builder.rss_with(eal, index, &RSS_KEY)?.open(eal, index)?;
    let (rx_queues, tx_queues, has_rss) = {
        let capabilities = port.capabilities();
        (capabilities.rx_queues, capabilities.tx_queues, capabilities.rss)
    };
    let entries = usize::from(port.capabilities().reta_size);
    let steering = Steering::new(shards, entries);
    let has_queue_for_each = rx_queues == u16::from(shards);
    let (steering, by_ports) = if has_rss && has_queue_for_each {
        agree(&port, steering)
    } else if rx_queues == 1 {
        (steering, PortSpread::OneQueue)
    } else {
        (steering, PortSpread::Otherwise)
    };
    let by_id = if has_queue_for_each {
        match port.add_flow_rules(&id_rules(config)) {
            Ok(form) => IdRules::Taken(form),
            Err(error) => IdRules::Refused(error.to_string()),
        }
    } else {
        IdRules::NotAsked
    };
    let arrival = Arrival { by_ports, by_id };
    log::info!(
        "port {}: {shards} shards, {rx_queues} receive and {tx_queues} transmit queues; {arrival}; \
         what arrives at the wrong shard is passed on",
        port.spec()
    );
    Ok((port, steering, arrival))
}

/// Brings the redirection table of the port and ours together: ours if it takes that, else its own.
fn agree(port: &Port, steering: Steering) -> (Steering, PortSpread) {
    let ours: Vec<u16> = steering.table().iter().map(|&shard| shard.into()).collect();
    match port.set_redirection_table(&ours) {
        Ok(()) => return (steering, PortSpread::OurTable),
        Err(error) => log::debug!("{error}"),
    }
    match port.redirection_table() {
        Ok(theirs) if !theirs.is_empty() => {
            // Queue i is that of shard i.
            let table = theirs.iter().map(|&queue| queue as u8).collect();
            (steering.with_table(table), PortSpread::TableOfPort)
        }
        _ => (steering, PortSpread::Otherwise),
    }
}

/// Rules that bring packets about RPCs of ours to the shards in their ids: for each shard, and each form
/// in which frames come to us.
fn id_rules(config: &NodeConfig) -> Vec<FlowRule> {
    let tags: &[bool] = match (config.net.vlan, config.net.vlan_accept_untagged) {
        (None, _) => &[false],
        (Some(_), false) => &[true],
        (Some(_), true) => &[true, false],
    };
    let speaks = |is_ipv6| {
        let mut addresses = config.net.addresses.iter();
        addresses.any(|address| address.ip.is_ipv6() == is_ipv6)
    };
    let mut rules = Vec::new();
    for is_ipv6 in [false, true].into_iter().filter(|&is_ipv6| speaks(is_ipv6)) {
        for &has_vlan in tags {
            rules.extend((0..config.shards()).map(|shard| {
                let bytes = HeaderBytes::of_own_rpcs(shard);
                FlowRule {
                    has_vlan,
                    is_ipv6,
                    protocol: HOMA_PROTOCOL,
                    offset_bytes: bytes.offset_bytes,
                    spec: bytes.spec.to_vec(),
                    mask: bytes.mask.to_vec(),
                    queue: shard.into(),
                }
            }));
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_a_rule_for_each_form_of_frames() {
        let device = "null".parse().expect("a device");
        let mut config = NodeConfig::new(device, [10, 0, 0, 1], 24);
        config.cpus = vec![0; 4];
        let forms = |config: &NodeConfig| {
            let rules = id_rules(config);
            let queues: Vec<u16> = rules.iter().map(|rule| rule.queue).collect();
            let forms = rules.len() / 4;
            assert_eq!(queues, [0, 1, 2, 3].repeat(forms));
            assert!(rules.iter().all(|rule| u16::from(rule.spec[0]) == rule.queue));
            let first = rules.iter().step_by(4);
            first.map(|rule| (rule.is_ipv6, rule.has_vlan)).collect::<Vec<_>>()
        };
        assert_eq!(forms(&config), [(false, false)]);
        config.net.addresses.push("fd00::1/64".parse().expect("an address"));
        assert_eq!(forms(&config), [(false, false), (true, false)]);
        config.net.vlan = Some(5);
        assert_eq!(forms(&config), [(false, true), (true, true)]);
        config.net.vlan_accept_untagged = true;
        config.net.addresses.remove(0);
        assert_eq!(forms(&config), [(true, true), (true, false)]);
    }

    #[test]
    fn what_was_got_is_said() {
        let by_id = IdRules::Taken(FlowForm::BehindHeaders);
        let got = Arrival { by_ports: PortSpread::OurTable, by_id };
        assert!(got.has_id_rules() && got.to_string().contains("bytes behind the IP header"));
        let refused = IdRules::Refused("device x: the driver has no rules".into());
        let got = Arrival { by_ports: PortSpread::Otherwise, by_id: refused };
        assert!(
            !got.has_id_rules() && got.to_string().ends_with("(device x: the driver has no rules)")
        );
        assert_eq!(Arrival::ONE_SHARD.to_string(), "one shard gets all");
    }
}
