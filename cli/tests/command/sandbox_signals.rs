//! The sandbox forwards signals to its command, and ends when the command does.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::sandbox::{Run, in_sandbox};
use crate::signals::{ignoring, send, with_default_signals};

/// A sandbox that runs a script of `sh`, after its first line of output.
pub struct Script {
    pub sandbox: Child,
    out: BufReader<ChildStdout>,
}

impl Script {
    pub fn start(script: &str, prepare: impl Fn(&Command) -> Command) -> Script {
        let mut command = prepare(&in_sandbox(&[], &["sh", "-c", script]));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut sandbox = command.spawn().unwrap();
        let out = BufReader::new(sandbox.stdout.take().unwrap());
        let mut script = Script { sandbox, out };
        script.line();
        script
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn send(&self, signal: &str) {
        send(signal, &self.sandbox);
    }

    /// Lets the script read a line.
    pub fn proceed(&mut self) {
        self.sandbox.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }

    #[track_caller]
    pub fn exits(self, code: i32) {
        Run::end(self.sandbox).exits(code);
    }
}

#[test]
fn only_the_command_reacts_to_a_signal_from_the_terminal() {
    let mut script = Script::start("echo ready; read line; didit auth; exit 7", with_default_signals);
    script.send("-INT");
    script.send("-QUIT");
    script.proceed();
    assert!(script.line().starts_with("Didit accepts the API key at 127.0.0.1:"));
    script.exits(7);
}

#[test]
fn the_sandbox_answers_until_its_command_has_ended() {
    for signal in ["TERM", "HUP"] {
        // Each `wait` ends at the signal.
        let trap = format!("trap 'didit status abc; kill $!; exit 7' {signal}; sleep 60 & echo ready; wait");
        let mut script = Script::start(&trap, with_default_signals);
        script.send(&format!("-{signal}"));
        assert_eq!(script.line(), "In Review");
        script.exits(7);
    }
}

#[test]
fn the_sandbox_forwards_a_signal_to_its_command_alone() {
    let background = "(read line; echo in the background) <&3 & echo ready; wait";
    let mut script = Script::start(&format!("exec 3<&0; {background}"), with_default_signals);
    let mut stdin = script.sandbox.stdin.take().unwrap();
    script.send("-TERM");
    let Script { sandbox, out } = script;
    Run::end(sandbox).exits(128 + 15);
    // The process in the background is still there.
    stdin.write_all(b"\n").unwrap();
    assert_eq!(io::read_to_string(out).unwrap(), "in the background\n");
}

#[test]
fn the_sandbox_exits_with_128_plus_the_signal_that_ended_its_command() {
    for (signal, number) in [("-TERM", 15), ("-HUP", 1)] {
        let script = Script::start("echo ready; exec sleep 60", with_default_signals);
        script.send(signal);
        script.exits(128 + number);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_command_is_in_the_process_group_of_the_sandbox() {
    let mut script = Script::start(
        "echo ready; cut -d' ' -f5 /proc/$$/stat /proc/$PPID/stat",
        with_default_signals,
    );
    assert_eq!(script.line(), script.line());
    script.exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored_also_for_the_command() {
    let script = "echo ready; read line; for signal in INT QUIT HUP TERM; do kill -$signal $$; done; echo alive";
    let ignored = |command: &Command| ignoring("INT QUIT HUP TERM", command);
    let mut script = Script::start(script, ignored);
    script.send("-TERM");
    script.proceed();
    assert_eq!(script.line(), "alive");
    script.exits(0);
}
