//! A host with dead addresses is reached through its live one. `network.sh` runs these tests with a special hosts file.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use didit::{Client, Credentials, Node, RetryPolicy, StatusUpdate};
use socket2::{Domain, Socket, Type};

use crate::support::{API_KEY, Step, confirmed, read_request, session_id};

/// A listener with a full queue, which answers no SYN.
struct Dead {
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Dead {
    fn at(address: SocketAddr) -> Dead {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(1).unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queue.push(stream);
            assert!(queue.len() < 1000, "the queue has no end");
        }
        Dead {
            _listener: listener,
            _queue: queue,
        }
    }
}

/// The system returns this address after 127.0.0.1 to 127.0.0.7.
const LIVE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);

/// Returns how long a client's first update takes, and the slowest of ten more over new connections.
fn times(host: &str, dead: u8) -> (Duration, Duration) {
    let listener = TcpListener::bind((LIVE, 0)).unwrap();
    let live = listener.local_addr().unwrap();
    let dead = (1..=dead).map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), live.port())));
    let dead: Vec<_> = dead.map(|address| (address, Dead::at(address))).collect();
    let found: Vec<_> = (host, live.port()).to_socket_addrs().unwrap().collect();
    assert_eq!((found.len(), found.last()), (dead.len() + 1, Some(&live)));
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(11) {
            let mut stream = BufReader::new(stream.unwrap());
            read_request(&mut stream, 0, None).unwrap();
            let [Step::Send(answer)] = &confirmed()[..] else {
                unreachable!()
            };
            stream.get_mut().write_all(answer).unwrap();
        }
    });
    let client = Client::builder(Credentials::api_key(API_KEY))
        .base_url(format!("http://{host}:{}", live.port()))
        .allow_insecure_http(true)
        .proxy("")
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let update = || {
        let start = Instant::now();
        // A Resubmitted always uses a new connection.
        let resubmitted = StatusUpdate::resubmitted([Node::new("node", "OCR")]);
        client.update_status(&session_id(), &resubmitted).unwrap();
        start.elapsed()
    };
    let first = update();
    let slowest = (0..10).map(|_| update()).max().unwrap();
    server.join().unwrap();
    println!("{} dead: {first:?}, then {slowest:?}", dead.len());
    (first, slowest)
}

#[test]
fn dead_addresses_delay_only_the_first_connection() {
    for (host, dead, limit) in [("one.test", 1, 1200), ("three.test", 3, 3000), ("seven.test", 7, 7000)] {
        let (first, slowest) = times(host, dead);
        assert!(first < Duration::from_millis(limit), "{dead} dead: {first:?}");
        assert!(slowest < Duration::from_millis(200), "{dead} dead: {slowest:?}");
    }
}
