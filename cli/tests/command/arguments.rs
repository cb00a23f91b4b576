//! The command line: help is complete, mistakes send nothing, and completions and manual pages are valid.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::sandbox::{Run, Sandbox, didit};
use serde_json::json;

const COMMON: [&str; 4] = ["--json", "--quiet", "--verbose", "--help"];

/// Each command with its own options and arguments.
pub const COMMANDS: [(&str, &[&str]); 7] = [
    (
        "update",
        &[
            "<SESSION_ID>",
            "approved, declined, resubmitted",
            "--comment <TEXT>",
            "--node <NODE_ID:FEATURE>",
            "--email <ADDRESS>",
            "--email-language <CODE>",
            "--ensure",
        ],
    ),
    ("status", &["<SESSION_ID>"]),
    (
        "batch",
        &[
            "<FILE>",
            "--format <FORMAT>",
            "--journal <FILE>",
            "--rate <PER_MINUTE>",
            "[default: 300]",
            "--jobs <N>",
            "[default: 4]",
            "--dry-run",
            "--retry <WHICH>",
            "--max-outage <SECONDS>",
            "[default: 60]",
            "session_id, new_status",
            "email_language",
            "3, 5, 4, 6, 1",
        ],
    ),
    ("auth", &[]),
    (
        "sandbox",
        &[
            "[COMMAND]...",
            "--port <N>",
            "[default: 13434, or with COMMAND a free port]",
            "--fail-rate <F>",
            "--rate-limit <N[/SECONDS]>",
            "--credentials <KIND>",
            "key, client",
            "--show-requests",
            "unknown-*",
            "GET /__sessions",
            "127 COMMAND was not found",
        ],
    ),
    ("completions", &["bash, elvish, fish, powershell, zsh"]),
    ("man", &["update, status, batch, auth"]),
];

