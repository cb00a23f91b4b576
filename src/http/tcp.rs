//! TCP: how addresses are tried, how long a call on the socket waits, and how failed connections are reset.
//!
//! ureq's own connector spends most of the time on the first of several addresses and forgets which one connected. Its
//! transport closes failed connections without a reset, so that the kernel still delivers what it buffered. From
//! `ureq::unversioned` this module uses `Connector`, `Transport` and the types in their signatures, `Either` and
//! `LazyBuffers`.

use std::fmt;
use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, time,
};
use ureq::{Error, Timeout};

use super::current::Current;
use super::dns::DnsCache;
use super::failure::{TUNNEL_NOT_CLEAN, loss};
use super::limits::{INPUT_BUFFER, OUTPUT_BUFFER};

/// How long the first try of each of several addresses may take. curl uses the same time.
const FIRST_TRY: Duration = Duration::from_millis(250);
/// The shortest try. The standard library rejects a timeout of zero.
const MIN_TRY: Duration = Duration::from_millis(1);
/// More than the largest TLS record.
const TLS_RECORD: usize = 17 * 1024;

/// Opens a TCP connection, unless there is a proxy's tunnel already.
#[derive(Debug)]
pub(super) struct TcpConnector {
    pub(super) dns: DnsCache,
}

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Either<In, TcpTransport>;

    fn connect(&self, details: &ConnectionDetails, tunnel: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(mut tunnel) = tunnel {
            // What a proxy sends unasked must not answer a request.
            return match tunnel.is_open() {
                true => Ok(Some(Either::A(tunnel))),
                false => Err(Error::ConnectProxyFailed(TUNNEL_NOT_CLEAN.into())),
            };
        }
        // With a proxy, ureq also calls this before it looks up the proxy.
        let time::Instant::Exact(start) = details.now else {
            return Ok(None);
        };
        let connect_by = start + Current::get().limit(details.timeout);
        let (stream, address) = connect(&details.addrs, connect_by).map_err(|error| match error.kind() {
            Io::TimedOut => Error::Timeout(details.timeout.reason),
            _ => error.into(),
        })?;
        self.dns.connected(details.uri, address);
        // ureq writes the head and the body of a request separately.
        stream.set_nodelay(true)?;
        // The kernel discards what it buffered if the connection is dropped or the process is killed.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        // TLS has its own buffers for the content of its records.
        let size = if details.needs_tls() { TLS_RECORD } else { INPUT_BUFFER };
        Ok(Some(Either::B(TcpTransport {
            stream,
            buffers: LazyBuffers::new(size, size.min(OUTPUT_BUFFER)),
            opened: start,
            connect_by,
            wait: None,
            is_idle: false,
        })))
    }
}

/// Tries each address for a short time, then those that did not refuse for longer, until one connects.
///
/// # Errors
/// `TimedOut`, or the error of the last address if all of them refused.
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

/// A TCP connection that is reset when it is dropped, unless it is idle.
pub(super) struct TcpTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    opened: Instant,
    /// When connecting must end, including the response to CONNECT and the TLS handshake.
    connect_by: Instant,
    /// The timeout that is set on the socket, if it is known.
    wait: Option<Duration>,
    /// Whether the last exchange succeeded and no other has started. ureq calls `is_open` before it keeps a connection.
    is_idle: bool,
}

impl TcpTransport {
    fn limit(&self, timeout: NextTimeout) -> Duration {
        match timeout.reason {
            // ureq allows each read of the response to CONNECT the full time for connecting.
            Timeout::Connect => self.connect_by.saturating_duration_since(Instant::now()),
            _ => Current::get().limit(timeout),
        }
    }

    /// Makes calls on the socket wait at most `left`. The callers repeat a call that timed out early, so this sets a
    /// slightly shorter timeout, which usually still fits the next request.
    fn wait_at_most(&mut self, left: Duration) {
        if self.wait.is_none_or(|wait| wait > left) {
            let wait = Some(left - left / 10);
            // macOS rejects this if the peer has closed the connection, although data may still be readable.
            let read = self.stream.set_read_timeout(wait);
            self.wait = wait.filter(|_| read.and(self.stream.set_write_timeout(wait)).is_ok());
        }
    }

