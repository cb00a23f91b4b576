//! What the connection of a request observes and ureq cannot return beside its result. One request runs in one thread.

use std::cell::Cell;

thread_local! {
    static OBSERVED: Cell<Observed> = const { Cell::new(Observed::NOTHING) };
}

#[derive(Clone, Copy)]
pub(super) struct Observed {
    /// Whether the peer answered and ended the connection before it had all of the request.
    pub(super) cut_off: bool,
}

impl Observed {
    const NOTHING: Observed = Observed { cut_off: false };

    /// Begins a request of this thread.
    pub(super) fn reset() {
        OBSERVED.set(Observed::NOTHING);
    }

    /// Returns what was observed since the request of this thread began.
    pub(super) fn get() -> Observed {
        OBSERVED.get()
    }

    pub(super) fn note_cut_off() {
        let mut observed = OBSERVED.get();
        observed.cut_off = true;
        OBSERVED.set(observed);
    }
}
