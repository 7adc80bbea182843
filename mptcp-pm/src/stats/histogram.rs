//! Round-trip times of late, in as little room as thousands of subflows allow; and what was below of all.
use mptcp_common::path_stats::RttHistogram;

use super::clock::WINDOWS;
use super::windows::{CURRENT, PREVIOUS};

pub(super) const BUCKETS: usize = RttHistogram::BUCKETS;

/// What a histogram grew by, in the slots of all windows. Counts are in units of a power of two, as fine as sixteen bits
/// allow: of a bucket, less than two of 32,768 units get lost. A path's times lie close together, so only those buckets are
/// kept that ever had one.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    rows: Box<[Row]>,
    /// Which buckets the rows are of, in their order: a bit for each.
    known: u32,
    /// The unit's logarithm in each slot.
    shifts: [[u8; 2]; WINDOWS],
}

/// One bucket.
#[derive(Clone, Debug, Default)]
struct Row {
    /// What the histogram has in it.
    total: u32,
    counts: [[u16; 2]; WINDOWS],
}

impl Recent {
    /// Begins to count where a histogram stands.
    pub(super) fn since(origin: &RttHistogram) -> Self {
        let counted = origin.buckets.iter().enumerate().filter(|(_, count)| **count != 0);
        let known = counted.clone().fold(0, |known, (bucket, _)| known | 1 << bucket);
        let rows = counted.map(|(_, count)| Row { total: *count, ..Row::default() }).collect();
        Self { rows, known, ..Self::default() }
    }

    /// Takes in the histogram as it is now; tells each bucket that has grown, and by how much. The kernel's counts wrap.
    pub(super) fn follow(&mut self, now: &RttHistogram, mut grown: impl FnMut(usize, u32)) {
        let mut place = 0;
        for (bucket, count) in now.buckets.iter().enumerate() {
            if self.known >> bucket & 1 == 0 {
                if *count == 0 {
                    continue;
                }
                self.insert(bucket, place);
            }
            let total = self.rows[place].total;
            if *count != total {
                grown(bucket, count.wrapping_sub(total));
                self.grow(place, *count);
            }
            place += 1;
        }
    }

    /// Begins to count in one more bucket. There are never many: the room is worth more than the time.
    fn insert(&mut self, bucket: usize, place: usize) {
        let mut rows = std::mem::take(&mut self.rows).into_vec();
        rows.reserve_exact(1);
        rows.insert(place, Row::default());
        self.rows = rows.into_boxed_slice();
        self.known |= 1 << bucket;
    }

    /// Adds to a bucket what it grew by. Taken from its own count, not from the difference, so that many small ones are
    /// not rounded away one by one.
    fn grow(&mut self, place: usize, now: u32) {
        for window in 0..WINDOWS {
            let sum = loop {
                match self.rows[place].sum(window, self.shifts[window][CURRENT], now) {
                    Some(sum) => break sum,
                    None => self.coarsen(window),
                }
            };
            self.rows[place].counts[window][CURRENT] = sum;
        }
        self.rows[place].total = now;
    }

    /// Doubles the unit of a window's current slot.
    fn coarsen(&mut self, window: usize) {
        self.rows.iter_mut().for_each(|row| row.counts[window][CURRENT] /= 2);
        self.shifts[window][CURRENT] += 1;
    }

    /// Begins a new slot of a window.
    pub(super) fn turn(&mut self, window: usize) {
        for row in &mut self.rows {
            row.counts[window] = [0, row.counts[window][CURRENT]];
        }
        self.shifts[window] = [0, self.shifts[window][CURRENT]];
    }

    /// How many samples a window has in both slots, about.
    pub(super) fn total(&self, window: usize) -> u64 {
        let sum = |slot: usize| {
            let counts = self.rows.iter().map(|row| u64::from(row.counts[window][slot]));
            counts.sum::<u64>() << self.shifts[window][slot]
        };
        sum(CURRENT) + sum(PREVIOUS)
    }

