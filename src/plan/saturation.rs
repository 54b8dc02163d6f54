//! A pool all of whose workers are busy: for how long, how many wait meanwhile, how long the one who waits longest does,
//! and who is better told at once that nobody will be there for him.
//!
//! The kernel tells how many wait, and nothing of since when. But they are taken in the order in which they came: who is
//! the last of the queue at one look has gone when as many have been taken as waited then. So each look is remembered
//! with the count at which that will be, until it is.

use crate::scale::{Census, Limits};
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How often the queue of a saturated pool is looked at, at first; where it must not be too long, all the time.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often it is when that goes on, and nothing is done about its length.
const CALM_INTERVAL: Duration = Duration::from_secs(1);

/// A wait is told to this part of the episode.
const PRECISION: u32 = 16;

/// Looks that are remembered at one time. While all of them wait to be over, later ones, whose wait is shorter, are not.
const MARKS: usize = 256;

/// From all workers being busy to not having been for a while.
#[derive(Clone, Debug)]
pub struct Episode {
    since: Time,
    deepest: u32,
    longest: Duration,
    /// When who was the last had come at the latest, and how many will have been taken with him.
    marks: VecDeque<(Time, u64)>,
    look_at: Time,
}

/// What is told of one that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How long it has lasted.
    pub length: Duration,
    /// Most connections that were seen waiting.
    pub deepest: u32,
    /// How long one of them has waited at least, by looks at the queue.
    pub longest: Duration,
}

impl Episode {
    /// One that begins.
    #[must_use]
    pub fn begin(now: Time) -> Self {
        Self {
            since: now,
            deepest: 0,
            longest: Duration::ZERO,
            marks: VecDeque::new(),
            look_at: now,
        }
    }

    /// When to look at the queue.
    #[must_use]
    pub fn look_at(&self) -> Time {
        self.look_at
    }

    /// Takes in that `queue` connections wait, and that `taken` have been taken out of the queue since the pool was made.
    /// With `limited` somebody who is too many is to be found soon.
    pub fn look(&mut self, now: Time, queue: u32, taken: u64, limited: bool) {
        let calm = (now.since(self.since) / PRECISION).clamp(LOOK_INTERVAL, CALM_INTERVAL);
        self.look_at = now + if limited { LOOK_INTERVAL } else { calm };
        self.deepest = self.deepest.max(queue);
        while let Some(&(seen, last)) = self.marks.front() {
            // Also who waits still has waited for so long.
            self.longest = self.longest.max(now.since(seen));
            if queue > 0 && last > taken {
                break;
            }
            self.marks.pop_front();
        }
        if queue > 0 && self.marks.len() < MARKS {
            self.marks
                .push_back((now, taken.saturating_add(u64::from(queue))));
        }
    }

    /// It is over.
    #[must_use]
    pub fn end(&self, now: Time) -> Summary {
        Summary {
            length: now.since(self.since),
            deepest: self.deepest,
            longest: self.longest,
        }
    }
}

