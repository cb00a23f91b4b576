//! DNS lookups with a cache.
//!
//! ureq looks a host up before every request, even if it reuses a connection, and each time in a new thread. This
//! module caches addresses for a minute, then looks them up again, and uses the old addresses while lookups fail. From
//! `ureq::unversioned` it uses `Resolver` and the types in its signature.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::current::Current;
use super::url::{host_and_port, ip_address};
use crate::text::system_words;

/// How long addresses are used without another lookup. curl uses the same time.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// How long addresses are used while lookups fail.
const USABLE_FOR: Duration = Duration::from_secs(60 * 60);
/// How long a request waits for a lookup if it could use old addresses.
const MAX_WAIT_FOR_REFRESH: Duration = Duration::from_secs(1);
/// How long old addresses are used after a failed lookup before the next one.
const RETRY_LOOKUP_AFTER: Duration = Duration::from_secs(5);
/// The capacity of `ResolvedSocketAddrs`.
const MAX_ADDRESSES: usize = 16;

/// The addresses of all hosts of a client. Clones share them.
#[derive(Clone)]
pub(super) struct DnsCache(Arc<Lookups>);

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Lookups {
    hosts: Mutex<Vec<Host>>,
    ended: Condvar,
    lookup: Box<Lookup>,
}

#[derive(Default)]
struct Host {
    name: String,
    port: u16,
    /// The latest addresses, and when they were found.
    found: Option<(ResolvedSocketAddrs, Instant)>,
    /// Whether a connection to these addresses failed, so that they are looked up again early.
    is_stale: bool,
    /// The address that connected last, and whether a connection to it has failed since.
    last_connected: Option<(SocketAddr, bool)>,
    in_flight: bool,
    /// How many lookups have ended.
    lookups: u64,
    /// When the latest lookup failed, if it did, and why, as the end of a message.
    failed: Option<(Instant, String)>,
}

/// How a request gets the addresses of a host.
enum Decision {
    Use(ResolvedSocketAddrs),
    /// Wait for a lookup. If that fails or takes longer, use the old addresses.
    Wait {
        limit: Duration,
        old: Option<ResolvedSocketAddrs>,
    },
}

impl DnsCache {
    pub(super) fn new() -> DnsCache {
        let lookup = |name: &str, port: u16| match (name, port).to_socket_addrs() {
            Ok(found) => Ok(found.collect()),
            // If the process is out of file descriptors, the system reports an unknown name.
            Err(error) => Err(UdpSocket::bind("0.0.0.0:0").err().unwrap_or(error)),
        };
        DnsCache::with(Box::new(lookup))
    }

    fn with(lookup: Box<Lookup>) -> DnsCache {
        DnsCache(Arc::new(Lookups {
            hosts: Mutex::default(),
            ended: Condvar::new(),
            lookup,
        }))
    }

    /// Records that this address of the host connected. It is tried first from now on.
    pub(super) fn connected(&self, uri: &Uri, address: SocketAddr) {
        self.update(uri, |host| host.last_connected = Some((address, false)));
    }

    /// Records that a connection to this host failed. Its addresses are looked up again, since it may have moved, and
    /// the address that connected is tried last.
    pub(super) fn failed(&self, uri: &Uri) {
        self.update(uri, |host| {
            host.is_stale = true;
            host.last_connected = host.last_connected.map(|(address, _)| (address, true));
        });
    }

    fn update(&self, uri: &Uri, update: impl FnOnce(&mut Host)) {
        let mut hosts = self.0.hosts();
        let is_same = |host: &&mut Host| host_and_port(uri).is_some_and(|(name, port)| host.is(name, port));
        if let Some(host) = hosts.iter_mut().find(is_same) {
            update(host);
            host.order();
        }
    }