    /// Reads the data that has arrived, without waiting.
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
        if cfg!(windows) {
            // There, a write that timed out may have sent a part. It cannot be repeated, so it gets the whole time.
            self.wait = None;
        }
        while sent < amount {
            if left.is_zero() {
                return Err(Error::Timeout(timeout.reason));
            }
            self.wait_at_most(left);
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(io::Error::from(Io::WriteZero).into()),
                Ok(written) => sent += written,
                Err(error) if is_repeatable(&error) && cfg!(windows) => return Err(Error::Timeout(timeout.reason)),
                Err(error) if is_repeatable(&error) => self.wait = None,
                // The peer ended the connection. If it sent a reason first, such as a TLS alert, the caller reads that.
                Err(error) if loss(&error).is_some() && matches!(self.stream.peek(&mut [0]), Ok(1)) => {
                    Current::note_cut_off();
                    break;
                }
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
                // If the process was stopped, the response may have arrived meanwhile.
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
                Err(error) if !is_repeatable(&error) => return Err(error.into()),
                Err(_) if left.is_zero() => return Err(Error::Timeout(timeout.reason)),
                Err(_) => self.wait = None,
            }
            left = limit.saturating_sub(start.elapsed());
        }
    }

    fn is_open(&mut self) -> bool {
        self.is_idle = true;
        let current = Current::get();
        if current.new_connection && self.opened < current.started {
            return false;
        }
        // What arrived unrequested, or is left in the buffer below TLS, must not answer the next request.
        self.buffers.input().is_empty() && self.read_arrived().is_err_and(|error| error.kind() == Io::WouldBlock)
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        if self.is_idle {
            let _ = SockRef::from(&self.stream).set_linger(None);
        }
    }
}

/// Returns whether a call on the socket timed out or was interrupted, so that it can be repeated.
fn is_repeatable(error: &io::Error) -> bool {
    matches!(error.kind(), Io::WouldBlock | Io::TimedOut | Io::Interrupted)
}

