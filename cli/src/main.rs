//! The `didit` command.

mod args;
mod batch;
mod client;
mod exit;
mod generate;
mod sandbox;
mod session;
mod signals;
mod terminal;

use std::env;
use std::process::ExitCode;

use args::{Args, Command};

fn main() -> ExitCode {
    terminal::end_panics_with_a_verdict();
    #[cfg(unix)]
    signals::report_file_size_limit();
    match args::parse(env::args_os()) {
        Ok(args) => run(args),
        Err(error) => terminal::help_or_mistake(&error).into(),
    }
}

fn run(Args { command, output }: Args) -> ExitCode {
    terminal::log_to_stderr(output.verbose, output.quiet);
    let sends = matches!(
        command,
        Command::Update(_) | Command::Status { .. } | Command::Auth | Command::Batch(_)
    );
    if sends {
        signals::end_process_1();
    }
    let exit = match command {
        Command::Update(update) => session::update(&update, output),
        Command::Status { id } => session::status(&id, output),
        Command::Auth => session::auth(output),
        Command::Batch(options) => batch::run(&options, output),
        Command::Sandbox(options) => return sandbox::run(&options, output),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { command } => generate::man(command.as_deref()),
    };
    exit.into()
}
