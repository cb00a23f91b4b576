//! The `didit` command.

mod args;
mod auth;
mod batch;
mod client;
mod exit;
mod generate;
mod logger;
mod panics;
mod sandbox;
mod signals;
mod status;
mod status_update;
mod terminal;
mod update;

use std::env;
use std::process::ExitCode;

use args::{Args, Command};

fn main() -> ExitCode {
    panics::end_with_a_verdict();
    #[cfg(unix)]
    signals::report_file_size_limit();
    match args::parse(env::args_os()) {
        Ok(args) => run(args),
        Err(error) => terminal::help_or_mistake(&error).into(),
    }
}

fn run(Args { command, output }: Args) -> ExitCode {
    logger::log_to_stderr(output.verbose, output.quiet);
    let sends = matches!(
        command,
        Command::Update(_) | Command::Status { .. } | Command::Auth | Command::Batch(_)
    );
    if sends {
        signals::end_process_1();
    }
    let exit = match command {
        Command::Update(options) => update::run(&options, output),
        Command::Status { id } => status::run(&id, output),
        Command::Auth => auth::run(output),
        Command::Batch(options) => batch::run(&options, output),
        Command::Sandbox(options) => return sandbox::run(&options, output),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { command } => generate::man(command.as_deref()),
    };
    exit.into()
}
