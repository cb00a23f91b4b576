//! The README's commands in the sandbox print what the README shows.

use std::env;
use std::process::Command;

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;

const README: &str = include_str!("../../../README.md");

const FROM_A_CLONE: &str = "cargo run -q -- sandbox -- ";

#[test]
fn the_command_for_a_clone_prints_the_readmes_output() {
    let lines = README.lines().map(|line| line.trim().trim_start_matches("$ "));
    let mut rest = lines.skip_while(|line| !line.starts_with(FROM_A_CLONE));
    let command = rest.next().expect("a command for a clone");
    let printed = rest.next().unwrap_or_default();
    let command = command[FROM_A_CLONE.len()..].split(' ');
    let args: Vec<&str> = ["sandbox", "--"].into_iter().chain(command).collect();
    let run = Run::of(&mut didit(&args)).exits(0);
    assert_eq!((run.out, run.err.as_str()), (format!("{printed}\n"), ""));
}

/// Returns the commands of the transcript, each with its output.
fn transcript() -> Vec<(String, String)> {
    let (_, rest) = README
        .split_once("\n$ didit sandbox\n")
        .expect("the README opens the sandbox");
    let (block, _) = rest.split_once("\n```").expect("a closed block");
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
            (Some(command), ..) => steps.push((command.into(), String::new())),
            (None, Some(more), Some((command, _))) => *command += &format!("\n{more}"),
            (None, None, Some((_, printed))) => *printed += &format!("{line}\n"),
            _ => panic!("no command before {line:?}"),
        }
    }
    steps
}

#[test]
fn the_transcript_prints_the_readmes_output_each_time() {
    const END: &str = "-- end of step --";
    let steps = transcript();
    assert!(steps.len() >= 5, "{steps:?}");
    let script: String = steps
        .iter()
        .map(|(command, _)| format!("{command}\necho '{END}'\n"))
        .collect();
    let script = format!("exec 2>&1\n{script}");
    let directory = Directory::new();
    let port = Sandbox::fixed_port();
    for _ in 0..2 {
        let mut bash: Command = didit(&["sandbox", "--port", &port, "--", "bash", "-c", &script]);
        bash.env("PATH", env::var_os("PATH").unwrap());
        let run = Run::of(bash.current_dir(directory.path("")));
        let out = run.out.replace(&format!(":{port} "), ":13434 ");
        let printed: Vec<&str> = out.split(&format!("{END}\n")).collect();
        for ((command, expected), printed) in steps.iter().zip(&printed) {
            assert_eq!(printed, expected, "$ {command}");
        }
        assert_eq!(printed.len(), steps.len() + 1, "{run}");
        assert_eq!(directory.names(), Vec::<String>::new());
    }
}
