//! TCP: which address is tried for how long, how long a call waits, and what becomes of a connection that is given up.
//!
//! ureq's own connector gives the first of several addresses most of the time and forgets which one answered, and its
//! transport closes a failed connection in the ordinary way, so that the kernel still delivers what it holds. Of
//! `ureq::unversioned` this needs `Connector`, `Transport` and the types in their signatures, `Either` and `LazyBuffers`.

use std::fmt;
use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, time,
};
use ureq::{Error, Timeout};

use super::dns::DnsCache;
use super::failure::loss;
use super::{INPUT_BUFFER, MAX_TIMEOUT, OUTPUT_BUFFER};

/// How long each of several addresses may take at first, as in curl.
const FIRST_TRY: Duration = Duration::from_millis(250);
/// A try without any time would be a mistake to the system.
const MIN_TRY: Duration = Duration::from_millis(1);
/// The longest record of TLS, and some more.
const TLS_RECORD: usize = 17 * 1024;

/// Opens a TCP connection, unless a proxy's tunnel is there already.
#[derive(Debug)]
pub(super) struct TcpConnector {
    pub(super) dns: DnsCache,
}

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Either<In, TcpTransport>;

    fn connect(&self, details: &ConnectionDetails, tunnel: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(tunnel) = tunnel {
            return Ok(Some(Either::A(tunnel)));
        }
        // Of a proxy, this is before its name was looked up.
        let time::Instant::Exact(start) = details.now else {
            return Ok(None);
        };
        let connect_by = start + (*details.timeout.after).min(MAX_TIMEOUT);
        let (stream, address) = connect(&details.addrs, connect_by).map_err(|error| match error.kind() {
            Io::TimedOut => Error::Timeout(details.timeout.reason),
            _ => error.into(),
        })?;
        self.dns.connected(details.uri, address);
        // The request's head and body are written one after the other.
        stream.set_nodelay(true)?;
        // The kernel discards what it still holds when the connection is dropped, or the process killed.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        // TLS has buffers of its own for what is within its records.
        let size = if details.needs_tls() { TLS_RECORD } else { INPUT_BUFFER };
        Ok(Some(Either::B(TcpTransport {
            stream,
            buffers: LazyBuffers::new(size, size.min(OUTPUT_BUFFER)),
            connect_by,
            wait: None,
            is_idle: false,
        })))
    }
}

/// Tries the addresses in turn until one connects: for a short time each, then for longer those that did not refuse.
///
/// # Errors
/// `TimedOut`, or why the last address refused if all of them did.
fn connect(addresses: &[SocketAddr], end: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    let mut candidates = addresses.to_vec();
    let mut try_for = FIRST_TRY;
    let mut failure = io::Error::from(Io::TimedOut);
    while !candidates.is_empty() && Instant::now() < end {
        let mut silent = Vec::new();
        for (index, &address) in candidates.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now()).max(MIN_TRY);
            let limit = match candidates.len() {
                1 => left,
                count => try_for.min(left / (count - index) as u32),
            };
            failure = match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => error,
            };
            if failure.kind() == Io::TimedOut {
                silent.push(address);
            }
        }
        candidates = silent;
        try_for = try_for.saturating_mul(4);
    }
    Err(failure)
}

/// A TCP connection that is reset when it is dropped, unless it is idle then.
pub(super) struct TcpTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// When all that belongs to connecting must be over: the answer to CONNECT, and TLS.
    connect_by: Instant,
    /// How long a call on the socket waits at most.
    wait: Option<Duration>,
    /// Whether an exchange ended well and none began since: ureq asks `is_open` before it keeps a connection.
    is_idle: bool,
}

impl TcpTransport {
    fn limit(&self, timeout: NextTimeout) -> Duration {
        match timeout.reason {
            // ureq gives each read of the answer to CONNECT the whole time for connecting.
            Timeout::Connect => self.connect_by.saturating_duration_since(Instant::now()),
            _ => *timeout.after,
        }
    }

    /// Makes calls on the socket wait no longer than `left`. A shorter wait will do: it is followed by another. So it
    /// is set a little shorter, and need not be set again for the next request.
    fn wait_at_most(&mut self, left: Duration) {
        if self.wait.is_none_or(|wait| wait > left) {
            let wait = Some(left - left / 10);
            // macOS refuses this for a connection that the peer closed, of which the rest can still be read.
            let read = self.stream.set_read_timeout(wait);
            self.wait = wait.filter(|_| read.and(self.stream.set_write_timeout(wait)).is_ok());
        }
    }

