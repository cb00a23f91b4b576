//! The command `didit`.

mod args;
mod batch;
mod generate;
mod one;
mod report;

use std::env;
use std::process::ExitCode;

use args::{Args, Command};
use report::Exit;

fn main() -> ExitCode {
    report::end_panics_with_a_verdict();
    match args::parse(env::args_os()) {
        Ok(args) => run(args),
        Err(error) => report::help_or_mistake(&error),
    }
    .into()
}

fn run(Args { command, output }: Args) -> Exit {
    if output.verbose {
        report::log_to_stderr();
    }
    match command {
        Command::Update(update) => one::update(&update, output),
        Command::Status { id } => one::status(&id, output),
        Command::Auth => one::auth(output),
        Command::Batch(options) => batch::run(&options, output),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { command } => generate::man(command.as_deref()),
    }
}
