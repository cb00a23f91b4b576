//! `didit sandbox` runs a command with its own variables, answers like Didit, and exits with the command's status.

use crate::batch::{batch, csv};
use crate::sandbox::{Run, Sandbox, didit, in_sandbox};
use crate::support::directory::Directory;
use serde_json::json;

fn run(options: &[&str], command: &[&str]) -> Run {
    Run::of(&mut in_sandbox(options, command))
}

#[test]
fn a_command_in_the_sandbox_prints_only_its_own_output() {
    const SESSION: &str = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";
    let update = run(&[], &["didit", "update", SESSION, "declined"]).exits(0);
    assert_eq!(update.out, format!("{SESSION} is Declined now\n"));
    assert_eq!(update.err, "");
    let status = run(&[], &["didit", "status", SESSION]).exits(0);
    assert_eq!((status.out.as_str(), status.err.as_str()), ("In Review\n", ""));
}

#[test]
fn didit_runs_in_the_sandbox_without_a_path() {
    let mut command = didit(&["sandbox", "--", "didit", "auth"]);
    Run::of(&mut command).exits(0);
}

#[test]
fn two_sandboxes_with_commands_run_at_the_same_time_and_are_independent() {
    let (one, other) = (Sandbox::start(&[]), Sandbox::start(&[]));
    assert_ne!(one.port(), other.port());
    one.run(&["update", "abc", "approved"]).exits(0);
    assert_eq!(
        (one.status("abc"), other.status("abc")),
        ("Approved".into(), "none".into())
    );
}

