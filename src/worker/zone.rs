//! The local time zone, as it was when the daemon read its configuration.
//!
//! A worker does not ask the C library for it: an application may have set another for itself (Django does), and a pool
//! in a chroot has no time zones at all.

/// When the local time is how far from UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(Vec<Span>);

/// A time with one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it begins, in seconds since the epoch.
    pub from: i64,
    /// Seconds east of UTC.
    pub offset: i32,
    /// The zone's name meanwhile, such as CET.
    pub name: String,
}

/// For how long ahead changes are looked up: longer than a daemon goes without a reload.
const AHEAD: i64 = 10 * 366 * DAY;

/// Changes of the offset lie further apart than this.
const STEP: i64 = 5 * DAY;

const DAY: i64 = 24 * 60 * 60;

impl Zone {
    /// No offset, ever.
    #[must_use]
    pub fn utc() -> Self {
        Self(vec![Span {
            from: i64::MIN,
            offset: 0,
            name: "UTC".into(),
        }])
    }

    /// From `now` on, in seconds since the epoch, for ten years. `look_up` gives the offset and the name at an instant.
    pub fn new(now: i64, look_up: impl Fn(i64) -> (i32, String)) -> Self {
        let span = |from, (offset, name)| Span { from, offset, name };
        let mut spans = vec![span(i64::MIN, look_up(now))];
        let mut at = now;
        while at < now.saturating_add(AHEAD) {
            let (mut before, mut after) = (at, at.saturating_add(STEP));
            let last = look_up(before);
            if look_up(after) != last {
                while after - before > 1 {
                    let middle = before + (after - before) / 2;
                    if look_up(middle) == last {
                        before = middle;
                    } else {
                        after = middle;
                    }
                }
                spans.push(span(after, look_up(after)));
            }
            at = at.saturating_add(STEP);
        }
        Self(spans)
    }

    /// From its parts, which are in order.
    #[must_use]
    pub fn from_spans(spans: Vec<Span>) -> Self {
        if spans.is_empty() {
            return Self::utc();
        }
        Self(spans)
    }

    /// Its parts, in order, at least one.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// The seconds east of UTC at an instant, and the zone's name then.
    #[must_use]
    pub fn at(&self, seconds: i64) -> (i32, &str) {
        let later = self.0.partition_point(|span| span.from <= seconds);
        let span = &self.0[later.saturating_sub(1)];
        (span.offset, &span.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_found_to_the_second() {
        let change = 1_806_000_000;
        let summer = |at: i64| {
            if at >= change {
                (7200, "CEST".to_owned())
            } else {
                (3600, "CET".to_owned())
            }
        };
        let zone = Zone::new(1_795_438_584, summer);
        assert_eq!(zone.spans().len(), 2);
        assert_eq!(zone.at(change - 1), (3600, "CET"));
        assert_eq!(zone.at(change), (7200, "CEST"));
        assert_eq!(zone.at(0), (3600, "CET"));
        assert_eq!(Zone::utc().at(0), (0, "UTC"));
        assert_eq!(Zone::from_spans(Vec::new()), Zone::utc());
    }
}
