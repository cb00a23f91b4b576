//! The command `didit`.

mod args;
mod batch;
mod help;
mod input;
mod journal;
mod pace;
mod progress;
mod quotes;
mod report;
mod results;
mod rows;
mod single;
mod work;

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
                Err(error) => single::unprintable(&error),
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
        Command::Update(update) => single::update(&update, output),
        Command::Status(id) => single::status(&id, output),
        Command::Auth => single::auth(output),
        Command::Batch(options) => batch::run(&options, output),
    }
}
