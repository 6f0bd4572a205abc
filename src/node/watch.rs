//! Watches the callbacks of an application: which one runs, and which took too long.

use std::any::Any;

use crate::dpdk::Clock;
use crate::time::Nanos;

use super::app::{App, CallFailed, Request, RequestHead, Response, Verdict};
use super::cx::Cx;
use super::stats::Published;

/// A shard that stays in callbacks for longer than this in one turn keeps its peers waiting.
const SLOW: Nanos = Nanos::from_ms(1);
/// Turns between two looks at the time that `on_poll` takes: to read the clock costs as much as a poll.
const POLL_LOOKS: u32 = 16;

/// The callbacks of [`App`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Callback {
    /// The factory that builds the application.
    #[default]
    Build,
    /// [`App::on_start`].
    OnStart,
    /// [`App::on_request`].
    OnRequest,
    /// [`App::on_response`].
    OnResponse,
    /// [`App::on_request_head`].
    OnRequestHead,
    /// [`App::on_poll`].
    OnPoll,
    /// [`App::on_timer`].
    OnTimer,
    /// [`App::on_message`].
    OnMessage,
    /// [`App::on_stop`].
    OnStop,
    /// None: the node itself, or what the application drops at the end.
    None,
}

impl Callback {
    const ALL: [Self; 10] = [
        Self::Build,
        Self::OnStart,
        Self::OnRequest,
        Self::OnResponse,
        Self::OnRequestHead,
        Self::OnPoll,
        Self::OnTimer,
        Self::OnMessage,
        Self::OnStop,
        Self::None,
    ];

    pub(super) fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::None)
    }
}

impl std::fmt::Display for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Build => "its factory",
            Self::OnStart => "on_start",
            Self::OnRequest => "on_request",
            Self::OnResponse => "on_response",
            Self::OnRequestHead => "on_request_head",
            Self::OnPoll => "on_poll",
            Self::OnTimer => "on_timer",
            Self::OnMessage => "on_message",
            Self::OnStop => "on_stop",
            Self::None => "no callback",
        })
    }
}

/// The callback that took longest, of those that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCallback {
    /// Which one. If several ran in a turn, the last of them.
    pub callback: Callback,
    /// How long the callbacks of that turn took, in nanoseconds. Includes what the operating system
    /// ran in between.
    pub took_ns: u64,
}

/// An application under watch.
pub(super) struct Watched<'a, A> {
    pub(super) app: A,
    clock: Clock,
    published: &'a Published,
    /// What ran since the last look at the clock.
    ran: Option<Callback>,
    polls: u32,
    pub(super) slow: u64,
    pub(super) slowest: Option<SlowCallback>,
}

impl<'a, A: App> Watched<'a, A> {
    pub(super) fn new(app: A, clock: Clock, published: &'a Published) -> Self {
        Self { app, clock, published, ran: None, polls: 0, slow: 0, slowest: None }
    }

    #[inline]
    fn enter(&mut self, callback: Callback) {
        self.published.enter(callback);
        self.ran = Some(callback);
    }

    /// Looks at what has run since the time of this turn.
    #[inline]
    fn look(&mut self, since: Nanos) -> Nanos {
        let now = self.clock.now();
        let took = now.since(since);
        if let Some(callback) = self.ran.take()
            && took > SLOW
        {
            self.note_slow(callback, took);
        }
        now
    }

    #[cold]
    fn note_slow(&mut self, callback: Callback, took: Nanos) {
        self.slow += 1;
        if self.slowest.is_none_or(|slowest| slowest.took_ns < took.0) {
            self.slowest = Some(SlowCallback { callback, took_ns: took.0 });
        }
        if self.slow.is_power_of_two() {
            // Threads of shards are named after them.
            let shard = std::thread::current();
            // Not a warning: on a busy machine it was the scheduler, most often.
            log::info!(
                "{callback} took {took} on {} ({} so far), and its shard received nothing \
                 meanwhile: do the work on another thread or shard, or in smaller pieces; unless \
                 other programs use the CPU of the shard",
                shard.name().unwrap_or("a thread without a name"),
                self.slow
            );
        }
    }
}

impl<A: App> App for Watched<'_, A> {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        self.enter(Callback::OnStart);
        self.app.on_start(cx);
    }

    #[inline(always)]
    fn on_request(&mut self, cx: &mut Cx<'_>, request: Request) {
        self.enter(Callback::OnRequest);
        self.app.on_request(cx, request);
    }

    #[inline(always)]
    fn on_response(&mut self, cx: &mut Cx<'_>, response: Result<Response, CallFailed>) {
        self.enter(Callback::OnResponse);
        self.app.on_response(cx, response);
    }

    #[inline]
    fn on_request_head(&mut self, head: RequestHead<'_>) -> Verdict {
        self.enter(Callback::OnRequestHead);
        self.app.on_request_head(head)
    }

    #[inline]
    fn on_poll(&mut self, cx: &mut Cx<'_>) {
        let mut since = cx.now();
        self.polls += 1;
        let is_watched = self.polls >= POLL_LOOKS;
        if is_watched || self.ran.is_some() {
            since = self.look(since);
        }
        self.enter(Callback::OnPoll);
        self.app.on_poll(cx);
        if is_watched {
            self.polls = 0;
            self.look(since);
        }
        self.ran = None;
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: u64) {
        self.enter(Callback::OnTimer);
        let since = self.clock.now();
        self.app.on_timer(cx, token);
        self.look(since);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: u8, message: Box<dyn Any + Send>) {
        self.enter(Callback::OnMessage);
        self.app.on_message(cx, from, message);
    }

    fn on_stop(&mut self, cx: &mut Cx<'_>) {
        self.enter(Callback::OnStop);
        self.app.on_stop(cx);
    }
}
