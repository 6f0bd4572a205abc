//! Deliberate faults of the transport, one at a time, which tests switch on to see whether the checkers
//! of the fault simulation find them. Outside of tests none of this is there.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A request is executed again although its end is remembered.
    SkipTombstones,
    /// The end of an RPC is remembered under a time long past.
    StaleEpoch,
    /// A shard that did not run forgets ended RPCs meanwhile.
    ForgetInStall,
    /// A packet that overlaps another is cut one byte short.
    GapOffByOne,
    /// A message is handed over when its last byte is missing.
    DeliverBeforeComplete,
    /// What is sent again is marked with the offset of the packet after it.
    ResendWrongOffset,
    /// Acks of responses are not looked at.
    IgnoreAcks,
    /// BUSY does not break the silence.
    IgnoreBusy,
    /// Answers to packets carry the id as the other side writes it.
    WrongRoleBit,
    /// Twice the budget is granted.
    GrantPastBudget,
    /// A message that is given up keeps its share of the budget.
    LeakBudget,
    /// The packets of a message that is given up stay on the account.
    LeakOnAbort,
    /// Closing a port leaves its RPCs.
    LeavePortOpen,
    /// Silence is without consequence.
    NeverGiveUp,
    /// The application is told twice that a call has failed.
    FailTwice,
    /// The limit of server RPCs is not looked at.
    NoServerLimit,
    /// A client that does not know an RPC stays silent when asked to confirm its response.
    NoAckForUnknown,
}

impl Mutation {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 17] = [
        Self::SkipTombstones,
        Self::StaleEpoch,
        Self::ForgetInStall,
        Self::GapOffByOne,
        Self::DeliverBeforeComplete,
        Self::ResendWrongOffset,
        Self::IgnoreAcks,
        Self::IgnoreBusy,
        Self::WrongRoleBit,
        Self::GrantPastBudget,
        Self::LeakBudget,
        Self::LeakOnAbort,
        Self::LeavePortOpen,
        Self::NeverGiveUp,
        Self::FailTwice,
        Self::NoServerLimit,
        Self::NoAckForUnknown,
    ];

    /// Whether the transport has this fault now.
    #[cfg(not(test))]
    #[inline(always)]
    pub(crate) const fn is_on(self) -> bool {
        false
    }

    /// Whether the transport has this fault now, on this thread.
    #[cfg(test)]
    pub(crate) fn is_on(self) -> bool {
        active::ON.get() == Some(self)
    }

    /// Does `work` with this fault in the transports of this thread.
    #[cfg(test)]
    pub(crate) fn during<T>(self, work: impl FnOnce() -> T) -> T {
        active::ON.set(Some(self));
        let result = work();
        active::ON.set(None);
        result
    }
}

#[cfg(test)]
mod active {
    use core::cell::Cell;

    thread_local! {
        pub(super) static ON: Cell<Option<super::Mutation>> = const { Cell::new(None) };
    }
}

#[cfg(test)]
mod tests {
    use super::Mutation;

    #[test]
    fn a_fault_is_there_during_its_work_alone() {
        let on = || Mutation::ALL.into_iter().filter(|mutation| mutation.is_on()).count();
        for mutation in Mutation::ALL {
            assert_eq!(mutation.during(|| (mutation.is_on(), on())), (true, 1));
            assert_eq!(on(), 0);
        }
    }
}
