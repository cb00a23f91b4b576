//! `didit sandbox`: runs a command against a local mock of both of Didit's hosts.

mod http;
mod service;

use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::{env, thread};

use signal_hook::{consts, flag};

use crate::args::Output;
use crate::args::sandbox::{CredentialKind, Options};
use crate::terminal::{Exit, say, system_message};
use http::{Reply, Request};
use service::{Service, is_about_the_sandbox};

/// The variable that marks a sandbox, and holds its URL.
const MARK: &str = "IN_DIDIT_SANDBOX";
const URLS: [&str; 2] = ["DIDIT_BASE_URL", "DIDIT_AUTH_URL"];

/// Says why a command that runs in a sandbox would leave it: the startup files of a shell may set other URLs. Those of Didit
/// are https, and so is the default.
pub fn leaves_sandbox() -> Option<String> {
    let sandbox = env::var(MARK).ok()?;
    let leaves = |name: &&str| !env::var(name).is_ok_and(|url| url.starts_with("http://"));
    let name = URLS.into_iter().find(leaves)?;
    Some(format!(
        "this shell runs in a sandbox, but {name} leads out of it, perhaps because of the shell's startup files; nothing was \
         sent; set it to {sandbox}, or unset {MARK} to leave the sandbox"
    ))
}

/// Runs the sandbox and its command. Returns the exit status of the command.
pub fn run(options: &Options, output: Output) -> ExitCode {
    let address = match listen(options) {
        Ok(address) => address,
        Err(problem) => {
            say(&problem);
            return Exit::Usage.into();
        }
    };
    let (program, args) = match options.command.split_first() {
        Some((program, args)) => (program.clone(), args),
        None => (shell(), &[][..]),
    };
    if options.command.is_empty() && !output.quiet {
        say(&format!(
            "this shell runs in a sandbox: didit uses a local mock of Didit at http://{address}; type `exit` to leave"
        ));
    }
    // Only the command reacts to Ctrl-C. It may still need the sandbox while it exits.
    for signal in [
        consts::SIGINT,
        #[cfg(unix)]
        consts::SIGQUIT,
    ] {
        let _ = flag::register(signal, Arc::default());
    }
    let status = command(&program, options.credentials, address).and_then(|mut command| command.args(args).status());
    match status {
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

/// Listens on the port, and serves requests until the process ends.
///
/// # Errors
/// Says why it cannot listen, and what to do next.
fn listen(options: &Options) -> Result<SocketAddr, String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port));
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| {
        let (port, problem) = (options.port, system_message(&error));
        match error.kind() {
            ErrorKind::AddrInUse => {
                format!("port {port} is in use, perhaps by another sandbox; use --port 0 for a free port")
            }
            _ => format!("cannot listen on port {port}: {problem}; use --port 0 for a free port"),
        }
    })?;
    let service = Arc::new(Service::new(options.fail_rate, options.rate_limit));
    let show = options.show_requests;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let service = service.clone();
            // Errors are ignored: the client notices a broken connection, and one that gets no thread.
            let _ = thread::Builder::new().spawn(move || serve(&stream, &service, show));
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream, service: &Service, show: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let request = Request::read(&mut reader)?;
        let reply = service.reply(&request);
        if show && !is_about_the_sandbox(&request) {
            let _ = io::stderr().write_all(http::transcript(&request, &reply).as_bytes());
        }
        writer.write_all(&reply.bytes())?;
        let closing = request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closing || !matches!(reply, Reply::Whole(_)) {
            return Ok(());
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

/// Returns a command that runs in the sandbox. It gets none of the caller's DIDIT_* and proxy variables: real credentials must
/// not reach the sandbox, and a proxy would block it.
fn command(program: &OsStr, credentials: CredentialKind, address: SocketAddr) -> io::Result<Command> {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if upper.starts_with("DIDIT_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    let url = format!("http://{address}");
    command.env(MARK, &url).envs(URLS.map(|name| (name, &url)));
    match credentials {
        CredentialKind::Key => command.env("DIDIT_API_KEY", "sandbox-key"),
        CredentialKind::Client => command
            .env("DIDIT_CLIENT_ID", "sandbox-id")
            .env("DIDIT_CLIENT_SECRET", "sandbox-secret"),
    };
    // In the sandbox, `didit` is this binary, even if it is not installed.
    let own = env::current_exe()?;
    let folder = own.parent().map(Into::into);
    let path = env::var_os("PATH");
    let folders = folder.into_iter().chain(path.iter().flat_map(env::split_paths));
    command.env("PATH", env::join_paths(folders).map_err(io::Error::other)?);
    Ok(command)
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
