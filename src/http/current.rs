//! The request of this thread: the limits that ureq would take only with a configuration of its own, and what the connection
//! observes and ureq cannot return beside its result.
//!
//! With a configuration of its own, a request would set TLS up anew: with the roots of the system, and without sessions to
//! resume. A request runs in one thread, from its first call of ureq to the end of the response.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ureq::Timeout;
use ureq::unversioned::transport::NextTimeout;

use super::limits::MAX_TIMEOUT;

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
pub(super) struct Current {
    pub(super) started: Instant,
    /// How long the request may take.
    pub(super) timeout: Duration,
    /// How long connecting may take, after the DNS lookup.
    pub(super) connect_timeout: Duration,
    /// Whether it must not use a connection that was open before it.
    pub(super) new_connection: bool,
    /// Whether the peer answered and ended the connection before it had all of the request.
    pub(super) cut_off: bool,
    /// How many TLS handshakes succeeded: with a proxy, with the server inside its tunnel.
    pub(super) tls_handshakes: u32,
}

impl Current {
    /// Begins a request of this thread.
    pub(super) fn begin(timeout: Duration, connect_timeout: Duration, new_connection: bool) {
        CURRENT.set(Some(Current::new(timeout, connect_timeout, new_connection)));
    }

    fn new(timeout: Duration, connect_timeout: Duration, new_connection: bool) -> Current {
        Current {
            started: Instant::now(),
            timeout,
            connect_timeout,
            new_connection,
            cut_off: false,
            tls_handshakes: 0,
        }
    }

    /// Returns the request of this thread. Tests may have none: then, nothing is limited.
    pub(super) fn get() -> Current {
        CURRENT
            .get()
            .unwrap_or_else(|| Current::new(MAX_TIMEOUT, MAX_TIMEOUT, false))
    }

    pub(super) fn note_cut_off() {
        CURRENT.set(Some(Current {
            cut_off: true,
            ..Current::get()
        }));
    }

    pub(super) fn note_tls_handshake() {
        let known = Current::get();
        CURRENT.set(Some(Current {
            tls_handshakes: known.tls_handshakes + 1,
            ..known
        }));
    }

    /// Returns how long a step may take that ureq limits by `timeout`.
    pub(super) fn limit(&self, timeout: NextTimeout) -> Duration {
        let left = self.timeout.saturating_sub(self.started.elapsed());
        let own = match timeout.reason {
            Timeout::Connect => left.min(self.connect_timeout),
            _ => left,
        };
        own.min(*timeout.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gets_what_is_left_of_the_request_and_connecting_has_a_limit_of_its_own() {
        const SECOND: Duration = Duration::from_secs(1);
        Current::begin(100 * SECOND, 50 * SECOND, false);
        for (reason, after, limit) in [
            (Timeout::Global, 200, 100),
            (Timeout::Global, 20, 20),
            (Timeout::Connect, 200, 50),
            (Timeout::Connect, 20, 20),
        ] {
            let after = NextTimeout {
                after: (after * SECOND).into(),
                reason,
                ..NextTimeout::default()
            };
            let found = Current::get().limit(after);
            assert!(
                found <= limit * SECOND && found > limit * SECOND * 9 / 10,
                "{reason:?} {after:?}: {found:?}"
            );
        }
    }
}