/// How many of `queue` connections that wait are more than `most`, while everybody who might take them is busy and
/// nobody can come to help. Without `most` as many may wait as the kernel lets.
#[must_use]
pub fn surplus(limits: &Limits, census: &Census, queue: u32, most: Option<u32>) -> u32 {
    let is_full = census.idle + census.starting == 0 && census.total() >= limits.max_children;
    match most {
        Some(most) if is_full => queue.saturating_sub(most),
        Some(_) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Mode;

    #[test]
    fn surplus_by_table() {
        let limits = Limits {
            mode: Mode::Static,
            max_children: 4,
            max_spawn_rate: 32,
        };
        #[rustfmt::skip]
        let table = [
            // (starting, idle, busy, retiring), queue, most, surplus, why
            ((0, 0, 4, 0), 9, Some(5), 4, "who is more than may wait"),
            ((0, 0, 4, 0), 5, Some(5), 0, "as many as may wait"),
            ((0, 0, 4, 0), 3, Some(0), 3, "nobody may wait"),
            ((0, 0, 4, 0), 9, None, 0, "anybody may wait"),
            ((0, 1, 3, 0), 9, Some(5), 0, "somebody is about to take them"),
            ((1, 0, 3, 0), 9, Some(5), 0, "somebody comes"),
            ((0, 0, 3, 0), 9, Some(5), 0, "somebody could come"),
            ((0, 0, 3, 1), 9, Some(5), 4, "who leaves takes nobody, and his place is not free yet"),
            ((0, 0, 0, 4), 9, Some(5), 4, "all leave"),
        ];
        for ((starting, idle, busy, retiring), queue, most, expected, why) in table {
            let census = Census {
                starting,
                idle,
                busy,
                retiring,
            };
            assert_eq!(surplus(&limits, &census, queue, most), expected, "{why}");
        }
    }

    /// Looks at a queue: its length and how many have been taken, one interval apart.
    fn seen(looks: &[(u32, u64)]) -> Summary {
        let mut now = Time(0);
        let mut episode = Episode::begin(now);
        for &(queue, taken) in looks {
            now = episode.look_at();
            episode.look(now, queue, taken, true);
        }
        episode.end(now)
    }

    #[test]
    fn the_longest_wait_by_table() {
        #[rustfmt::skip]
        let table = [
            // looks, deepest, longest wait in intervals, why
            (&[(0, 0), (0, 3), (0, 9)][..], 0, 0, "nobody waits"),
            (&[(2, 0), (0, 2)], 2, 1, "both were taken at once"),
            (&[(2, 0), (1, 1), (1, 1), (0, 2)], 2, 3, "the second one waited"),
            (&[(2, 0), (2, 1), (2, 2), (2, 3), (2, 4)], 2, 2, "a queue that moves on"),
            (&[(1, 0), (1, 0), (1, 0)], 1, 2, "he waits still"),
            (&[(5, 7), (0, 7)], 5, 1, "they have gone by themselves"),
        ];
        for (looks, deepest, intervals, why) in table {
            let summary = seen(looks);
            assert_eq!(summary.deepest, deepest, "{why}");
            assert_eq!(summary.longest, LOOK_INTERVAL * intervals, "{why}");
            let spans = u32::try_from(looks.len()).expect("few") - 1;
            assert_eq!(summary.length, LOOK_INTERVAL * spans);
        }
    }

    #[test]
    fn looks_get_rare_where_nothing_follows_from_them() {
        let mut episode = Episode::begin(Time(0));
        let end = Time(0) + Duration::from_secs(60);
        let mut looks = 0;
        while episode.look_at() < end {
            let now = episode.look_at();
            // Somebody comes at 0.2 s and is taken at 0.5 s; another waits from 20 s to 30 s.
            let at = now.since(Time(0));
            let waits = |from: u64, to: u64| {
                at >= Duration::from_millis(from) && at < Duration::from_millis(to)
            };
            let queue = u32::from(waits(200, 500) || waits(20_000, 30_000));
            let taken = u64::from(at.as_millis() >= 500) + u64::from(at.as_secs() >= 30);
            episode.look(now, queue, taken, false);
            if at < Duration::from_secs(20) && at > Duration::from_secs(1) {
                let first = episode.end(now).longest.as_millis();
                assert!((200..=350).contains(&first), "{first}");
            }
            looks += 1;
        }
        assert!((60..130).contains(&looks), "{looks}");
        let longest = episode.end(end).longest.as_secs_f64();
        assert!((8.0..11.0).contains(&longest), "{longest}");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_counts() {
        let mut episode = Episode::begin(Time(0));
        for _ in 0..10 * MARKS {
            episode.look(episode.look_at(), 1, 0, true);
        }
        assert_eq!(episode.marks.len(), MARKS);
        let now = episode.look_at();
        episode.look(now, 0, 1, true);
        assert_eq!(episode.end(now).longest, now.since(Time(0)));
        assert!(episode.marks.is_empty());
    }
}
