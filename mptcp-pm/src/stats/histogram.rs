//! Histograms of round-trip times: one slot's in fifty bytes, and what was below of all.
use mptcp_common::path_stats::RttHistogram;

pub(super) const BUCKETS: usize = RttHistogram::BUCKETS;

/// What a histogram grew by. Counts are in units of a power of two, as fine as sixteen bits allow: of a bucket, less
/// than two of 32,768 units get lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compact {
    counts: [u16; BUCKETS],
    /// The unit's logarithm.
    shift: u16,
}

impl Compact {
    /// Adds what a histogram grew by. Taken from its own count, not from the difference, so that many small ones are
    /// not rounded away one by one.
    pub(super) fn add(&mut self, before: &RttHistogram, after: &RttHistogram) {
        // One or two as a rule; the others stay as they are.
        let grown = || (0..BUCKETS).filter(|bucket| before.buckets[*bucket] != after.buckets[*bucket]);
        while grown().any(|bucket| self.sum(bucket, before, after).is_none()) {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.shift += 1;
        }
        for bucket in grown() {
            self.counts[bucket] = self.sum(bucket, before, after).unwrap_or(u16::MAX);
        }
    }

    /// A bucket's count with the growth; none where it does not fit. The kernel's counts wrap.
    fn sum(&self, bucket: usize, before: &RttHistogram, after: &RttHistogram) -> Option<u16> {
        let below_unit = (1_u32 << self.shift) - 1;
        let units = after.buckets[bucket].wrapping_sub(before.buckets[bucket] & !below_unit) >> self.shift;
        self.counts[bucket].checked_add(u16::try_from(units).ok()?)
    }

    /// How many samples there are, about.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum::<u64>() << self.shift
    }

    /// The counts, in samples.
    pub(super) fn each(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(|count| u64::from(*count) << self.shift)
    }
}

/// The round-trip time, seconds, that a share of the samples was below: interpolated inside its bucket, so within a
/// factor of two. None without samples.
pub(super) fn quantile(counts: &[u64; BUCKETS], share: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let wanted = share * total as f64;
    let mut below = 0.0;
    for (bucket, count) in counts.iter().map(|count| *count as f64).enumerate() {
        if count > 0.0 && below + count >= wanted {
            let least = if bucket == 0 { 0.0 } else { (1_u64 << bucket) as f64 };
            let end = (2_u64 << bucket) as f64;
            return Some((least + (wanted - below) / count * (end - least)) / 1e6);
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(samples: &[u32]) -> RttHistogram {
        let mut histogram = RttHistogram::default();
        samples.iter().for_each(|rtt| histogram.buckets[RttHistogram::bucket(*rtt)] += 1);
        histogram
    }

    #[test]
    fn a_slot_takes_fifty_bytes() {
        assert_eq!(size_of::<Compact>(), 50);
    }

    #[test]
    fn without_samples_there_is_no_quantile() {
        assert_eq!(quantile(&[0; BUCKETS], 0.5), None);
    }

    #[test]
    fn rare_samples_survive_beside_many() {
        let (mut slot, mut before) = (Compact::default(), RttHistogram::default());
        for _ in 0..600 {
            let mut after = before;
            after.buckets[10] += 5000;
            after.buckets[15] += 1;
            slot.add(&before, &after);
            before = after;
        }
        let counts: Vec<u64> = slot.each().collect();
        let unit = 1 << slot.shift;
        assert!((2_999_000..=3_000_000).contains(&counts[10]), "{counts:?}");
        assert!((600 - 2 * unit..=600).contains(&counts[15]), "{counts:?}, unit {unit}");
    }

    #[test]
    fn a_count_that_wraps_is_no_jump() {
        let (mut before, mut after) = (RttHistogram::default(), RttHistogram::default());
        before.buckets[3] = u32::MAX - 5;
        after.buckets[3] = 4;
        let mut slot = Compact::default();
        slot.add(&before, &after);
        assert_eq!(slot.total(), 10);
        after.buckets[3] = u32::MAX;
        slot.add(&RttHistogram::default(), &after);
        assert!(slot.total() > u64::from(u32::MAX) - (1 << 17), "{}", slot.total());
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_factor_of_two(
            mut samples in prop::collection::vec(1_u32..16_000_000, 1..300),
            share in 0.01_f64..1.0,
        ) {
            let mut slot = Compact::default();
            slot.add(&RttHistogram::default(), &histogram(&samples));
            let counts = std::array::from_fn(|bucket| slot.each().nth(bucket).expect("it has all"));
            let found = quantile(&counts, share).expect("there are samples") * 1e6;
            samples.sort_unstable();
            let rank = (share * samples.len() as f64).ceil() as usize;
            let truth = f64::from(samples[rank.max(1) - 1]);
            prop_assert!(found <= truth * 2.0 && found >= truth / 2.0, "{found} for {truth}");
        }
    }
}
