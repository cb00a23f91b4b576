//! The environment of the sandbox's command, which keeps `didit` in the sandbox.

use std::ffi::OsStr;
use std::process::Command;
use std::{env, io};

use crate::args::sandbox::{MARK, SandboxCredentials};

const URLS: [&str; 2] = ["DIDIT_BASE_URL", "DIDIT_AUTH_URL"];

/// Says which variable points outside the sandbox in which this command runs: the startup files of a shell may set other URLs.
/// Those of Didit are https, and so is the default.
pub fn leaves_sandbox() -> Option<String> {
    let sandbox = env::var(MARK).ok()?;
    let leaves = |name: &&str| !env::var(name).is_ok_and(|url| url.starts_with("http://"));
    let name = URLS.into_iter().find(leaves)?;
    Some(format!(
        "{name} points outside this sandbox; a startup file may have set it; nothing was sent; set it to {sandbox}, or unset \
         {MARK} to leave the sandbox"
    ))
}

/// Returns a command that runs in the sandbox. It gets none of the caller's DIDIT_* and proxy variables: real credentials must
/// not reach the sandbox, and a proxy would block it. Neither does it get those that `cargo run` sets for its program: another
/// `cargo` would build its crates again because of them.
pub fn command(program: &OsStr, credentials: SandboxCredentials, url: &str) -> io::Result<Command> {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        let is_of_cargo_run = upper.starts_with("CARGO_MANIFEST_") || upper.starts_with("CARGO_PKG_");
        if upper.starts_with("DIDIT_") || upper.ends_with("_PROXY") || is_of_cargo_run {
            command.env_remove(name);
        }
    }
    command.env(MARK, url).envs(URLS.map(|name| (name, url)));
    match credentials {
        SandboxCredentials::Key => command.env("DIDIT_API_KEY", "sandbox-key"),
        SandboxCredentials::Client => command
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