    /// The buckets of a slot, with their counts in samples.
    pub(super) fn each(&self, window: usize, slot: usize) -> impl Iterator<Item = (usize, u64)> {
        let shift = self.shifts[window][slot];
        let buckets = (0..BUCKETS).filter(|bucket| self.known >> bucket & 1 == 1);
        buckets
            .zip(&self.rows)
            .map(move |(bucket, row)| (bucket, u64::from(row.counts[window][slot]) << shift))
    }
}

impl Row {
    /// The count in a window's current slot together with the growth; none where it does not fit.
    fn sum(&self, window: usize, shift: u8, now: u32) -> Option<u16> {
        let below_unit = (1_u32 << shift) - 1;
        let units = now.wrapping_sub(self.total & !below_unit) >> shift;
        self.counts[window][CURRENT].checked_add(u16::try_from(units).ok()?)
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

    fn counts(recent: &Recent) -> [u64; BUCKETS] {
        let mut counts = [0; BUCKETS];
        recent.each(0, CURRENT).for_each(|(bucket, count)| counts[bucket] += count);
        counts
    }

    #[test]
    fn a_bucket_takes_as_many_bytes_as_its_counts_and_four() {
        assert_eq!(size_of::<Row>(), 2 * 2 * WINDOWS + 4);
    }

    #[test]
    fn without_samples_there_is_no_quantile() {
        assert_eq!(quantile(&[0; BUCKETS], 0.5), None);
    }

    #[test]
    fn rare_samples_survive_beside_many() {
        let (mut recent, mut histogram) = (Recent::default(), RttHistogram::default());
        let mut told = [0; BUCKETS];
        for _ in 0..600 {
            histogram.buckets[10] += 5000;
            histogram.buckets[15] += 1;
            recent.follow(&histogram, |bucket, grown| told[bucket] += grown);
        }
        assert_eq!(told, histogram.buckets);
        let counts = counts(&recent);
        let unit = 1 << recent.shifts[0][CURRENT];
        assert!((2_999_000..=3_000_000).contains(&counts[10]), "{counts:?}");
        assert!((600 - 2 * unit..=600).contains(&counts[15]), "{counts:?}, unit {unit}");
    }

    #[test]
    fn a_count_that_wraps_is_no_jump() {
        let mut histogram = RttHistogram::default();
        histogram.buckets[3] = u32::MAX - 5;
        let mut recent = Recent::since(&histogram);
        histogram.buckets[3] = 4;
        recent.follow(&histogram, |_, grown| assert_eq!(grown, 10));
        assert_eq!(recent.total(0), 10);
        histogram.buckets[3] = u32::MAX;
        recent.follow(&histogram, |_, grown| assert_eq!(grown, u32::MAX - 4));
        assert!(recent.total(0) > u64::from(u32::MAX) - (1 << 17), "{}", recent.total(0));
    }

    #[test]
    fn a_window_has_two_slots() {
        let mut histogram = histogram(&[100, 100, 5000]);
        let mut recent = Recent::default();
        recent.follow(&histogram, |_, _| {});
        recent.turn(0);
        histogram.buckets[RttHistogram::bucket(100)] += 7;
        recent.follow(&histogram, |_, _| {});
        let sums = |window: usize, slot| recent.each(window, slot).map(|(_, count)| count).sum::<u64>();
        assert_eq!((sums(0, CURRENT), sums(0, PREVIOUS), recent.total(0)), (7, 3, 10));
        assert_eq!((sums(1, CURRENT), sums(1, PREVIOUS)), (10, 0));
        recent.turn(0);
        recent.turn(0);
        assert_eq!((recent.total(0), recent.total(1)), (0, 10));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_factor_of_two(
            mut samples in prop::collection::vec(1_u32..16_000_000, 1..300),
            share in 0.01_f64..1.0,
        ) {
            let mut recent = Recent::default();
            recent.follow(&histogram(&samples), |_, _| {});
            let found = quantile(&counts(&recent), share).expect("there are samples") * 1e6;
            samples.sort_unstable();
            let rank = (share * samples.len() as f64).ceil() as usize;
            let truth = f64::from(samples[rank.max(1) - 1]);
            prop_assert!(found <= truth * 2.0 && found >= truth / 2.0, "{found} for {truth}");
        }
    }
}
