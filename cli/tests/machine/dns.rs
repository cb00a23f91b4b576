//! Updates do not fail when the name server does. `dns.sh` runs these tests with a real name server in a network namespace.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{TcpListener, ToSocketAddrs};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use didit::{Client, Credentials, ErrorKind, RetryPolicy, StatusUpdate, Verdict};

use crate::support::directory::Directory;
use crate::support::{API_KEY, Server, Step, confirmed, in_turn, quick_retries, read_request, session_id, session_is};

const HOST: &str = "sessions.test";
const LONG: Duration = Duration::from_secs(20);

/// dnsmasq at the address in the namespace's `/etc/resolv.conf`.
struct NameServer {
    process: Child,
    directory: Directory,
}

impl NameServer {
    fn start() -> NameServer {
        let directory = Directory::new();
        let hosts = directory.file("hosts", format!("127.0.0.1 {HOST}\n"));
        let log = directory.file("log", "");
        let process = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
                "--pid-file=",
            ])
            .args([
                "--no-resolv",
                "--no-hosts",
                "--local=/test/",
                "--local-ttl=0",
                "--cache-size=0",
            ])
            .args(["--listen-address=127.0.0.53", "--bind-interfaces", "--log-queries"])
            .arg(format!("--addn-hosts={hosts}"))
            .arg(format!("--log-facility={log}"))
            .spawn()
            .expect("dnsmasq");
        let server = NameServer { process, directory };
        let start = Instant::now();
        while (HOST, 80).to_socket_addrs().is_err() {
            assert!(start.elapsed() < LONG, "the name server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn queries(&self) -> usize {
        let log = fs::read_to_string(self.directory.path("log")).unwrap();
        log.lines().filter(|line| line.contains(" query[")).count()
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    fn move_host_to(&self, address: &str) {
        fs::write(self.directory.path("hosts"), format!("{address} {HOST}\n")).unwrap();
        self.signal("-HUP");
        let start = Instant::now();
        while (HOST, 80).to_socket_addrs().unwrap().next().unwrap().ip().to_string() != address {
            assert!(start.elapsed() < LONG, "the name server does not reload its file");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn client(port: u16) -> Client {
    Client::builder(Credentials::api_key(API_KEY))
        .base_url(format!("http://{HOST}:{port}"))
        .allow_insecure_http(true)
        .proxy("")
        .timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(4))
        .retry(quick_retries())
        .build()
        .unwrap()
}

fn approve(client: &Client) -> didit::Result<()> {
    client.update_status(&session_id(), &StatusUpdate::approved()).map(drop)
}

#[test]
fn a_hundred_updates_query_the_name_server_at_most_four_times() {
    let names = NameServer::start();
    let server = Server::always(confirmed());
    let client = client(server.address().port());
    let before = names.queries();
    for _ in 0..100 {
        approve(&client).unwrap();
    }
    let queries = names.queries() - before;
    println!("{queries} queries for 100 updates");
    assert!((1..=4).contains(&queries), "{queries}");
    assert_eq!(server.connections(), 1);
}

/// Sends updates over a kept connection and over new ones while the name server is down. Lost connections make the client look
/// up the host again, to read the session and then to repeat the update.
fn survives(name: &str) {
    let names = NameServer::start();
    let lost = || vec![Step::Close];
    let undecided = || session_is("In Review");
    let turns = vec![
        confirmed(),
        confirmed(),
        lost(),
        undecided(),
        confirmed(),
        lost(),
        lost(),
        undecided(),
        confirmed(),
        confirmed(),
    ];
    let server = Server::start(in_turn(turns));
    let client = client(server.address().port());
    approve(&client).unwrap();
    names.signal(name);
    let start = Instant::now();
    for _ in 0..4 {
        approve(&client).unwrap();
    }
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    assert_eq!(
        server.methods(),
        "PATCH PATCH PATCH GET PATCH PATCH GET GET PATCH PATCH"
    );
    names.signal(if name == "-STOP" { "-CONT" } else { "-0" });
}

#[test]
fn a_killed_name_server_fails_no_update() {
    survives("-KILL");
}

#[test]
fn a_hanging_name_server_fails_no_update() {
    survives("-STOP");
}

#[test]
fn ten_callers_of_a_hanging_name_server_share_one_lookup_thread() {
    let names = NameServer::start();
    names.signal("-STOP");
    let client = client(1);
    let before = threads().count();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..10).map(|_| scope.spawn(|| approve(&client).unwrap_err())).collect();
        let (mut lookups, mut all) = (0, 0);
        while callers.iter().any(|caller| !caller.is_finished()) {
            lookups = lookups.max(threads().filter(|name| name.trim() == "didit-lookup").count());
            all = all.max(threads().count());
            thread::sleep(Duration::from_millis(5));
        }
        // This counts threads of any name.
        assert!(all <= before + callers.len() + 1, "{all} threads, {before} before");
        assert_eq!(lookups, 1);
        for caller in callers {
            let error = caller.join().unwrap();
            assert_eq!(error.verdict(), Verdict::NotApplied);
            assert!(
                matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Network),
                "{error}"
            );
            let words = format!("connecting to {HOST}:1: the name {HOST} could not be resolved");
            assert!(error.to_string().contains(&words), "{error}");
        }
    });
    names.signal("-CONT");
}

/// Returns the names of this process's threads.
fn threads() -> impl Iterator<Item = String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
}

#[test]
fn resolving_a_proxy_and_opening_its_tunnel_share_one_time_limit() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let names = NameServer::start();
    // The listener never accepts a connection.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(Credentials::api_key(API_KEY))
        .base_url("http://elsewhere.test")
        .allow_insecure_http(true)
        .proxy(format!("http://{HOST}:{}", proxy.local_addr().unwrap().port()))
        .timeout(TIMEOUT)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    names.signal("-STOP");
    let start = Instant::now();
    let error = thread::scope(|scope| {
        let call = scope.spawn(|| approve(&client).unwrap_err());
        thread::sleep(TIMEOUT * 2 / 5);
        names.signal("-CONT");
        call.join().unwrap()
    });
    let took = start.elapsed();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::NotApplied)
    );
    assert!(took < TIMEOUT * 6 / 5, "{took:?}: {error}");
}

#[test]
fn a_host_that_moved_to_another_address_is_found() {
    let names = NameServer::start();
    let server = Server::always(confirmed());
    let port = server.address().port();
    let client = client(port);
    approve(&client).unwrap();
    // The old address no longer accepts connections.
    drop(server);
    names.move_host_to("127.0.0.2");
    let listener = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let answering = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        read_request(&mut stream, 0, None).unwrap();
        let [Step::Send(answer)] = &confirmed()[..] else {
            unreachable!()
        };
        stream.get_mut().write_all(answer).unwrap();
    });
    approve(&client).unwrap();
    answering.join().unwrap();
}