    /// Returns the addresses of a host, from the cache or from a lookup.
    ///
    /// # Errors
    /// `TimedOut` if no lookup ends within `limit`, else the error of the system.
    fn addresses(&self, name: &str, port: u16, limit: Duration) -> io::Result<ResolvedSocketAddrs> {
        let unresolved = |kind, why: &str| io::Error::new(kind, format!("the name {name} could not be resolved{why}"));
        let mut hosts = self.0.hosts();
        let known = hosts.iter().position(|host| host.is(name, port));
        let index = known.unwrap_or_else(|| {
            hosts.push(Host::new(name, port));
            hosts.len() - 1
        });
        let now = Instant::now();
        let (limit, old) = match hosts[index].decide(now, limit) {
            Decision::Use(addresses) => return Ok(addresses),
            Decision::Wait { limit, old } => (limit, old),
        };
        if !hosts[index].in_flight {
            let (lookups, name) = (self.0.clone(), name.to_owned());
            let thread = thread::Builder::new().name("didit-lookup".into());
            if thread.spawn(move || lookups.look_up(index, &name, port)).is_err() {
                hosts[index].failed = Some((now, String::new()));
                return old.ok_or_else(|| unresolved(io::ErrorKind::Other, ": the system could not start a thread"));
            }
            hosts[index].in_flight = true;
        }
        let lookups = hosts[index].lookups;
        let pending = |hosts: &mut Vec<Host>| hosts[index].lookups == lookups;
        let waited = self.0.ended.wait_timeout_while(hosts, limit, pending);
        let (hosts, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match (&hosts[index].found, &hosts[index].failed) {
            _ if waited.timed_out() => old.ok_or_else(|| unresolved(io::ErrorKind::TimedOut, " in time")),
            (Some((addresses, _)), None) => Ok(addresses.clone()),
            (_, failed) => old.ok_or_else(|| {
                let why = failed.as_ref().map_or("", |(_, why)| why);
                unresolved(io::ErrorKind::Other, why)
            }),
        }
    }
}

impl Lookups {
    fn hosts(&self) -> MutexGuard<'_, Vec<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_up(&self, index: usize, name: &str, port: u16) {
        let found = (self.lookup)(name, port);
        let now = Instant::now();
        let host = &mut self.hosts()[index];
        host.in_flight = false;
        host.lookups += 1;
        match found {
            Ok(found) if !found.is_empty() => {
                host.found = Some((resolved(&alternating(&found)), now));
                host.is_stale = false;
                host.failed = None;
                host.order();
            }
            Ok(_) => host.failed = Some((now, String::new())),
            // "failed to lookup address information: Name or service not known": the last part says why.
            Err(error) => {
                let words = system_words(&error);
                let words = words.rsplit(": ").next().unwrap_or_default();
                host.failed = Some((now, format!(" ({words})")));
            }
        }
        self.ended.notify_all();
    }
}

impl Host {
    fn new(name: &str, port: u16) -> Host {
        Host {
            name: name.to_owned(),
            port,
            ..Host::default()
        }
    }

    /// Decides how a request gets the addresses, if it has this much time.
    fn decide(&self, now: Instant, limit: Duration) -> Decision {
        let is_younger = |at: Instant, limit| now.saturating_duration_since(at) < limit;
        let old = match &self.found {
            Some((addresses, at)) if is_younger(*at, FRESH_FOR) && !self.is_stale => {
                return Decision::Use(addresses.clone());
            }
            Some((addresses, at)) if is_younger(*at, USABLE_FOR) => addresses.clone(),
            _ => return Decision::Wait { limit, old: None },
        };
        let has_just_failed = matches!(self.failed, Some((at, _)) if is_younger(at, RETRY_LOOKUP_AFTER));
        // Stale addresses may not work, so a request waits for the lookup that another one started.
        if has_just_failed || self.in_flight && !self.is_stale {
            return Decision::Use(old);
        }
        Decision::Wait {
            limit: limit.min(MAX_WAIT_FOR_REFRESH),
            old: Some(old),
        }
    }

    fn is(&self, name: &str, port: u16) -> bool {
        self.port == port && self.name.eq_ignore_ascii_case(name)
    }

    /// Moves the address that connected to the front, or to the end if a connection to it has failed since.
    fn order(&mut self) {
        if let (Some((addresses, _)), Some((known, has_failed))) = (&mut self.found, self.last_connected) {
            let end = if has_failed { addresses.len() - 1 } else { 0 };
            if let Some(index) = addresses.iter().position(|address| *address == known) {
                addresses.swap(index, end);
            }
        }
    }
}

impl Resolver for DnsCache {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (name, port) = host_and_port(uri).ok_or(ureq::Error::HostNotFound)?;
        if let Some(address) = ip_address(name) {
            return Ok(resolved(&[SocketAddr::new(address, port)]));
        }
        Ok(self.addresses(name, port, Current::get().limit(timeout))?)
    }
}

impl fmt::Debug for DnsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsCache").finish_non_exhaustive()
    }
}

