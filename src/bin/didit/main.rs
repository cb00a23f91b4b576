//! The command `didit`.

mod args;
mod batch;
mod help;
mod one;
mod report;

use std::env;
use std::process::ExitCode;

use args::{Command, Parsed};
use report::Exit;

fn main() -> ExitCode {
    run().into()
}

fn run() -> Exit {
    let (command, output) = match args::parse(env::args_os().skip(1)) {
        Ok(Parsed::Run(command, output)) => (command, output),
        Ok(Parsed::Special(text)) => {
            return match report::print(&text) {
                Ok(()) => Exit::Done,
                Err(error) => one::unprintable(&error),
            };
        }
        Err(problem) => {
            report::diagnose(&problem);
            return Exit::Usage;
        }
    };
    if output.verbose {
        report::log_to_stderr();
    }
    match command {
        Command::Update(update) => one::update(&update, output),
        Command::Status(id) => one::status(&id, output),
        Command::Auth => one::auth(output),
        Command::Batch(options) => batch::run(&options, output),
    }
}
