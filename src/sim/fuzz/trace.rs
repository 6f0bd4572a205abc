//! The story of a run, line by line.

use core::cell::RefCell;
use core::fmt;
use std::rc::Rc;

use crate::time::Nanos;

/// Where lines go, if anybody wants them.
#[derive(Clone, Default)]
pub(super) struct Trace(Option<Rc<RefCell<String>>>);

impl Trace {
    /// A trace that is kept.
    pub(super) fn kept() -> Self {
        Self(Some(Rc::default()))
    }

    /// Adds a line; `text` is made only if it is wanted.
    pub(super) fn line<T: fmt::Display>(&self, now: Nanos, text: impl FnOnce() -> T) {
        if let Some(lines) = &self.0 {
            let time = now.to_string();
            lines.borrow_mut().push_str(&format!("{time:>16}  {}\n", text()));
        }
    }

    /// All lines.
    pub(super) fn into_text(self) -> String {
        self.0.map(|lines| lines.take()).unwrap_or_default()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.0.is_some()).finish()
    }
}