#[test]
fn a_port_in_use_exits_2_and_runs_no_command() {
    let first = Sandbox::start(&[]);
    let second = run(&["--port", first.port()], &["didit", "auth"]).exits(2);
    assert!(
        second.line().contains(&format!("port {} is in use", first.port())),
        "{second}"
    );
    assert!(second.line().contains("--port 0"), "{second}");
    assert_eq!(second.out, "");
    assert_eq!(first.log(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_batch_resumes_in_another_sandbox_on_the_same_port() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(3) + "unknown-1,Approved\n");
    let port = Sandbox::fixed_port();
    let first = Sandbox::on_port(&port);
    batch(&first, &file, &[]).exits(1);
    assert_eq!(first.updates().len(), 4);
    drop(first);

    let second = Sandbox::on_port(&port);
    let run = batch(&second, &file, &["--retry", "refused"]).exits(1);
    assert!(run.err.contains("4 rows: 3 applied"), "{run}");
    let log = second.log();
    let is_refused = |entry: &serde_json::Value| entry["path"].to_string().contains("/unknown-1/");
    assert!(!log.is_empty() && log.iter().all(is_refused), "{log:?}");
}

#[test]
fn client_credentials_select_v1_and_a_key_selects_v3() {
    for (kind, path) in [("client", "/v1/session/abc/"), ("key", "/v3/session/abc/")] {
        let run = run(&["--credentials", kind], &["didit", "update", "abc", "approved", "-v"]).exits(0);
        assert!(run.err.contains(path), "{run}");
        assert_eq!(run.err.contains("/auth/v2/token/"), kind == "client", "{run}");
    }
}

#[test]
fn show_requests_hides_secrets() {
    let update = ["didit", "update", "abc", "approved", "--comment", "Zo\u{eb}: \u{1b}[2J"];
    let client = run(&["--credentials", "client", "--show-requests"], &update).exits(0);
    assert_eq!(client.out, "abc is Approved now\n");
    for line in [
        "> POST /auth/v2/token/ HTTP/1.1",
        "> authorization: Basic …",
        "> grant_type=client_credentials",
        "< {\"access_token\":\"…\",\"expires_in\":86400}",
        "> PATCH /v1/session/abc/update-status/ HTTP/1.1",
        "> authorization: Bearer …",
        "> {\"new_status\":\"Approved\",\"comment\":\"Zoë: \\\\u001b[2J\"}",
        "< HTTP/1.1 200",
        "< {\"session_id\":\"abc\"}",
    ] {
        assert!(
            client.err.lines().any(|shown| shown == line.replace("\\\\", "\\")),
            "{line}: {client}"
        );
    }
    let key = run(&["--show-requests"], &["didit", "status", "unknown-1"]).exits(4);
    assert!(key.err.contains("\n> x-api-key: …\n"), "{key}");
    assert!(key.err.contains("\n< {\"detail\":\"Session not found.\"}\n"), "{key}");
    let lost = run(&["--show-requests"], &["didit", "update", "lost-1", "approved"]).exits(0);
    assert!(lost.err.contains("\n< (the connection closes)\n"), "{lost}");
    // One of the secrets is the Base64 form of the Basic credentials.
    for secret in ["sandbox-key", "sandbox-secret", "c2FuZGJveC", "sandbox-token"] {
        assert!(
            !format!("{client}{key}{lost}").contains(secret),
            "{secret}: {client}{key}"
        );
    }
}

#[test]
fn listed_session_ids_cause_failures() {
    let sandbox = Sandbox::start(&[]);
    let run = |args: &[&str], exit| {
        let mut command = sandbox.with_key(args);
        if args[1].starts_with("slow-") {
            command.env("DIDIT_TIMEOUT", "1");
        }
        Run::of(command.env("DIDIT_MAX_RETRIES", "0")).exits(exit)
    };
    for (id, update, read, expected) in [
        ("unknown-1", 4, 4, "404"),
        ("forbidden-1", 4, 4, "403"),
        ("unfinished-1", 4, 0, "400"),
        ("throttled-1", 6, 0, "429"),
        ("readonly-1", 5, 0, "503"),
        ("slow-1", 5, 6, "did not answer within"),
    ] {
        let updated = run(&["update", id, "approved"], update);
        assert!(updated.line().contains(expected), "{updated}");
        run(&["status", id], read);
    }
    run(&["update", "lost-1", "approved"], 5);
    // With a retry, the session is read.
    sandbox.run(&["update", "lost-2", "approved"]).exits(0);
    let sessions = sandbox.sessions();
    assert_eq!(sessions["unfinished-1"].0, "In Progress");
    assert_eq!(sessions["throttled-1"].0, "In Review");
    assert_eq!(sessions["readonly-1"].0, "In Review");
    assert_eq!(
        (sessions["slow-1"].1["Approved"], sessions["lost-1"].1["Approved"]),
        (1, 1)
    );
    assert!(!sessions.contains_key("unknown-1") && !sessions.contains_key("forbidden-1"));

    // The rate limit ends, so a retry succeeds.
    let mut patient = sandbox.with_key(&["update", "throttled-2", "approved"]);
    Run::of(&mut patient).exits(0);
    let of = |entry: &&serde_json::Value| entry["path"] == "/v3/session/throttled-2/update-status/";
    let log = sandbox.log();
    let statuses: Vec<_> = log.iter().filter(of).map(|entry| &entry["status"]).collect();
    assert_eq!(statuses, [429, 200]);
}

#[test]
fn a_share_of_requests_fails_and_every_sandbox_fails_the_same_ones() {
    const REQUESTS: usize = 400;
    let faults = |rate: &str| {
        let sandbox = Sandbox::start(&["--fail-rate", rate]);
        for number in 0..REQUESTS {
            sandbox.request(
                "PATCH",
                &format!("/v3/session/{number}/update-status/"),
                "{\"new_status\":\"Approved\"}",
            );
        }
        let log = sandbox.log();
        assert_eq!(log.len(), REQUESTS);
        // Requests with a fault before the update were not applied. All others were.
        let before = log.iter().filter(|entry| entry["fault"].to_string().contains("Before"));
        assert_eq!(sandbox.sessions().len(), REQUESTS - before.count());
        log.into_iter().map(|entry| entry["fault"].clone()).collect::<Vec<_>>()
    };
    let failed = |faults: &[serde_json::Value]| faults.iter().filter(|fault| !fault.is_null()).count();
    let tenth = faults("0.1");
    assert!((20..=60).contains(&failed(&tenth)), "{tenth:?}");
    assert_eq!(faults("0.1"), tenth);
    let all = faults("1");
    assert_eq!(failed(&all), REQUESTS);
    for fault in [
        "ClosedBefore",
        "ErrorBefore",
        "ClosedAfter",
        "ErrorAfter",
        "HalfResponse",
    ] {
        assert!(all.contains(&fault.into()), "{fault}: {all:?}");
    }
    assert_eq!(failed(&faults("0")), 0);
}

#[test]
fn any_http_client_can_use_the_sandbox_and_none_can_stop_it() {
    let sandbox = Sandbox::start(&[]);
    let head = "PATCH /v3/session/abc/update-status/ HTTP/1.1\r\nX-API-Key: k\r\n";
    for end in [
        "Content-Length: 99999999999999999999\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nx\r\n",
        "\r\n\r\n",
    ] {
        // An update without a body is refused.
        let response = sandbox.raw(&format!("{head}Connection: close\r\n{end}"));
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 400 "),
            "{end:?}: {response}"
        );
    }
    assert_eq!(sandbox.raw("hello\r\n\r\n"), "");
    assert_eq!(sandbox.status("abc"), "In Review");

    let chunks =
        "1b;x=y\r\n{\"new_status\": \"Declined\", \r\n11\r\n\"comment\": \"seen\"\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n";
    let chunked = format!("{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let response = sandbox.raw(&chunked);
    assert!(response.starts_with("HTTP/1.1 200 \r\n"), "{response}");
    assert_eq!(sandbox.status("abc"), "Declined");
    assert_eq!(
        sandbox.updates().last().unwrap()["body"],
        json!({"new_status": "Declined", "comment": "seen"})
    );
}

#[cfg(unix)]
mod unix {
    use std::env;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Stdio;

    use super::*;
    use crate::support::words;

    #[test]
    fn the_command_gets_the_sandboxs_variables_and_none_of_the_callers() {
        for (kind, credentials) in [
            ("key", &["DIDIT_API_KEY=sandbox-key"][..]),
            (
                "client",
                &["DIDIT_CLIENT_ID=sandbox-id", "DIDIT_CLIENT_SECRET=sandbox-secret"],
            ),
        ] {
            let mut command = in_sandbox(&["--credentials", kind], &["env"]);
            for name in [
                "DIDIT_API_KEY",
                "DIDIT_CLIENT_SECRET",
                "DIDIT_TOKEN_FILE",
                "DIDIT_BASE_URL",
                "didit_timeout",
                "https_proxy",
                "ALL_PROXY",
                "No_Proxy",
                // `cargo run` sets them for `didit`. They would make another Cargo build its crates again.
                "CARGO_MANIFEST_DIR",
                "CARGO_PKG_NAME",
            ] {
                command.env(name, "hunter2");
            }
            let run = Run::of(command.env("OTHER", "kept")).exits(0);
            let (mut own, other): (Vec<_>, Vec<_>) = run.out.lines().partition(|line| line.starts_with("DIDIT_"));
            own.sort_unstable();
            let url = own
                .iter()
                .find_map(|line| line.strip_prefix("DIDIT_BASE_URL="))
                .unwrap();
            assert!(url.starts_with("http://127.0.0.1:"), "{run}");
            let urls = [format!("DIDIT_AUTH_URL={url}"), format!("DIDIT_BASE_URL={url}")];
            let mut expected: Vec<&str> = urls
                .iter()
                .map(String::as_str)
                .chain(credentials.iter().copied())
                .collect();
            expected.sort_unstable();
            assert_eq!(own, expected);
            assert!(other.contains(&"OTHER=kept"), "{run}");
            assert!(!run.out.contains("hunter2"), "{run}");
        }
    }

    #[test]
    fn didit_sends_nothing_out_of_the_sandbox() {
        for (change, name) in [
            ("DIDIT_BASE_URL=https://didit.invalid", "DIDIT_BASE_URL"),
            ("unset DIDIT_BASE_URL", "DIDIT_BASE_URL"),
            ("DIDIT_AUTH_URL=", "DIDIT_AUTH_URL"),
        ] {
            for command in ["update abc approved", "status abc", "auth", "batch rows.csv --dry-run"] {
                let run = run(&[], &["sh", "-c", &format!("{change}; didit {command}")]).exits(2);
                let expected =
                    format!("{name} points outside this sandbox; a startup file may have set it; nothing was sent; ");
                assert!(run.line().starts_with(&expected), "{run}");
            }
        }
        // Another local server is not production, and IN_DIDIT_SANDBOX can be unset.
        run(
            &[],
            &[
                "sh",
                "-c",
                "DIDIT_BASE_URL=http://127.0.0.1:1; DIDIT_MAX_RETRIES=0 didit status abc",
            ],
        )
        .exits(6);
        let left =
            "unset IN_DIDIT_SANDBOX; export DIDIT_MAX_RETRIES=0 DIDIT_BASE_URL=https://127.0.0.1:1; didit status abc";
        run(&[], &["sh", "-c", left]).exits(6);
    }

    #[test]
    fn the_sandbox_exits_with_the_status_of_its_command() {
        for (script, exit) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137)] {
            let run = run(&[], &["sh", "-c", script]).exits(exit);
            assert_eq!(run.err, "", "{script}");
        }
    }

    #[test]
    fn a_command_that_cannot_be_run_exits_127_or_126() {
        let dir = Directory::new();
        let file = dir.file("file", "");
        let missing = run(&[], &["no-such-command"]).exits(127);
        let missing = words::as_on_linux(missing.line());
        assert_eq!(missing, "cannot run no-such-command: No such file or directory");
        let not_executable = run(&[], &[&file]).exits(126);
        let not_executable = words::as_on_linux(not_executable.line());
        assert_eq!(not_executable, format!("cannot run {file}: Permission denied"));
    }

    #[test]
    fn this_didit_is_first_in_the_path_of_the_command() {
        let dir = Directory::new();
        let other = dir.file("didit", "#!/bin/sh\necho another didit\n");
        fs::set_permissions(other, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", dir.path(""), env::var("PATH").unwrap());
        let version = concat!("didit ", env!("CARGO_PKG_VERSION"), "\n");
        for command in [&["didit", "--version"][..], &["sh", "-c", "didit --version"]] {
            let run = Run::of(in_sandbox(&[], command).env("PATH", &path)).exits(0);
            assert_eq!(run.out, version, "{command:?}");
        }
    }

    #[test]
    fn without_a_command_a_shell_runs_and_a_line_says_how_to_leave() {
        let shell = |args: &[&str], shell: Option<&str>| {
            let mut command = didit(&[&["sandbox", "--port", "0"], args].concat());
            command.env("PATH", env::var_os("PATH").unwrap()).stdin(Stdio::piped());
            if let Some(shell) = shell {
                command.env("SHELL", shell);
            }
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"didit auth\nexit 7\n").unwrap();
            let run = Run::end(child).exits(7);
            assert!(run.out.starts_with("Didit accepts the API key at 127.0.0.1:"), "{run}");
            run
        };
        for name in [None, Some(""), Some("/bin/sh"), Some("sh")] {
            let run = shell(&[], name);
            assert!(run.line().starts_with("this shell runs in a sandbox: "), "{run}");
            assert!(run.line().contains("`exit`"), "{run}");
        }
        assert_eq!(shell(&["--quiet"], None).err, "");
        let missing = Run::of(didit(&["sandbox", "--port", "0", "-q"]).env("SHELL", "/no-such-shell")).exits(127);
        assert!(missing.line().contains("/no-such-shell"), "{missing}");
    }
}