// The buffers contain secrets.
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

    /// A listener whose queue is full, so that nobody can connect.
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
            assert!(queue.len() < 1000, "the queue must fill up");
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
            opened: Instant::now(),
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
    fn a_call_on_the_socket_waits_no_longer_than_it_may() {
        let (mut transport, _peer) = connected();
        for limit in [LONG, LONG / 2, LONG] {
            transport.wait_at_most(limit);
            let wait = transport.stream.read_timeout().unwrap().unwrap();
            assert!(wait <= limit && wait >= LONG * 2 / 5, "{wait:?}");
        }
    }

    #[test]
    fn dead_addresses_delay_connecting_only_briefly() {
        let dead = dead();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        for (count, limit) in [(1, 1200), (3, 3000), (7, 7000)] {
            let mut addresses = vec![dead.address; count];
            addresses.push(live);
            let start = Instant::now();
            let (_, address) = connect(&addresses, start + LONG / 2).unwrap();
            assert_eq!(address, live);
            assert!(start.elapsed() >= FIRST_TRY, "the addresses must not answer");
            assert!(
                start.elapsed() < Duration::from_millis(limit),
                "{count}: {:?}",
                start.elapsed()
            );
        }
    }

    #[test]
    fn the_last_of_sixteen_addresses_is_tried_in_time() {
        let dead = dead();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut addresses = vec![dead.address; 15];
        addresses.push(listener.local_addr().unwrap());
        let start = Instant::now();
        assert!(connect(&addresses, start + Duration::from_secs(2)).is_ok());
        // The others got equal shares of the time, and not 250 ms each.
        let shares = Duration::from_millis(1800)..Duration::from_millis(3500);
        assert!(shares.contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[test]
    fn silent_addresses_are_tried_again() {
        let dead = dead();
        let accepted = thread::scope(|scope| {
            let call = scope.spawn(|| connect(&[dead.address; 2], Instant::now() + LONG));
            // Both addresses are silent during their first try.
            thread::sleep(FIRST_TRY * 3);
            for _ in 0..dead.queue.len() {
                dead.listener.accept().unwrap();
            }
            call.join().unwrap()
        });
        assert!(accepted.is_ok());
    }

    #[test]
    fn connecting_times_out_and_reports_a_refusal_at_once() {
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
    fn data_that_arrived_before_the_timeout_is_read() {
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
    fn the_timeout_of_an_earlier_request_does_not_cut_a_later_one_short() {
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
    fn the_timeout_of_an_earlier_request_does_not_prolong_a_later_one() {
        let (mut transport, _peer) = connected();
        transport.wait_at_most(LONG);
        let start = Instant::now();
        let error = transport.await_input(within(Duration::from_millis(20))).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }

    #[test]
    fn a_request_that_is_written_in_parts_arrives_whole() {
        const SIZE: usize = 16 << 20;
        let (mut transport, mut peer) = connected();
        transport.buffers = LazyBuffers::new(1024, SIZE);
        transport.buffers.output().fill(b'x');
        let short = Duration::from_millis(20);
        transport.wait_at_most(short);
        let received = thread::scope(|scope| {
            let received = scope.spawn(|| {
                // Meanwhile the socket's buffers fill up, and the write times out after a part.
                thread::sleep(short * 5);
                let mut bytes = Vec::new();
                peer.read_to_end(&mut bytes).unwrap();
                bytes
            });
            transport.transmit_output(SIZE, within(LONG)).unwrap();
            assert!(transport.is_open());
            drop(transport);
            received.join().unwrap()
        });
        assert!(received == vec![b'x'; SIZE], "{} bytes", received.len());
    }

    #[test]
    fn all_reads_of_the_response_to_connect_share_one_timeout() {
        let (mut transport, _peer) = connected();
        transport.connect_by = Instant::now();
        let mut timeout = within(LONG);
        timeout.reason = Timeout::Connect;
        let start = Instant::now();
        assert!(transport.await_input(timeout).is_err());
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }

    /// Returns a connection that the peer has reset after it sent `last_data`.
    fn reset_after(last_data: &[u8]) -> TcpTransport {
        let (transport, mut peer) = connected();
        peer.write_all(last_data).unwrap();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        // Windows keeps the peer's address, and discards the data.
        let is_reset = |error: io::Error| error.kind() == Io::ConnectionReset;
        let stream = &transport.stream;
        wait_for(|| stream.peer_addr().is_err() || stream.peek(&mut [0]).is_err_and(is_reset));
        transport
    }

    #[test]
    fn after_a_failed_write_the_last_data_of_the_peer_is_read() {
        let mut transport = reset_after(b"why");
        if !cfg!(windows) || transport.stream.peek(&mut [0]).is_ok() {
            for _ in 0..2 {
                transport.transmit_output(8, within(LONG)).unwrap();
            }
            assert!(transport.await_input(within(LONG)).unwrap());
            assert_eq!(transport.buffers.input(), b"why");
        }
        let error = reset_after(b"").transmit_output(8, within(LONG)).unwrap_err();
        assert!(matches!(error, Error::Io(_)), "{error}");
    }

    #[test]
    fn a_dropped_connection_is_reset_unless_it_is_idle() {
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
    fn an_idle_connection_that_received_data_is_not_reused() {
        let (mut transport, mut peer) = connected();
        assert!(transport.is_open());
        peer.write_all(b"a").unwrap();
        wait_for(|| transport.stream.peek(&mut [0]).is_ok());
        assert!(!transport.is_open());
        let (mut transport, peer) = connected();
        drop(peer);
        wait_for(|| transport.stream.peek(&mut [0]).is_ok());
        assert!(!transport.is_open());
        assert!(!reset_after(b"").is_open());
    }

    #[test]
    fn debug_hides_the_buffers() {
        let (mut transport, _peer) = connected();
        transport.buffers.output()[..6].copy_from_slice(b"secret");
        assert_eq!(format!("{transport:?}"), "TcpTransport { .. }");
    }
}
