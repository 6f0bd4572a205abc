//! Making a failing plan smaller: fewer faults, calls and hosts, shorter messages, plain settings, as
//! long as the same rule is broken.

use super::plan::{CallPlan, Plan};
use super::{Report, run};

/// A plan as small as was found that breaks the rule that `plan` breaks, after at most `runs_max`
/// runs. A plan that breaks no rule stays as it is.
pub fn shrink(plan: &Plan, runs_max: usize) -> Plan {
    let Some(violation) = run(plan).violation else { return plan.clone() };
    let mut search = Search { best: plan.clone(), rule: violation.rule, runs_left: runs_max };
    loop {
        let before = search.runs_left;
        let smaller = search.remove_faults()
            | search.remove_calls()
            | search.remove_hosts()
            | search.simplify_calls()
            | search.simplify_hosts();
        if !smaller || search.runs_left == 0 || search.runs_left == before {
            return search.best;
        }
    }
}

/// Attempts with each smaller plan.
const DRAWS: usize = 4;

struct Search {
    best: Plan,
    rule: &'static str,
    runs_left: usize,
}

impl Search {
    /// Takes `candidate` as the best plan if it still fails, with the same draws during the run or
    /// with others: without a call, the packets that are lost are not the same ones.
    fn try_plan(&mut self, mut candidate: Plan) -> bool {
        for _ in 0..DRAWS {
            if self.runs_left == 0 {
                return false;
            }
            self.runs_left -= 1;
            let Report { violation, .. } = run(&candidate);
            if violation.is_some_and(|violation| violation.rule == self.rule) {
                self.best = candidate;
                return true;
            }
            candidate.seed = candidate.seed.wrapping_add(1 << 32);
        }
        false
    }

    fn try_change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.try_plan(candidate)
    }

    fn remove_faults(&mut self) -> bool {
        let mut smaller = false;
        for index in (0..self.best.faults.len()).rev() {
            smaller |= self.try_change(|plan| {
                plan.faults.remove(index);
            });
        }
        smaller
    }

    /// Removes runs of calls, long ones first.
    fn remove_calls(&mut self) -> bool {
        let mut smaller = false;
        let mut chunk = self.best.calls.len().div_ceil(2);
        while chunk > 0 {
            let mut start = 0;
            while start < self.best.calls.len() {
                let end = (start + chunk).min(self.best.calls.len());
                if self.try_change(|plan| drop(plan.calls.drain(start..end))) {
                    smaller = true;
                } else {
                    start = end;
                }
            }
            chunk /= 2;
        }
        smaller
    }

    /// Removes hosts that no call and no fault names; the rest stand in one rack.
    fn remove_hosts(&mut self) -> bool {
        let mut smaller = false;
        for host in (0..self.best.hosts.len() as u16).rev() {
            let used = self.best.calls.iter().any(|call| call.from == host || call.to == host)
                || self.best.faults.iter().any(|plan| plan.fault.names(host));
            if used || self.best.hosts.len() <= 2 {
                continue;
            }
            smaller |= self.try_change(|plan| {
                plan.hosts.remove(usize::from(host));
                for call in &mut plan.calls {
                    call.from -= u16::from(call.from > host);
                    call.to -= u16::from(call.to > host);
                }
                for plan in &mut plan.faults {
                    plan.fault.renumber_without(host);
                }
                plan.network.racks = 1;
                plan.network.spines = 0;
                plan.network.hosts_per_rack = plan.hosts.len() as u32;
            });
        }
        smaller
    }

    fn simplify_calls(&mut self) -> bool {
        let mut smaller = false;
        for index in 0..self.best.calls.len() {
            let changes: [fn(&mut CallPlan); 6] = [
                |call| call.request_bytes = call.request_bytes.div_ceil(2),
                |call| call.response_bytes = call.response_bytes.div_ceil(2),
                |call| call.abort_ns = None,
                |call| call.answer_ns = Some(0),
                |call| call.drop_at_head = false,
                |call| call.hold_ns = 0,
            ];
            for change in changes {
                let mut changed = self.best.calls[index].clone();
                change(&mut changed);
                if changed != self.best.calls[index] {
                    smaller |= self.try_change(|plan| plan.calls[index] = changed);
                }
            }
        }
        smaller
    }

    /// Gives hosts the settings of the others, which says which of them matter.
    fn simplify_hosts(&mut self) -> bool {
        let mut smaller = false;
        for index in 1..self.best.hosts.len() {
            let first = self.best.hosts[0].clone();
            if self.best.hosts[index] != first {
                smaller |= self.try_change(|plan| plan.hosts[index] = first);
            }
        }
        smaller
    }
}
