//! What the connection of a request observes and ureq cannot return beside its result. One request runs in one thread.

use std::cell::Cell;

thread_local! {
    static OBSERVED: Cell<Observed> = const { Cell::new(Observed::NOTHING) };
}

#[derive(Clone, Copy)]
pub(super) struct Observed {
    /// Whether the peer answered and ended the connection before it had all of the request.
    pub(super) cut_off: bool,
    /// How many TLS handshakes succeeded: with a proxy, with the server inside its tunnel.
    pub(super) tls_handshakes: u32,
}

impl Observed {
    const NOTHING: Observed = Observed {
        cut_off: false,
        tls_handshakes: 0,
    };

    /// Begins a request of this thread.
    pub(super) fn reset() {
        OBSERVED.set(Observed::NOTHING);
    }

    /// Returns what was observed since the request of this thread began.
    pub(super) fn get() -> Observed {
        OBSERVED.get()
    }

    pub(super) fn note_cut_off() {
        OBSERVED.set(Observed {
            cut_off: true,
            ..Observed::get()
        });
    }

    pub(super) fn note_tls_handshake() {
        let known = Observed::get();
        OBSERVED.set(Observed {
            tls_handshakes: known.tls_handshakes + 1,
            ..known
        });
    }
}
