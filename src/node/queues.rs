//! The queues of the port as a shard uses them: its own, or one that several shards take turns at.

use std::sync::{Arc, Mutex, TryLockError};

use crate::dpdk::{Port, RxBurst, RxQueue, TxBurst, TxQueue};

use super::NodeError;

/// Where a shard receives.
#[derive(Debug)]
pub(super) enum RxSource {
    /// A queue of its own.
    Own(RxQueue),
    /// A queue that whoever has time polls. Trying the lock never waits and calls nobody.
    Turns(Arc<Mutex<RxQueue>>),
}

impl RxSource {
    #[inline]
    pub(super) fn rx_burst<const N: usize>(
        &mut self,
        burst: &mut RxBurst<N>,
        most: usize,
    ) -> usize {
        match self {
            Self::Own(queue) => queue.rx_burst_of(burst, most),
            Self::Turns(queue) => {
                with_turn(queue, |queue| queue.rx_burst_of(burst, most)).unwrap_or(0)
            }
        }
    }
}

/// Where a shard sends.
#[derive(Debug)]
pub(super) enum TxSource {
    /// A queue of its own.
    Own(TxQueue),
    /// A queue that shards send through in turn; who has no turn keeps its packets for the next.
    Turns(Arc<Mutex<TxQueue>>),
}

impl TxSource {
    #[inline]
    pub(super) fn flush<const N: usize>(&mut self, burst: &mut TxBurst<N>) -> usize {
        match self {
            Self::Own(queue) => burst.flush(queue),
            Self::Turns(queue) => with_turn(queue, |queue| burst.flush(queue)).unwrap_or(0),
        }
    }

    /// Packets the port could not send; of a shared queue, those of all shards.
    pub(super) fn unsendable(&self) -> u64 {
        match self {
            Self::Own(queue) => queue.unsendable(),
            Self::Turns(queue) => with_turn(queue, |queue| queue.unsendable()).unwrap_or(0),
        }
    }

    pub(super) fn reclaim(&mut self) {
        match self {
            Self::Own(queue) => queue.reclaim(),
            Self::Turns(queue) => with_turn(queue, TxQueue::reclaim).unwrap_or(0),
        };
    }
}

fn with_turn<Q, R>(queue: &Mutex<Q>, use_it: impl FnOnce(&mut Q) -> R) -> Option<R> {
    match queue.try_lock() {
        Ok(mut queue) => Some(use_it(&mut queue)),
        // A shard that panicked in its turn leaves the queue as the driver left it.
        Err(TryLockError::Poisoned(queue)) => Some(use_it(&mut queue.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Deals the queues of the port out to `shards` shards. With fewer queues than shards, shard i takes
/// turns at queue i modulo their number.
pub(super) fn deal(port: &mut Port, shards: u8) -> Result<Vec<(RxSource, TxSource)>, NodeError> {
    let shards = usize::from(shards);
    let (rx_queues, tx_queues) = (port.capabilities().rx_queues, port.capabilities().tx_queues);
    let rx: Option<Vec<RxQueue>> = (0..rx_queues).map(|id| port.take_rx_queue(id)).collect();
    let tx: Option<Vec<TxQueue>> = (0..tx_queues).map(|id| port.take_tx_queue(id)).collect();
    let (Some(rx), Some(tx)) = (rx, tx) else {
        return Err(NodeError::Config(format!("{}: the node has run before", port.spec())));
    };
    let rx = spread(rx, shards, RxSource::Own, RxSource::Turns);
    let tx = spread(tx, shards, TxSource::Own, TxSource::Turns);
    Ok(rx.into_iter().zip(tx).collect())
}

fn spread<Q, S>(
    queues: Vec<Q>,
    shards: usize,
    own: impl Fn(Q) -> S,
    turns: impl Fn(Arc<Mutex<Q>>) -> S,
) -> Vec<S> {
    let count = queues.len().max(1);
    let mut sources: Vec<(usize, S)> = Vec::with_capacity(shards);
    for (at, queue) in queues.into_iter().enumerate().take(shards) {
        if at + count >= shards {
            sources.push((at, own(queue)));
            continue;
        }
        let queue = Arc::new(Mutex::new(queue));
        let users = (at..shards).step_by(count);
        sources.extend(users.map(|shard| (shard, turns(Arc::clone(&queue)))));
    }
    sources.sort_by_key(|(shard, _)| *shard);
    sources.into_iter().map(|(_, source)| source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Source {
        Own(u8),
        Turns(u8),
    }

    #[test]
    fn every_shard_has_a_queue_and_shares_only_if_it_must() {
        let deal = |queues: u8, shards| {
            let turns = |queue: Arc<Mutex<u8>>| Source::Turns(*queue.lock().unwrap());
            spread((0..queues).collect(), shards, Source::Own, turns)
        };
        assert_eq!(deal(1, 1), [Source::Own(0)]);
        assert_eq!(deal(2, 2), [Source::Own(0), Source::Own(1)]);
        assert_eq!(deal(1, 3), [Source::Turns(0), Source::Turns(0), Source::Turns(0)]);
        assert_eq!(deal(2, 3), [Source::Turns(0), Source::Own(1), Source::Turns(0)]);
        assert_eq!(deal(4, 2), [Source::Own(0), Source::Own(1)]);
    }
}
