//! A signal ends an update, which then reports that it may have been applied. For batches, see `batch/stop.rs`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::csv;
use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;
use crate::support::{Server, Step};

/// The limit on each wait for an event.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the same command with the default reaction to signals. `nohup` and background jobs of scripts start these tests with
/// ignored signals.
pub fn with_default_signals(command: &Command) -> Command {
    let mut reset = Command::new("/usr/bin/env");
    reset.env_clear();
    if cfg!(target_os = "linux") {
        reset.arg("--default-signal=HUP,INT,TERM");
    }
    reset.arg(command.get_program()).args(command.get_args());
    reset.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    reset
}

pub fn send(signal: &str, child: &Child) {
    let mut kill = Command::new("kill");
    let status = kill.args([signal, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// A command whose request has arrived at a server that never answers.
struct Waiting {
    child: Child,
    _server: Server,
}

impl Waiting {
    fn start(args: &[&str], stderr: Stdio) -> Waiting {
        Waiting::prepared(args, stderr, |command| with_default_signals(&command))
    }

    fn prepared(args: &[&str], stderr: Stdio, prepare: impl Fn(Command) -> Command) -> Waiting {
        let (arrived, arrival) = mpsc::channel();
        let server = Server::start(move |_| {
            let _ = arrived.send(());
            vec![Step::Stall]
        });
        let mut command = didit(args);
        command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url());
        let child = prepare(command).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        arrival.recv_timeout(LIMIT).unwrap();
        Waiting { child, _server: server }
    }

    fn end_by(self, signal: &str) -> Run {
        send(signal, &self.child);
        Run::end(self.child)
    }
}

/// Runs an update that never gets a response, and sends it a signal once its request has arrived.
pub fn interrupted_update(id: &str, signal: &str) -> Run {
    Waiting::start(&["update", id, "approved"], Stdio::piped()).end_by(signal)
}

const SIGNALS: [(&str, i32); 3] = [("-HUP", 1), ("-INT", 2), ("-TERM", 15)];

const INTERRUPTED: &str = "didit: interrupted while setting session abc to Approved; it may have been applied; check the \
                           session's status (`didit status abc`) before you retry\n";

#[test]
fn an_interrupted_update_reports_that_it_may_have_been_applied_and_ends_by_the_signal() {
    for (signal, number) in SIGNALS {
        let run = interrupted_update("abc", signal);
        assert_eq!((run.out.as_str(), run.err.as_str()), ("", INTERRUPTED), "{signal}");
        // It has no exit status, so a loop in a shell ends too.
        assert_eq!((run.code, run.signal), (None, Some(number)), "{signal}");
    }
}

#[test]
fn a_signal_ends_a_command_that_only_reads() {
    for args in [&["status", "abc"][..], &["auth"]] {
        for (signal, number) in SIGNALS {
            let run = Waiting::start(args, Stdio::piped()).end_by(signal);
            assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""), "{signal}");
            assert_eq!((run.code, run.signal), (None, Some(number)), "{args:?} {signal}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let args = ["update", "abc", "approved"];
    let update = Waiting::prepared(&args, Stdio::piped(), |command| ignoring("HUP", &command));
    send("-HUP", &update.child);
    // The update does not count SIGHUP: the next signal is its first.
    let run = update.end_by("-TERM");
    assert_eq!((run.err.as_str(), run.signal), (INTERRUPTED, Some(15)));
}

/// Returns the same command, which ignores these signals as under `nohup` or as a background job of a script.
pub fn ignoring(signals: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("trap '' {signals}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

#[test]
fn a_second_signal_ends_an_update_whose_report_cannot_be_written() {
    let (unread, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while std::io::Write::write(&mut &theirs, &[0; 4096]).is_ok() {}
    let mut update = Waiting::start(&["update", "abc", "approved"], OwnedFd::from(theirs).into());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = update.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < LIMIT);
        send("-TERM", &update.child);
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(128 + 15));
    drop(unread);
}

#[test]
fn a_limit_on_file_sizes_is_reported_and_ends_no_command() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let limited = |kib: u32, args: &[&str]| {
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("ulimit -f {kib}; exec \"$0\" \"$@\"")]);
        let command = sandbox.with_key(args);
        bash.arg(command.get_program()).args(args).env_clear();
        bash.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Run::of(
            bash.stdout(File::create(dir.path("out")).unwrap())
                .stderr(Stdio::piped()),
        )
    };
    let update = limited(0, &["update", "abc", "approved"]).exits(0);
    assert_eq!(
        update.line(),
        "abc is Approved now; standard output cannot be written: File too large"
    );
    let status = limited(0, &["status", "abc"]).exits(6);
    assert_eq!(status.line(), "standard output cannot be written: File too large");

    let rows = dir.file("rows.csv", csv(40));
    let batch = limited(1, &["batch", &rows]).exits(6);
    assert!(
        batch.err.contains("the journal cannot be written: File too large"),
        "{batch}"
    );
    // One update is the first command's.
    assert!((2..40).contains(&sandbox.updates().len()), "{batch}");
}
