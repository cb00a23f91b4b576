//! The README's transcript, played in the sandbox as it is printed.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::sandbox::{Run, server};
use crate::support::directory::Directory;
use crate::support::process::in_child;

const FIRST: &str = "$ cargo run -q --example sandbox -- -- bash";

/// The commands of the transcript, with what each prints.
fn transcript() -> Vec<(String, String)> {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once(FIRST).expect("the README opens the sandbox");
    let (block, _) = rest.split_once("\n```").expect("a closed block");
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in block.lines().skip(1) {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
            (Some(command), ..) => steps.push((command.into(), String::new())),
            (None, Some(more), Some((command, _))) => *command += &format!("\n{more}"),
            (None, None, Some((_, printed))) => *printed += &format!("{line}\n"),
            _ => panic!("no command before {line:?}"),
        }
    }
    steps
}

/// In bash, in a directory of its own, with the sandbox's variables.
fn play(script: &str) -> Run {
    let options = server::Options::parse([].into_iter()).unwrap();
    let credentials = options.credentials();
    let variables = server::variables(server::serve(options).unwrap(), credentials);
    let built = Path::new(env!("CARGO_BIN_EXE_didit")).parent().unwrap();
    let path = env::join_paths(
        [built.to_owned()]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap())),
    );
    let directory = Directory::new();
    let mut bash = server::inside(&variables, "bash");
    bash.args(["-c", script])
        .env("PATH", path.unwrap())
        .current_dir(directory.path(""));
    Run::of(bash.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn the_transcript_prints_what_the_readme_says() {
    const END: &str = "-- end of step --";
    let steps = transcript();
    assert!(steps.len() >= 5, "{steps:?}");
    let script: String = steps
        .iter()
        .map(|(command, _)| format!("{command}\necho '{END}'\n"))
        .collect();
    let run = play(&format!("exec 2>&1\n{script}"));
    let printed: Vec<&str> = run.out.split(&format!("{END}\n")).collect();
    for ((command, expected), printed) in steps.iter().zip(&printed) {
        assert_eq!(printed, expected, "$ {command}");
    }
    assert_eq!(printed.len(), steps.len() + 1, "{run}");
}

#[test]
fn a_command_in_the_sandbox_sees_none_of_the_callers_credentials_and_no_proxy() {
    if env::var_os("TEST_CHILD").is_some() {
        let run = play("env");
        let name = |line: &&str| line.contains("DIDIT_") || line.to_ascii_lowercase().contains("_proxy=");
        let mut names: Vec<_> = run
            .out
            .lines()
            .filter(name)
            .map(|line| line.split('=').next().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "DIDIT_AUTH_URL",
                "DIDIT_BASE_URL",
                "DIDIT_CLIENT_ID",
                "DIDIT_CLIENT_SECRET"
            ],
            "{run}"
        );
        assert!(!run.out.contains("hunter2"), "{run}");
        return;
    }
    in_child(
        "a_command_in_the_sandbox_sees_none_of_the_callers_credentials_and_no_proxy",
        &[
            ("DIDIT_API_KEY", "hunter2"),
            ("DIDIT_CLIENT_SECRET", "hunter2"),
            ("DIDIT_TIMEOUT", "1"),
            ("https_proxy", "http://hunter2.example"),
            ("ALL_PROXY", "http://hunter2.example"),
        ],
    );
}

#[test]
fn the_sandbox_ends_with_the_status_of_its_command() {
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        let status = Command::new("bash").args(["-c", script]).status().unwrap();
        assert_eq!(server::exit_status(status), expected, "{script}");
    }
}
