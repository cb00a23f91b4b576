//! `didit sandbox`: runs a command against a local mock of both of Didit's hosts.

mod environment;
mod http;
mod server;
mod service;

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::process::{Command, ExitCode, ExitStatus};

use didit::text::system_message;

use crate::args::Output;
use crate::args::sandbox::Options;
use crate::terminal::say;

pub use environment::leaves_sandbox;

/// Runs the sandbox and its command. Returns the exit status of the command.
pub fn run(options: &Options, output: Output) -> ExitCode {
    let url = match server::start(options) {
        Ok(address) => format!("http://{address}"),
        Err((exit, problem)) => {
            say(&problem);
            return exit.into();
        }
    };
    let (program, args) = match options.command.split_first() {
        Some((program, args)) => (program.clone(), args),
        None => (shell(), &[][..]),
    };
    if options.command.is_empty() && !output.quiet {
        say(&format!(
            "this shell runs in a sandbox: didit uses a local mock of Didit at {url}; type `exit` to leave"
        ));
    }
    let command = environment::command(&program, options.credentials, &url);
    match command.and_then(|mut command| run_to_end(command.args(args))) {
        Ok(status) => exit_status(status).into(),
        Err(error) => {
            let program = program.to_string_lossy();
            say(&format!("cannot run {program}: {}", system_message(&error)));
            // The same exit statuses as shells and env(1).
            let missing = error.kind() == ErrorKind::NotFound;
            if missing { 127 } else { 126 }.into()
        }
    }
}

fn shell() -> OsString {
    if cfg!(windows) {
        return "cmd".into();
    }
    let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
    shell.unwrap_or_else(|| "sh".into())
}

/// Runs the command to its end. It may need the sandbox until then, so a signal never ends the sandbox, which forwards SIGTERM
/// and SIGHUP. Ctrl-C reaches the command without that, because it is in the same process group.
#[cfg(unix)]
fn run_to_end(command: &mut Command) -> io::Result<ExitStatus> {
    use rustix::process::{Pid, Signal, kill_process};
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::Signals;

    use crate::signals::not_ignored;

    let kept = not_ignored(&[SIGINT, SIGQUIT, SIGTERM, SIGHUP]);
    let mut received = Signals::new(kept.chain([SIGCHLD]))?;
    let mut child = command.spawn()?;
    for signal in received.forever() {
        let forwarded = match signal {
            SIGTERM => Signal::TERM,
            SIGHUP => Signal::HUP,
            _ => match child.try_wait()? {
                Some(status) => return Ok(status),
                None => continue,
            },
        };
        // It fails if the command runs as another user.
        let _ = kill_process(Pid::from_child(&child), forwarded);
    }
    child.wait()
}

#[cfg(not(unix))]
fn run_to_end(command: &mut Command) -> io::Result<ExitStatus> {
    // Ctrl-C reaches the command, too, which may still need the sandbox while it exits.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Default::default());
    command.status()
}

/// Returns the exit status as a shell reports it: 128 plus the signal's number if a signal ended the command.
fn exit_status(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None;
    let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(1)
}
