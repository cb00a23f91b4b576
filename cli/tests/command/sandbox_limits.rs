//! The sandbox survives a lack of file descriptors.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::sandbox_signals::Script;

#[test]
fn without_a_free_file_descriptor_the_sandbox_waits_for_one() {
    let limited = |command: &Command| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -n 24; exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args());
        shell
    };
    let mut script = Script::start("echo ready; echo $DIDIT_BASE_URL; read line", limited);
    let url = script.line();
    let connect = || {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    };
    let read = |mut stream: &TcpStream, id: &str| {
        write!(
            stream,
            "GET /v3/session/{id}/decision/ HTTP/1.1\r\nx-api-key: k\r\n\r\n"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    let connections: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    let slow = Instant::now();
    assert_eq!(read(&connections[0], "slow-1"), "HTTP/1.1 200 \r\n");
    // A loop without a pause would have used most of this time.
    let used = processor_time(&script.sandbox);
    assert!(used < slow.elapsed() / 10, "{used:?} of {:?}", slow.elapsed());
    drop(connections);
    assert_eq!(read(&connect(), "abc"), "HTTP/1.1 200 \r\n");
    script.proceed();
    script.exits(0);
}

/// Returns the time for which a process has used a processor.
fn processor_time(process: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let ticks = stat
        .split(' ')
        .skip(13)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