fn resolved(addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
    let mut array = ResolvedSocketAddrs::from_fn(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    for address in addresses.iter().take(MAX_ADDRESSES) {
        array.push(*address);
    }
    array
}

/// Returns the addresses in the order to try: IPv6 and IPv4 alternate, and the family that the system prefers is first.
fn alternating(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let (preferred, others): (Vec<SocketAddr>, Vec<_>) = found
        .iter()
        .partition(|address| address.is_ipv6() == found[0].is_ipv6());
    let pairs = (0..found.len()).flat_map(|index| [preferred.get(index), others.get(index)]);
    pairs.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);

    /// A name server that a test controls.
    #[derive(Clone)]
    struct FakeDns(Arc<State>);

    struct State {
        lookups: AtomicUsize,
        /// The last byte of the address that a lookup finds. 0 makes lookups fail.
        answer: AtomicU8,
        hanging: Mutex<bool>,
        released: Condvar,
    }

    impl FakeDns {
        fn new() -> (FakeDns, DnsCache) {
            let dns = FakeDns(Arc::new(State {
                lookups: AtomicUsize::new(0),
                answer: AtomicU8::new(1),
                hanging: Mutex::new(false),
                released: Condvar::new(),
            }));
            let server = dns.clone();
            (dns, DnsCache::with(Box::new(move |_, port| server.look_up(port))))
        }

        fn look_up(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.lookups.fetch_add(1, SeqCst);
            let hanging = self.0.hanging.lock().unwrap();
            let waited = self.0.released.wait_timeout_while(hanging, LONG, |hanging| *hanging);
            assert!(!waited.unwrap().1.timed_out(), "the test did not release the lookup");
            match self.0.answer.load(SeqCst) {
                0 => Err(io::Error::other("failed to lookup address information: No such name")),
                last => Ok(vec![address(last, port)]),
            }
        }

        fn answer(&self, last: u8) {
            self.0.answer.store(last, SeqCst);
        }

        fn hang(&self, hanging: bool) {
            *self.0.hanging.lock().unwrap() = hanging;
            self.0.released.notify_all();
        }

        fn lookups(&self) -> usize {
            self.0.lookups.load(SeqCst)
        }
    }

    /// Makes the addresses of the first host older.
    fn age(cache: &DnsCache, by: Duration) {
        let mut hosts = cache.0.hosts();
        let (_, found_at) = hosts[0].found.as_mut().unwrap();
        *found_at -= by;
    }

    fn address(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], port))
    }

    /// Returns the last byte of the address that is found.
    fn find(cache: &DnsCache, limit: Duration) -> io::Result<u8> {
        let found = cache.addresses("apx.didit.me", 443, limit)?;
        match found[0].ip() {
            IpAddr::V4(address) => Ok(address.octets()[3]),
            IpAddr::V6(_) => unreachable!(),
        }
    }

    fn wait_for_lookups(cache: &DnsCache, count: u64) {
        let hosts = cache.0.hosts();
        let pending = |hosts: &mut Vec<Host>| hosts[0].lookups < count;
        let waited = cache.0.ended.wait_timeout_while(hosts, LONG, pending);
        assert!(!waited.unwrap().1.timed_out());
    }

    /// Decides about a host whose addresses were found a while ago. Returns whether it uses them, or else how long it waits
    /// for a lookup, and whether it would use them after that.
    fn decided(
        age: Duration,
        failed_before: Option<Duration>,
        is_stale: bool,
        in_flight: bool,
    ) -> Result<(), (Duration, bool)> {
        let found_at = Instant::now();
        let now = found_at + age;
        let host = Host {
            found: Some((resolved(&[address(1, 443)]), found_at)),
            failed: failed_before.map(|before| (now - before, String::new())),
            is_stale,
            in_flight,
            ..Host::default()
        };
        match host.decide(now, LONG) {
            Decision::Use(addresses) => {
                assert_eq!(addresses[..], [address(1, 443)]);
                Ok(())
            }
            Decision::Wait { limit, old } => Err((limit, old.is_some())),
        }
    }

    #[test]
    fn the_age_of_addresses_decides_whether_a_request_uses_them_or_waits_for_a_lookup() {
        let (fresh, old, lost) = (FRESH_FOR - SECOND, FRESH_FOR, USABLE_FOR);
        let wait_briefly = Err((MAX_WAIT_FOR_REFRESH, true));
        let just_now = Some(RETRY_LOOKUP_AFTER - SECOND);
        let a_while_ago = Some(RETRY_LOOKUP_AFTER);
        for (age, failed_before, is_stale, in_flight, expected) in [
            (fresh, None, false, false, Ok(())),
            (fresh, None, false, true, Ok(())),
            // After a minute, they are looked up again.
            (old, None, false, false, wait_briefly),
            (USABLE_FOR - SECOND, None, false, false, wait_briefly),
            // No request waits for a lookup that another one started.
            (old, None, false, true, Ok(())),
            // A failed lookup is not repeated at once.
            (old, just_now, false, false, Ok(())),
            (old, a_while_ago, false, false, wait_briefly),
            // A connection failed, so the addresses may be wrong.
            (fresh, None, true, false, wait_briefly),
            (fresh, None, true, true, wait_briefly),
            (fresh, just_now, true, false, Ok(())),
            // After an hour, they are not used any more.
            (lost, None, false, false, Err((LONG, false))),
            (lost, just_now, false, true, Err((LONG, false))),
        ] {
            let actual = decided(age, failed_before, is_stale, in_flight);
            assert_eq!(actual, expected, "{age:?} {failed_before:?} {is_stale} {in_flight}");
        }
        let unknown = Host::default().decide(Instant::now(), SHORT);
        assert!(matches!(
            unknown,
            Decision::Wait {
                limit: SHORT,
                old: None
            }
        ));
    }

    #[test]
    fn addresses_are_looked_up_again_when_they_are_old() {
        let (dns, cache) = FakeDns::new();
        for _ in 0..100 {
            assert_eq!(find(&cache, LONG).unwrap(), 1);
        }
        assert_eq!(dns.lookups(), 1);
        dns.answer(2);
        age(&cache, FRESH_FOR);
        assert_eq!((find(&cache, LONG).unwrap(), dns.lookups()), (2, 2));
    }

    #[test]
    fn old_addresses_are_used_while_lookups_fail_but_not_for_ever() {
        let (dns, cache) = FakeDns::new();
        find(&cache, LONG).unwrap();
        dns.answer(0);
        age(&cache, FRESH_FOR);
        for _ in 0..10 {
            assert_eq!(find(&cache, LONG).unwrap(), 1);
        }
        assert_eq!(dns.lookups(), 2, "a failed lookup is not repeated at once");
        age(&cache, USABLE_FOR);
        let error = find(&cache, LONG).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the name apx.didit.me could not be resolved (No such name)"
        );
    }

    #[test]
    fn without_old_addresses_every_request_starts_a_lookup() {
        let (dns, cache) = FakeDns::new();
        dns.answer(0);
        for lookups in 1..4 {
            find(&cache, LONG).unwrap_err();
            assert_eq!(dns.lookups(), lookups);
        }
        dns.answer(3);
        assert_eq!(find(&cache, LONG).unwrap(), 3);
    }

    #[test]
    fn ten_callers_share_one_lookup() {
        let (dns, cache) = FakeDns::new();
        dns.hang(true);
        let found = thread::scope(|scope| {
            let callers: Vec<_> = (0..10).map(|_| scope.spawn(|| find(&cache, LONG))).collect();
            dns.hang(false);
            callers
                .into_iter()
                .map(|caller| caller.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(found.iter().all(|found| matches!(found, Ok(1))), "{found:?}");
        assert_eq!(dns.lookups(), 1);
    }

    #[test]
    fn a_hanging_name_server_takes_one_thread_and_no_longer_than_the_limit() {
        let (dns, cache) = FakeDns::new();
        dns.hang(true);
        for _ in 0..10 {
            let error = find(&cache, SHORT).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "the name apx.didit.me could not be resolved in time");
        }
        dns.hang(false);
        assert_eq!(find(&cache, LONG).unwrap(), 1);
        assert_eq!(dns.lookups(), 1, "the late result must be used");
    }

    #[test]
    fn old_addresses_are_used_while_a_lookup_hangs_and_its_late_response_after_that() {
        let (dns, cache) = FakeDns::new();
        find(&cache, LONG).unwrap();
        age(&cache, FRESH_FOR);
        dns.answer(2);
        dns.hang(true);
        let start = Instant::now();
        assert_eq!(find(&cache, SHORT).unwrap(), 1);
        // No request waits for a lookup that another one started.
        for _ in 0..100 {
            assert_eq!(find(&cache, LONG).unwrap(), 1);
        }
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
        dns.hang(false);
        wait_for_lookups(&cache, 2);
        assert_eq!((find(&cache, LONG).unwrap(), dns.lookups()), (2, 2));
    }

    #[test]
    fn a_failed_connection_makes_addresses_stale() {
        let (dns, cache) = FakeDns::new();
        find(&cache, LONG).unwrap();
        dns.answer(2);
        cache.failed(&"https://elsewhere.test/".parse().unwrap());
        cache.failed(&"https://apx.didit.me:8443/".parse().unwrap());
        assert_eq!(find(&cache, LONG).unwrap(), 1);
        cache.failed(&"https://APX.didit.me/a".parse().unwrap());
        assert_eq!((find(&cache, LONG).unwrap(), dns.lookups()), (2, 2));
        assert_eq!((find(&cache, LONG).unwrap(), dns.lookups()), (2, 2));
        // Stale addresses are used if the lookup fails.
        dns.answer(0);
        cache.failed(&"https://apx.didit.me/".parse().unwrap());
        assert_eq!(find(&cache, LONG).unwrap(), 2);
    }

    fn found(cache: &DnsCache) -> Vec<SocketAddr> {
        cache.addresses("apx.didit.me", 443, LONG).unwrap().to_vec()
    }

    #[test]
    fn the_address_that_connected_comes_first_until_a_connection_to_it_fails() {
        let all = || (1..=3).map(|last| address(last, 443)).collect::<Vec<_>>();
        let cache = DnsCache::with(Box::new(move |_, _| Ok(all())));
        let uri = "https://apx.didit.me/a".parse().unwrap();
        assert_eq!(found(&cache), all());
        cache.connected(&uri, address(2, 443));
        assert_eq!(found(&cache)[0], address(2, 443));
        cache.failed(&uri);
        for _ in 0..2 {
            assert_eq!(found(&cache)[2], address(2, 443), "after a lookup and from the cache");
        }
        assert_eq!(found(&cache)[0], address(1, 443));
        cache.connected(&uri, address(3, 443));
        assert_eq!(found(&cache)[0], address(3, 443));
        // An address that the host no longer has is ignored.
        cache.connected(&uri, address(9, 443));
        assert_eq!(found(&cache).len(), 3);
    }

    #[test]
    fn the_address_that_connected_stays_first_after_a_lookup() {
        let (dns, _) = FakeDns::new();
        let server = dns.clone();
        let lookup = move |_: &str, port| Ok([server.look_up(port)?, vec![address(2, port)]].concat());
        let cache = DnsCache::with(Box::new(lookup));
        assert_eq!(found(&cache), [address(1, 443), address(2, 443)]);
        cache.connected(&"https://apx.didit.me".parse().unwrap(), address(2, 443));
        age(&cache, FRESH_FOR);
        assert_eq!(found(&cache), [address(2, 443), address(1, 443)]);
        assert_eq!(dns.lookups(), 2);
    }

    #[test]
    fn address_families_alternate() {
        let six = |last: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443));
        let four = |last| address(last, 443);
        let all = [six(1), six(2), six(3), four(1), four(2)];
        assert_eq!(alternating(&all), [six(1), four(1), six(2), four(2), six(3)]);
        assert_eq!(alternating(&[four(1), six(1), six(2)]), [four(1), six(1), six(2)]);
        assert_eq!(alternating(&[four(1), four(2)]), [four(1), four(2)]);
        let many: Vec<_> = (0..20).map(six).chain([four(1)]).collect();
        let found = resolved(&alternating(&many));
        assert_eq!((found.len(), found[1]), (16, four(1)));
    }

    #[test]
    fn an_ip_address_is_not_looked_up() {
        let (dns, cache) = FakeDns::new();
        for (url, expected) in [
            ("http://127.0.0.1", "127.0.0.1:80"),
            ("https://127.0.0.1", "127.0.0.1:443"),
            ("https://[::1]:8443/a", "[::1]:8443"),
        ] {
            let uri = url.parse().unwrap();
            let found = cache.resolve(&uri, &Config::default(), NextTimeout::default()).unwrap();
            assert_eq!(found[..], [expected.parse().unwrap()]);
        }
        assert_eq!(dns.lookups(), 0);
    }

    #[test]
    fn each_port_has_its_own_addresses_sixteen_at_most() {
        let answering = |answer: fn(u16) -> Vec<SocketAddr>| DnsCache::with(Box::new(move |_, port| Ok(answer(port))));
        let cache = answering(|port| vec![address(1, port); 20]);
        assert_eq!(cache.addresses("a", 1, LONG).unwrap()[..], [address(1, 1); 16]);
        assert_eq!(cache.addresses("a", 2, LONG).unwrap()[..], [address(1, 2); 16]);
        let nothing = answering(|_| vec![]);
        let error = nothing.addresses("a", 1, LONG).unwrap_err();
        assert_eq!(error.to_string(), "the name a could not be resolved");
    }
}