const VARIABLES: [&str; 14] = [
    "DIDIT_CLIENT_ID",
    "DIDIT_CLIENT_SECRET",
    "DIDIT_API_KEY",
    "DIDIT_API_VERSION",
    "DIDIT_BASE_URL",
    "DIDIT_AUTH_URL",
    "DIDIT_TIMEOUT",
    "DIDIT_DEADLINE",
    "DIDIT_MAX_RETRIES",
    "DIDIT_TOKEN_FILE",
    "DIDIT_CA_FILE",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Returns the help text, which all given ways to ask for it must print.
fn help(ways: &[Vec<&str>]) -> String {
    let texts = ways.iter().map(|args| {
        let run = Run::of(&mut didit(args)).exits(0);
        assert_eq!(run.err, "", "{args:?}");
        run.out
    });
    let texts: Vec<String> = texts.collect();
    assert!(texts.iter().all(|text| *text == texts[0]), "{ways:?}");
    texts.into_iter().next().unwrap()
}

#[test]
fn help_names_every_command_option_and_variable() {
    let text = help(&[vec!["--help"], vec!["-h"], vec!["help"]]);
    let commands = COMMANDS.map(|(command, _)| command);
    for word in COMMON.iter().chain(&VARIABLES).chain(&commands).chain(&["--version"]) {
        assert!(text.contains(word), "{word}: {text}");
    }
    for (command, own) in COMMANDS {
        let text = help(&[vec![command, "--help"], vec![command, "-h"], vec!["help", command]]);
        let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in COMMON.iter().chain(own) {
            assert!(unwrapped.contains(word), "{command}: {word}: {text}");
        }
        let long: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{command}: {long:?}");
    }
}

#[test]
fn version_prints_the_version() {
    let run = Run::of(&mut didit(&["--version"])).exits(0);
    assert_eq!(run.out, concat!("didit ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(Run::of(&mut didit(&["-V"])).exits(0).out, run.out);
}

#[test]
fn without_a_command_the_help_is_printed_as_an_error() {
    let run = Run::of(&mut didit(&[])).exits(2);
    assert_eq!(run.out, "");
    assert!(run.err.contains("Usage: didit [OPTIONS] <COMMAND>"), "{run}");
}

#[test]
fn an_invalid_command_line_exits_2_prints_no_result_and_sends_nothing() {
    let sandbox = Sandbox::start(&[]);
    for (args, expected) in [
        (vec!["upgrade"], "a similar subcommand exists: 'update'"),
        (vec!["update"], "<SESSION_ID>"),
        (vec!["update", "abc"], "<STATUS>"),
        (vec!["update", "Approved", "abc"], "the session id comes first"),
        (
            vec!["update", "abc", "in-review"],
            "[possible values: approved, declined, resubmitted]",
        ),
        (vec!["update", "abc", "approved", "x"], "unexpected argument 'x'"),
        (vec!["update", "a/../b", "approved"], "not a session id: contains '/'"),
        (vec!["update", "", "approved"], "not a session id: empty"),
        (
            vec!["update", "abc", "approved", "--coment", "x"],
            "a similar argument exists: '--comment'",
        ),
        (
            vec!["update", "abc", "approved", "--comment"],
            "a value is required for '--comment <TEXT>'",
        ),
        (
            vec!["update", "abc", "approved", "--rate", "3"],
            "unexpected argument '--rate'",
        ),
        (vec!["update", "abc", "resubmitted"], "--node NODE_ID:FEATURE"),
        (
            vec!["update", "abc", "resubmitted", "--node", "x"],
            "not a node: use NODE_ID:FEATURE",
        ),
        (
            vec!["update", "abc", "approved", "--node", "a:b"],
            "--node is only valid with resubmitted",
        ),
        (
            vec!["update", "abc", "approved", "--email-language", "en"],
            "--email <ADDRESS>",
        ),
        (vec!["status", "abc", "def"], "unexpected argument 'def'"),
        (vec!["status", "abc", "--ensure"], "unexpected argument '--ensure'"),
        (vec!["auth", "now"], "unexpected argument"),
        (vec!["auth", "--version"], "unexpected argument '--version'"),
        (vec!["batch"], "<FILE>"),
        (vec!["batch", "-"], "requires --journal FILE"),
        (vec!["batch", "/dev/stdin"], "requires --journal FILE"),
        (
            vec!["batch", "x.csv", "--rate", "fast"],
            "must be a whole number from 1 to 10000000",
        ),
        (
            vec!["batch", "x.csv", "--jobs", "-1"],
            "must be a whole number from 1 to 64",
        ),
        (
            vec!["batch", "x.csv", "--max-outage", "soon"],
            "must be a number of seconds",
        ),
        (
            vec!["batch", "x.csv", "--retry", "all"],
            "[possible values: unknown, refused]",
        ),
        (vec!["sandbox", "bash"], "unexpected argument 'bash'"),
        (
            vec!["sandbox", "--credential=hunter2"],
            "a similar argument exists: '--credentials'",
        ),
        (vec!["sandbox", "--port", "65536"], "65536 is not in 0..=65535"),
        (vec!["sandbox", "--fail-rate", "10"], "must be a number from 0 to 1"),
        (
            vec!["sandbox", "--rate-limit", "many"],
            "must be a whole number, such as 300",
        ),
        (vec!["completions", "tcsh"], "[possible values: bash,"),
        (vec!["man", "auht"], "a similar value exists: 'auth'"),
    ] {
        let run = sandbox.run(&[&["--json"], &args[..]].concat()).exits(2);
        assert!(run.err.starts_with("error: "), "{args:?}: {run}");
        assert!(run.err.contains(expected), "{args:?}: {run}");
        assert!(!run.err.contains("hunter2"), "{args:?}: {run}");
        assert_eq!(run.out, "", "{args:?}");
    }
    assert_eq!(sandbox.log(), Vec::<serde_json::Value>::new());
}

#[test]
fn an_update_that_this_api_version_does_not_support_exits_2_and_sends_nothing() {
    let sandbox = Sandbox::start(&[]);
    for (args, expected) in [
        (
            vec!["update", "abc", "resubmitted", "--node", "a:b"],
            "resubmitting needs API v3: set DIDIT_API_VERSION=v3",
        ),
        (
            vec!["update", "abc", "approved", "--email", "a@b.example"],
            "sending an email needs API v3: set DIDIT_API_VERSION=v3",
        ),
    ] {
        let run = sandbox.run(&args).exits(2);
        assert!(run.line().contains(expected), "{args:?}: {run}");
        assert_eq!(run.out, "", "{args:?}");
    }
    assert_eq!(sandbox.log(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_missing_or_invalid_configuration_exits_2_and_names_the_variable_but_no_value() {
    let of = |vars: &[(&str, &str)], expected: &str| {
        let run = Run::of(didit(&["status", "abc"]).envs(vars.iter().copied())).exits(2);
        assert!(run.line().contains(expected), "{vars:?}: {run}");
        assert!(!run.err.contains("hunter2"), "{run}");
    };
    of(&[], "set DIDIT_API_KEY, or DIDIT_CLIENT_ID and DIDIT_CLIENT_SECRET");
    of(&[("DIDIT_CLIENT_ID", "me")], "DIDIT_CLIENT_SECRET is not");
    of(&[("DIDIT_API_KEY", "k"), ("DIDIT_TIMEOUT", "hunter2")], "DIDIT_TIMEOUT");
    of(
        &[("DIDIT_API_KEY", "k"), ("DIDIT_BASE_URL", "http://hunter2.example")],
        "DIDIT_BASE_URL",
    );
}

#[test]
fn credentials_are_not_accepted_as_options_and_not_repeated() {
    for option in ["--api-key", "--secret", "--client-secret", "--token", "--client-id"] {
        let joined = format!("{option}=hunter2");
        for args in [
            vec![option, "hunter2", "auth"],
            vec!["auth", option, "hunter2"],
            vec!["auth", &joined],
            vec!["update", "abc", "approved", option, "hunter2"],
            vec!["batch", "rows.csv", &joined],
        ] {
            let run = Run::of(&mut didit(&args)).exits(2);
            assert!(
                run.err.contains(&format!("unexpected argument '{option}'")),
                "{args:?}: {run}"
            );
            assert!(
                run.err.contains("credentials come from the environment"),
                "{args:?}: {run}"
            );
            assert!(run.err.contains("DIDIT_API_KEY"), "{args:?}: {run}");
            assert!(!run.err.contains("hunter2"), "{args:?}: {run}");
            assert_eq!(run.out, "", "{args:?}");
        }
    }
    let run = Run::of(&mut didit(&["auth", "hunter2"])).exits(2);
    assert!(run.err.contains("credentials come from the environment"), "{run}");
    assert!(!run.err.contains("hunter2"), "{run}");
}

#[test]
fn an_error_cannot_control_the_terminal() {
    let run = Run::of(&mut didit(&["status", "a\u{1b}[2Jb"])).exits(2);
    assert!(!run.err.contains('\u{1b}'), "{run}");
}

#[test]
fn the_last_value_of_a_repeated_option_is_sent_and_may_start_with_a_hyphen() {
    let sandbox = Sandbox::start(&[]);
    let args = ["--comment", "one", "--comment", "-v two"];
    sandbox
        .run(&[&["update", "abc", "aPPROVED"][..], &args].concat())
        .exits(0);
    let expected = json!({"new_status": "Approved", "comment": "-v two"});
    assert_eq!(sandbox.updates()[0]["body"], expected);
}

/// Passes a text to a program, if that is installed. `.ci/run` installs it, so in CI it must be.
fn through(program: &str, args: &[&str], input: &str) -> Option<Run> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if cfg!(target_os = "linux") && env::var_os("CI").is_some() => panic!("{program}: {error}"),
        Err(_) => return None,
    };
    // A program that stops reading prints why to its standard error.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(Run::end(child))
}

#[test]
fn completions_for_each_shell_contain_the_commands_and_are_valid() {
    for (shell, check) in [
        ("bash", Some(["-n"])),
        ("zsh", Some(["-n"])),
        ("fish", Some(["--no-execute"])),
        ("powershell", None),
        ("elvish", None),
    ] {
        let run = Run::of(&mut didit(&["completions", shell])).exits(0);
        assert_eq!(run.err, "", "{shell}");
        for word in ["update", "batch", "--max-outage", "--dry-run", "resubmitted"] {
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            // The last two shells complete options and commands, but no values.
            let values = !matches!(shell, "powershell" | "elvish");
            assert!(
                run.out.contains(word) || (word == "resubmitted" && !values),
                "{shell}: {word}: {run}"
            );
        }
        if let Some(check) = check.and_then(|args| through(shell, &args, &run.out)) {
            check.exits(0);
        }
    }
}

#[test]
fn every_command_has_a_readable_manual_page() {
    let pages = COMMANDS.map(|(command, own)| (vec!["man", command], own));
    for (args, own) in pages.into_iter().chain([(vec!["man"], &VARIABLES[..])]) {
        let page = Run::of(&mut didit(&args)).exits(0).out;
        assert!(page.contains(".TH didit"), "{args:?}: {page}");
        let plain = page
            .replace('\\', "")
            .replace("fB", "")
            .replace("fR", "")
            .replace("fI", "");
        let options = own
            .iter()
            .filter(|word| word.starts_with("--") || word.starts_with("DIDIT_"));
        for option in options {
            let option = option.split(' ').next().unwrap();
            assert!(plain.contains(option), "{args:?}: {option}: {page}");
        }
        if let Some(run) = through("man", &["-l", "-"], &page) {
            let run = run.exits(0);
            assert!(run.out.contains("SYNOPSIS"), "{run}");
        }
    }
    let page = Run::of(&mut didit(&["man"])).exits(0).out;
    assert!(page.contains("\n.SH EXIT STATUS\n.nf\n  0  done\n"), "{page}");
    let listed = page
        .lines()
        .filter_map(|line| line.strip_prefix("didit\\-")?.strip_suffix("(1)"));
    assert_eq!(listed.collect::<Vec<_>>(), COMMANDS.map(|(command, _)| command));
}
