//! Our claim to our address: announced at the start, defended against others (RFC 5227).

use crate::time::Nanos;

/// RFC 5227 section 1.1: ANNOUNCE_NUM and ANNOUNCE_INTERVAL.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Nanos = Nanos::from_secs(2);
/// RFC 5227 section 1.1: DEFEND_INTERVAL.
const DEFEND_INTERVAL: Nanos = Nanos::from_secs(10);

#[derive(Debug)]
pub(super) struct Claim {
    announcements_left: u8,
    announce_at: Nanos,
    /// A conflict before this time is neither told nor answered.
    quiet_until: Nanos,
}

impl Claim {
    /// With `announce`, the first announcement is due at once.
    pub(super) const fn new(announce: bool) -> Self {
        let announcements_left = if announce { ANNOUNCEMENTS } else { 0 };
        Self { announcements_left, announce_at: Nanos::ZERO, quiet_until: Nanos::ZERO }
    }

    /// Starts over, as after a link came up.
    pub(super) const fn restart(&mut self, now: Nanos) {
        self.announcements_left = ANNOUNCEMENTS;
        self.announce_at = now;
    }

    /// When the next announcement is due, [`Nanos::MAX`] for never.
    pub(super) const fn deadline(&self) -> Nanos {
        if self.announcements_left == 0 { Nanos::MAX } else { self.announce_at }
    }

    /// Whether to announce the address now.
    pub(super) fn is_due(&mut self, now: Nanos) -> bool {
        let is_due = now >= self.deadline();
        if is_due {
            self.announcements_left -= 1;
            self.announce_at = now + ANNOUNCE_INTERVAL;
        }
        is_due
    }

    /// Another station uses the address: whether to tell and to defend it.
    pub(super) fn contest(&mut self, now: Nanos) -> bool {
        let is_news = now >= self.quiet_until;
        if is_news {
            self.quiet_until = now + DEFEND_INTERVAL;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_announcements_two_seconds_apart() {
        let mut claim = Claim::new(true);
        assert_eq!(claim.deadline(), Nanos::ZERO);
        let start = Nanos::from_secs(100);
        assert!(claim.is_due(start));
        assert!(!claim.is_due(start + Nanos::from_ms(1_999)));
        assert_eq!(claim.deadline(), start + Nanos::from_secs(2));
        assert!(claim.is_due(start + Nanos::from_secs(2)));
        assert_eq!(claim.deadline(), Nanos::MAX);
        assert!(!claim.is_due(start + Nanos::from_secs(1_000)));
        claim.restart(start);
        assert!(claim.is_due(start));
    }

    #[test]
    fn silent_when_not_asked_for() {
        let mut claim = Claim::new(false);
        assert_eq!(claim.deadline(), Nanos::MAX);
        assert!(!claim.is_due(Nanos::from_secs(1)));
    }

    #[test]
    fn one_defence_in_ten_seconds() {
        let mut claim = Claim::new(false);
        let start = Nanos::from_secs(1);
        assert!(claim.contest(start));
        assert!(!claim.contest(start + Nanos::from_ms(9_999)));
        assert!(claim.contest(start + Nanos::from_secs(10)));
    }
}
