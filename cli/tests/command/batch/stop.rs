//! The first signal finishes what is in flight. The second one stops immediately.

use std::process::Child;
use std::sync::{Arc, mpsc};

use super::*;
use crate::signals::{self, with_default_signals};

const LIMIT: Duration = Duration::from_secs(30);

/// A batch whose first `requests` have arrived at a server that delays its responses.
pub struct Held {
    server: Server,
    child: Child,
    stderr: String,
    release: mpsc::Sender<()>,
    sessions: Arc<Sessions>,
}

fn wait_until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Held {
    pub fn start(file: &str, requests: usize, lost: bool) -> Held {
        let ((release, held), (arrived, arrivals)) = (mpsc::channel::<()>(), mpsc::channel());
        let (held, arrived) = (Mutex::new(held), Mutex::new(arrived));
        let sessions = Arc::new(Sessions::default());
        let served = sessions.clone();
        let server = Server::start(move |request| {
            let steps = served.serve(request);
            if request.method == "GET" {
                return steps;
            }
            let _ = lock(&arrived).send(());
            // It fails when the sender is dropped. All requests are then answered.
            let _ = lock(&held).recv_timeout(LIMIT);
            if lost { vec![Step::Close] } else { steps }
        });
        let command = against(&server, &[file, "--json", "--jobs", &requests.to_string()]);
        let mut command = with_default_signals(&command);
        let stderr = format!("{file}.stderr");
        let written = fs::File::create(&stderr).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(written).spawn().unwrap();
        for _ in 0..requests {
            arrivals.recv_timeout(LIMIT).unwrap();
        }
        Held {
            server,
            child,
            stderr,
            release,
            sessions,
        }
    }

    fn signal(&self, signal: &str) {
        signals::send(signal, &self.child);
    }

    /// Sends the first signal, and waits until the command reports it. Two simultaneous signals could count as one.
    pub fn first_signal(&self, signal: &str) {
        self.signal(signal);
        wait_until(|| fs::read_to_string(&self.stderr).unwrap().contains("press Ctrl-C again"));
    }

    pub fn end(self, code: i32) -> (Run, Server, Arc<Sessions>) {
        drop(self.release);
        let mut run = Run::end(self.child);
        run.err = fs::read_to_string(&self.stderr).unwrap();
        (run.exits(code), self.server, self.sessions)
    }
}

#[test]
fn the_first_signal_waits_for_requests_in_flight_and_sends_nothing_else() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(40));
        let held = Held::start(&file, 3, false);
        held.first_signal(signal);
        let (run, server, sessions) = held.end(6);
        let notice = "didit: waiting for 3 requests in flight; press Ctrl-C again to stop now and leave 40 rows for the next run";
        assert!(run.err.starts_with(notice), "{run}");
        assert!(
            run.err
                .contains("40 rows: 3 applied, 0 already set, 0 refused, 0 unknown, 37 not applied"),
            "{run}"
        );
        let summary = run.objects().pop().unwrap()["summary"].take();
        assert_eq!(summary["stopped"], "interrupted by a signal");
        assert_eq!(sessions.applied(), [1; 3]);
        assert_eq!(server.requests().len(), 3);
        assert_eq!(results(&file).len(), 3);
    }
}

#[test]
fn a_journal_that_is_edited_after_the_first_signal_is_reported() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(5));
    let held = Held::start(&file, 1, false);
    held.first_signal("-INT");
    fs::write(format!("{file}.journal"), "").unwrap();
    let (run, ..) = held.end(6);
    let stopped = "didit: stopped: the journal was edited during the run; undo that before you run again, otherwise rows may be \
                   sent twice\n";
    assert!(run.err.ends_with(stopped), "{run}");
    let summary = run.objects().pop().unwrap()["summary"].take();
    assert!(stopped.contains(summary["stopped"].as_str().unwrap()), "{summary}");
}

#[test]
fn rows_in_doubt_at_the_first_signal_are_read_by_the_next_run() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(20));
    let held = Held::start(&file, 2, true);
    held.first_signal("-TERM");
    let (stopped, server, sessions) = held.end(5);
    let summary = "20 rows: 0 applied, 0 already set, 0 refused, 2 unknown, 18 not applied";
    assert!(stopped.err.contains(summary), "{stopped}");
    assert_eq!(server.requests().len(), 2);
    drop(server);
    // The server applied both before it closed the connections.
    let server = Server::start(move |request| sessions.serve(request));
    let text = fs::read_to_string(format!("{file}.journal")).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let mut header: Value = serde_json::from_str(header).unwrap();
    header["host"] = server.url().into();
    fs::write(format!("{file}.journal"), format!("{header}\n{rest}")).unwrap();
    let run = run(&server, &[&file, "--jobs", "1"]).exits(0);
    assert!(run.err.contains("20 rows: 20 applied, 0 already set"), "{run}");
    let reads: Vec<String> = server
        .requests()
        .iter()
        .filter(|request| request.method == "GET")
        .map(session_of)
        .collect();
    assert_eq!(reads.len(), 2, "{reads:?}");
}

#[test]
fn the_second_signal_ends_the_command_immediately() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(40));
    let held = Held::start(&file, 1, false);
    held.first_signal("-INT");
    held.signal("-INT");
    let run = Run::end(held.child).exits(130);
    drop(held.release);
    let err = fs::read_to_string(held.stderr).unwrap();
    assert!(
        err.ends_with("again to stop now and leave 40 rows for the next run\n"),
        "{run}{err}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_the_parent_process_ignores_is_ignored() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(5));
    let sessions = Sessions::default();
    let server = Server::start(move |request| {
        std::thread::sleep(Duration::from_millis(200));
        sessions.serve(request)
    });
    // Start the command like nohup does.
    let args = ["batch", &file, "--jobs", "1"];
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_didit")])
        .args(args)
        .env_clear();
    command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| !server.requests().is_empty());
    signals::send("-HUP", &child);
    let run = Run::end(child).exits(0);
    assert!(run.err.contains("5 rows: "), "{run}");
}
