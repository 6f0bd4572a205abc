//! Sets the port up so that packets arrive at the shard they belong to, as far as the port can.

use crate::dpdk::{Eal, Port, PortBuilder};
use crate::net::{RSS_KEY, Steering};

use super::NodeError;

/// Opens device `index` with a pair of queues for each shard, or as many as it has; gives the port and
/// the function that says where packets belong, which agrees with the port as far as possible. What
/// was got is reported in the log.
pub(super) fn open(
    builder: PortBuilder,
    eal: &Eal,
    index: usize,
    shards: u8,
) -> Result<(Port, Steering), NodeError> {
    if shards == 1 {
        return Ok((builder.open(eal, index)?, Steering::new(1, 0)));
    }
    let builder = builder.queues_up_to(eal, index, shards.into())?;
    let port = builder.rss_with(eal, index, &RSS_KEY)?.open(eal, index)?;
    let (rx_queues, tx_queues, has_rss) = {
        let capabilities = port.capabilities();
        (capabilities.rx_queues, capabilities.tx_queues, capabilities.rss)
    };
    let entries = usize::from(port.capabilities().reta_size);
    let steering = Steering::new(shards, entries);
    let (steering, spread) = if has_rss && rx_queues == u16::from(shards) {
        agree(&port, steering)
    } else if rx_queues == 1 {
        (steering, "one queue, polled in turns")
    } else {
        (steering, "no hash of the port that could be used")
    };
    log::info!(
        "port {}: {shards} shards, {rx_queues} receive and {tx_queues} transmit queues; {spread}; \
         what arrives at the wrong shard is passed on",
        port.spec()
    );
    Ok((port, steering))
}

/// Brings the redirection table of the port and ours together: ours if it takes that, else its own.
fn agree(port: &Port, steering: Steering) -> (Steering, &'static str) {
    let ours: Vec<u16> = steering.table().iter().map(|&shard| shard.into()).collect();
    match port.set_redirection_table(&ours) {
        Ok(()) => return (steering, "marked TCP arrives at its shard"),
        Err(error) => log::debug!("{error}"),
    }
    match port.redirection_table() {
        Ok(theirs) if !theirs.is_empty() => {
            // Queue i is that of shard i.
            let table = theirs.iter().map(|&queue| queue as u8).collect();
            (steering.with_table(table), "marked TCP arrives at its shard, by the port's own table")
        }
        _ => (steering, "spread by the port in a way of its own"),
    }
}