    /// Reads what has arrived, without waiting.
    fn read_arrived(&mut self) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let result = self.stream.read(self.buffers.input_append_buf());
        self.stream.set_nonblocking(false)?;
        result
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.is_idle = false;
        let (start, limit) = (Instant::now(), self.limit(timeout));
        let (mut left, mut sent) = (limit, 0);
        while sent < amount {
            if left.is_zero() {
                return Err(Error::Timeout(timeout.reason));
            }
            self.wait_at_most(left);
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(io::Error::from(Io::WriteZero).into()),
                Ok(written) if sent + written == amount => break,
                Ok(written) => sent += written,
                Err(error) if has_waited(&error) => self.wait = None,
                // The peer hung up. If it said why, such as in a TLS alert, that is read next.
                Err(error) if loss(&error).is_some() && matches!(self.stream.peek(&mut [0]), Ok(1)) => break,
                Err(error) => return Err(error.into()),
            }
            left = limit.saturating_sub(start.elapsed());
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let (start, limit) = (Instant::now(), self.limit(timeout));
        let mut left = limit;
        loop {
            let result = if left.is_zero() {
                // The process may have been stopped while the answer arrived.
                self.read_arrived()
            } else {
                self.wait_at_most(left);
                self.stream.read(self.buffers.input_append_buf())
            };
            match result {
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
                Err(error) if !has_waited(&error) => return Err(error.into()),
                Err(_) if left.is_zero() => return Err(Error::Timeout(timeout.reason)),
                Err(_) => self.wait = None,
            }
            left = limit.saturating_sub(start.elapsed());
        }
    }

    fn is_open(&mut self) -> bool {
        self.is_idle = true;
        // Whatever arrives now belongs to no request.
        self.read_arrived().is_err_and(|error| error.kind() == Io::WouldBlock)
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        if self.is_idle {
            let _ = SockRef::from(&self.stream).set_linger(None);
        }
    }
}

/// Whether a call on the socket ended because it had waited long enough, or was interrupted.
fn has_waited(error: &io::Error) -> bool {
    matches!(error.kind(), Io::WouldBlock | Io::TimedOut | Io::Interrupted)
}

