//! Cutoffs computed from a workload: the split that hosts which measure their traffic arrive at.

use crate::load::workload::Workload;
use crate::wire::NUM_PRIORITIES;

/// What a frame costs beside its payload, in bytes, in the simulations of the Homa paper.
const OVERHEAD_BYTES: f64 = 96.0;
const FRAME_BYTES_MIN: f64 = 84.0;

/// Priority levels split between unscheduled and scheduled packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Levels for unscheduled packets, from the top.
    pub unscheduled: u8,
    /// Largest message of each level; the scheduled levels and the lowest unscheduled one take all.
    pub cutoffs: [u32; NUM_PRIORITIES],
}

/// The split of `num_priorities` levels for `workload`: unscheduled packets get a share of the levels
/// that is their share of the bytes, at least one level and not all (`fixed` levels if that is not
/// 0), and each of these levels carries the same number of bytes (SIGCOMM 2018, section 3.4). Bytes
/// are counted on the wire.
pub fn levels(
    workload: &Workload,
    num_priorities: u8,
    fixed: u8,
    unsched_bytes: u32,
    segment_bytes: u32,
) -> Levels {
    let wire = |bytes: u32| {
        let packets = f64::from(bytes.div_ceil(segment_bytes));
        if bytes == 0 {
            0.0
        } else {
            (f64::from(bytes) + packets * OVERHEAD_BYTES).max(FRAME_BYTES_MIN)
        }
    };
    // (largest message, unscheduled bytes per message drawn) of each row.
    let mut shares = Vec::with_capacity(workload.rows().len());
    let (mut below, mut unscheduled, mut total) = (0.0, 0.0, 0.0);
    for row in workload.rows() {
        let probability = row.cdf - below;
        below = row.cdf;
        let first = probability * wire(row.size_bytes.min(unsched_bytes));
        shares.push((row.size_bytes, first));
        unscheduled += first;
        total += probability * wire(row.size_bytes);
    }
    let levels = usize::from(num_priorities);
    let most = levels.saturating_sub(1).max(1);
    let wanted = match fixed {
        0 => (levels as f64 * unscheduled / total).round() as usize,
        fixed => usize::from(fixed),
    };
    let count = wanted.clamp(1, most);
    let mut cutoffs = [0; NUM_PRIORITIES];
    let (mut sum, mut level) = (0.0, levels - 1);
    let lowest = levels - count;
    for (size_bytes, bytes) in shares {
        sum += bytes;
        while level > lowest && sum >= unscheduled * (levels - level) as f64 / count as f64 {
            cutoffs[level] = size_bytes;
            level -= 1;
        }
    }
    cutoffs[..=lowest].fill(i32::MAX as u32);
    Levels { unscheduled: count as u8, cutoffs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Levels {
        levels(&Workload::embedded(name).unwrap(), 8, 0, 10_094, 1_442)
    }

    #[test]
    fn short_messages_take_most_levels_and_long_ones_few() {
        let counts: Vec<u8> =
            ["w1", "w2", "w3", "w4", "w5"].iter().map(|name| of(name).unscheduled).collect();
        // The share of unscheduled bytes falls from workload to workload (SIGCOMM 2018, figure 21
        // uses 7 levels for W1 and 1 for W4 and W5).
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
        assert_eq!((counts[0], counts[3], counts[4]), (7, 1, 1));
    }

    #[test]
    fn levels_carry_equal_bytes() {
        // Sizes 1 to 1000, all as likely.
        let rows: String = (1..=1_000).map(|i| format!("{i},{}\n", f64::from(i) / 1e3)).collect();
        let workload = Workload::from_csv("uniform", &rows).unwrap();
        let Levels { cutoffs, unscheduled } = levels(&workload, 8, 4, 10_094, 1_442);
        assert_eq!(unscheduled, 4);
        assert_eq!(cutoffs[..5], [i32::MAX as u32; 5]);
        let mut from = 0;
        let mut sums = Vec::new();
        for &to in [cutoffs[7], cutoffs[6], cutoffs[5], 1_000].iter() {
            sums.push((from + 1..=to).map(|size| (size + 96).max(84)).sum::<u32>());
            from = to;
        }
        let mean = sums.iter().sum::<u32>() / 4;
        assert!(sums.iter().all(|&sum| sum.abs_diff(mean) < mean / 50), "{sums:?} in {cutoffs:?}");
    }

    #[test]
    fn one_priority_takes_everything() {
        let workload = Workload::embedded("w1").unwrap();
        let one = levels(&workload, 1, 0, 10_094, 1_442);
        assert_eq!((one.unscheduled, one.cutoffs[0]), (1, i32::MAX as u32));
    }
}
