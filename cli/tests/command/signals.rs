//! A signal ends an update, which then reports that its result is unknown. For batches, see `batch/stop.rs`.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::sandbox::{Run, didit};
use crate::support::{Server, Step};

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

/// Runs an update that never gets an answer, and sends it a signal once its request has arrived.
pub fn interrupted_update(id: &str, signal: &str) -> Run {
    let (arrived, arrival) = mpsc::channel();
    let server = Server::start(move |_| {
        let _ = arrived.send(());
        vec![Step::Stall]
    });
    let mut command = didit(&["update", id, "approved"]);
    command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url());
    let mut command = with_default_signals(&command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    arrival.recv_timeout(Duration::from_secs(60)).unwrap();
    send(signal, &child);
    Run::end(child)
}

#[test]
fn an_interrupted_update_is_unknown() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let run = interrupted_update("abc", signal);
        let expected = "didit: setting session abc to Approved: interrupted; whether it was applied is unknown; check the \
                        session's status before retrying: `didit status abc`\n";
        assert_eq!((run.out.as_str(), run.err.as_str()), ("", expected));
        // It has no exit status, because the signal ended it. So a loop in a shell ends too.
        assert_eq!(run.code, None);
    }
}