// The buffers hold secrets.
impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use socket2::{Domain, Socket, Type};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A listener whose queue is full: it answers no SYN.
    struct Dead {
        address: SocketAddr,
        queue: Vec<TcpStream>,
        listener: Socket,
    }

    fn dead() -> Dead {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queue.push(stream);
            assert!(queue.len() < 1000, "the queue has no end");
        }
        Dead {
            address,
            queue,
            listener,
        }
    }

    fn connected() -> (TcpTransport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let end = Instant::now() + LONG;
        let (stream, _) = connect(&[listener.local_addr().unwrap()], end).unwrap();
        let transport = TcpTransport {
            stream,
            buffers: LazyBuffers::new(1024, 1024),
            connect_by: end,
            wait: None,
            is_idle: false,
        };
        (transport, listener.accept().unwrap().0)
    }

    fn within(limit: Duration) -> NextTimeout {
        NextTimeout {
            after: limit.into(),
            ..NextTimeout::default()
        }
    }

    fn wait_for(done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < LONG);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn dead_addresses_cost_little() {
        let dead = dead();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        for (count, limit) in [(1, 1200), (3, 3000), (7, 7000)] {
            let mut addresses = vec![dead.address; count];
            addresses.push(live);
            let start = Instant::now();
            let (_, address) = connect(&addresses, start + LONG / 2).unwrap();
            assert_eq!(address, live);
            assert!(start.elapsed() >= FIRST_TRY, "they are dead");
            assert!(
                start.elapsed() < Duration::from_millis(limit),
                "{count}: {:?}",
                start.elapsed()
            );
        }
    }

    #[test]
    fn the_last_of_many_addresses_is_reached_in_a_short_time() {
        let dead = dead();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut addresses = vec![dead.address; 15];
        addresses.push(listener.local_addr().unwrap());
        assert!(connect(&addresses, Instant::now() + Duration::from_secs(2)).is_ok());
    }

    #[test]
    fn addresses_that_answer_late_are_tried_again() {
        let dead = dead();
        let accepted = thread::scope(|scope| {
            let call = scope.spawn(|| connect(&[dead.address; 2], Instant::now() + LONG));
            // Neither is there at its first try.
            thread::sleep(FIRST_TRY * 3);
            for _ in 0..dead.queue.len() {
                dead.listener.accept().unwrap();
            }
            call.join().unwrap()
        });
        assert!(accepted.is_ok());
    }

    #[test]
    fn connecting_ends_in_time_and_a_refusal_is_told_at_once() {
        let dead = dead();
        for addresses in [vec![dead.address], vec![dead.address; 3]] {
            let start = Instant::now();
            let error = connect(&addresses, start + FIRST_TRY).unwrap_err();
            assert_eq!(error.kind(), Io::TimedOut);
            assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let start = Instant::now();
        let error = connect(&[closed; 2], start + LONG).unwrap_err();
        assert_eq!(error.kind(), Io::ConnectionRefused);
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }

    #[test]
    fn what_arrived_before_the_time_was_up_is_read() {
        let (mut transport, mut peer) = connected();
        peer.write_all(b"answer").unwrap();
        wait_for(|| transport.stream.peek(&mut [0]).is_ok());
        assert!(transport.await_input(within(Duration::ZERO)).unwrap());
        assert_eq!(transport.buffers.input(), b"answer");
        transport.buffers.input_consume(6);
        let error = transport.await_input(within(Duration::ZERO)).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
    }

    #[test]
    fn a_wait_that_was_set_for_an_earlier_request_cuts_none_short() {
        let (mut transport, mut peer) = connected();
        let short = Duration::from_millis(20);
        let error = transport.await_input(within(short)).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        transport.wait_at_most(short);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(short * 5);
                peer.write_all(b"a").unwrap();
            });
            assert!(transport.await_input(within(LONG)).unwrap());
        });
    }

    #[test]
    fn every_read_of_the_answer_to_connect_has_the_same_end() {
        let (mut transport, _peer) = connected();
        transport.connect_by = Instant::now();
        let mut timeout = within(LONG);
        timeout.reason = Timeout::Connect;
        let start = Instant::now();
        assert!(transport.await_input(timeout).is_err());
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }

    /// A connection that the peer has reset, before that sending this.
    fn reset_after(last_words: &[u8]) -> TcpTransport {
        let (transport, mut peer) = connected();
        peer.write_all(last_words).unwrap();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        wait_for(|| SockRef::from(&transport.stream).peer_addr().is_err());
        transport
    }

    #[test]
    fn a_write_that_fails_lets_the_peers_last_words_be_read() {
        let mut transport = reset_after(b"why");
        for _ in 0..2 {
            transport.transmit_output(8, within(LONG)).unwrap();
        }
        assert!(transport.await_input(within(LONG)).unwrap());
        assert_eq!(transport.buffers.input(), b"why");
        let error = reset_after(b"").transmit_output(8, within(LONG)).unwrap_err();
        assert!(matches!(error, Error::Io(_)), "{error}");
    }

    #[test]
    fn a_connection_is_reset_unless_it_is_idle() {
        let linger = |transport: &TcpTransport| SockRef::from(&transport.stream).linger().unwrap();
        for (uses, expected) in [(0, Err(Io::ConnectionReset)), (1, Ok(0)), (2, Err(Io::ConnectionReset))] {
            let (mut transport, mut peer) = connected();
            SockRef::from(&transport.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            if uses > 0 {
                assert!(transport.is_open());
            }
            if uses > 1 {
                transport.transmit_output(0, within(LONG)).unwrap();
            }
            assert_eq!(linger(&transport), Some(Duration::ZERO));
            drop(transport);
            assert_eq!(peer.read(&mut [0]).map_err(|error| error.kind()), expected, "{uses}");
        }
    }

    #[test]
    fn what_nobody_asked_for_makes_a_connection_useless() {
        let (mut transport, mut peer) = connected();
        assert!(transport.is_open());
        peer.write_all(b"a").unwrap();
        wait_for(|| transport.stream.peek(&mut [0]).is_ok());
        assert!(!transport.is_open());
        let (mut transport, peer) = connected();
        drop(peer);
        wait_for(|| transport.stream.peek(&mut [0]).is_ok());
        assert!(!transport.is_open());
    }

    #[test]
    fn the_buffers_are_not_shown() {
        let (mut transport, _peer) = connected();
        transport.buffers.output()[..6].copy_from_slice(b"secret");
        assert_eq!(format!("{transport:?}"), "TcpTransport { .. }");
    }
}
