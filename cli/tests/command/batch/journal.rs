//! A journal is on disk before its requests are sent, and belongs to one batch.

use std::io::Write;

use super::*;

#[test]
fn the_journal_has_an_intent_and_a_result_for_each_row() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(1));
    batch(&sandbox, &file, &[]).exits(0);
    let entries = journal(&file);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["intent"], "Approved");
    assert_eq!(entries[1]["result"], "applied");
    for entry in entries {
        assert_eq!((&entry["line"], &entry["session_id"]), (&json!(2), &json!(id(0))));
        assert!(entry["at"].as_u64() > Some(1_700_000_000), "Unix seconds: {entry}");
    }
    let text = fs::read_to_string(format!("{file}.journal")).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    #[cfg(unix)]
    {
        let metadata = fs::metadata(format!("{file}.journal")).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777,
            0o600
        );
    }
}

#[test]
fn a_batch_resumes_with_other_credentials() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &[]).exits(0);
    let mut other = sandbox.with_key(&["batch", &file]);
    let run = Run::of(other.env("DIDIT_API_KEY", "other")).exits(0);
    assert!(run.err.contains("nothing is left to do"), "{run}");
    let run = Run::of(&mut sandbox.didit(&["batch", &file])).exits(0);
    assert!(run.err.contains("nothing is left to do"), "{run}");
    assert_eq!(sandbox.updates().len(), 3);
}

#[test]
fn a_second_run_on_the_same_journal_is_rejected() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(100));
    let mut first = sandbox
        .with_key(&["batch", &file, "--rate", "1", "--quiet"])
        .spawn()
        .unwrap();
    wait_for(&file, |entry| entry["result"] == "applied");
    let run = batch(&sandbox, &file, &[]).exits(7);
    assert!(
        run.line().ends_with(
            "rows.csv.journal: another run is using this journal; nothing was sent; wait until that run has ended"
        ),
        "{run}"
    );
    assert_eq!(sandbox.updates().len(), 1);
    // The lock ends with its process.
    kill(&mut first);
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(sandbox.updates().len(), 100);
}

#[test]
fn a_journal_of_another_input_or_host_is_rejected_with_both_ways_out() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file(
        "rows.csv",
        "session_id,new_status\nabc,Approved\nunknown-1,Approved\nforbidden-1,Approved\n",
    );
    batch(&sandbox, &file, &[]).exits(4);
    let journal = format!("{file}.journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let sent = sandbox.log().len();
    let rejected = |command: &mut Command, expected: &str| {
        let run = Run::of(command).exits(2);
        assert_eq!(run.line(), format!("{journal}: {expected}"));
        assert_eq!(fs::read_to_string(&journal).unwrap(), kept);
    };
    let url = &sandbox.url;
    let other = format!(
        "this journal belongs to {url} (2 of 3 rows done, 1 left); nothing was sent. To resume that batch, set DIDIT_BASE_URL \
         to that URL. For a new batch, which sends every row to {url}/eu, use --journal NEW"
    );
    for more in [&[][..], &["--dry-run"]] {
        let mut command = sandbox.with_key(&[&["batch", &*file], more].concat());
        rejected(command.env("DIDIT_BASE_URL", format!("{url}/eu")), &other);
    }
    dir.file("rows.csv", csv(4));
    let changed = format!(
        "{file} is not the input of this journal, or has changed since (2 of 3 rows done, 1 left); nothing was sent. To resume \
         that batch, restore the old file. For a new batch, which sends every row of {file}, use --journal NEW"
    );
    rejected(&mut sandbox.with_key(&["batch", &file]), &changed);
    assert_eq!(sandbox.log().len(), sent);
    // Both ways out.
    batch(&sandbox, &file, &["--journal", &dir.path("new")]).exits(0);
    dir.file(
        "rows.csv",
        "session_id,new_status\nabc,Approved\nunknown-1,Approved\nforbidden-1,Approved\n",
    );
    batch(&sandbox, &file, &[]).exits(4);
}

#[test]
fn hosts_are_compared_without_case_and_their_paths_with_it() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(2));
    let port = sandbox.port();
    let with_url = |url: String| Run::of(sandbox.with_key(&["batch", &file]).env("DIDIT_BASE_URL", url));
    with_url(format!("http://localhost:{port}")).exits(0);
    let run = with_url(format!("http://LOCALHOST:{port}")).exits(0);
    assert!(run.err.contains("nothing is left to do"), "{run}");
    with_url(format!("http://LOCALHOST:{port}/EU")).exits(2);
    assert_eq!(sandbox.updates().len(), 2);
}

#[test]
fn a_batch_in_a_sandbox_has_a_journal_of_its_own_whatever_the_port() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(2));
    let in_sandbox = |sandbox: &Sandbox| {
        let mut command = sandbox.with_key(&["batch", &file]);
        command.env("IN_DIDIT_SANDBOX", &sandbox.url);
        Run::of(command.env("DIDIT_AUTH_URL", &sandbox.url)).exits(0)
    };
    let (one, other) = (Sandbox::start(&[]), Sandbox::start(&[]));
    in_sandbox(&one);
    assert_eq!(dir.names(), ["rows.csv", "rows.csv.sandbox.journal"]);
    let text = fs::read_to_string(dir.path("rows.csv.sandbox.journal")).unwrap();
    let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(header["host"], "sandbox");
    let again = in_sandbox(&other);
    assert!(again.err.contains("nothing is left to do"), "{again}");
    assert!(other.log().is_empty());
    // Outside, the rows were never sent.
    batch(&one, &file, &[]).exits(0);
    assert_eq!(one.updates().len(), 4);
}

#[test]
fn any_other_file_is_rejected_and_stays_unchanged() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &[]).exits(0);
    // With or without a complete line.
    let contents: [&[u8]; 5] = [
        b"precious",
        b"precious\n",
        b"{\"didit\":1}\n",
        b"\xff\xd8\xff\xe0JFIF",
        b"{",
    ];
    for content in contents {
        let precious = dir.file("precious", content);
        let run = batch(&sandbox, &file, &["--journal", &precious]);
        match content {
            // This may be the first byte of a journal.
            b"{" => drop(run.exits(0)),
            _ => {
                let run = run.exits(2);
                assert!(
                    run.line()
                        .contains("this file is not a journal of didit, or its first line is damaged"),
                    "{run}"
                );
                assert_eq!(fs::read(&precious).unwrap(), content);
            }
        }
    }
}

#[test]
fn an_incomplete_last_line_is_ignored_and_a_damaged_line_is_rejected() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let path = format!("{file}.journal");
    let whole = fs::read_to_string(&path).unwrap();

    // The last row's result is incomplete. Its intent is complete, so the session is read.
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(
        run.line(),
        "3 rows: 3 applied, 0 already set, 0 refused, 0 unknown, 0 not applied"
    );
    assert_eq!(sandbox.updates().len(), 3);
    assert_eq!(results(&file).len(), 3);

    // The header is incomplete, so nothing was sent.
    fs::write(&path, &whole[..30]).unwrap();
    batch(&sandbox, &file, &[]).exits(0);

    let damaged = whole
        .replacen("intent", "\0\0\0\0", 1)
        .replacen("\"line\":2", "\"line\":999", 1);
    fs::write(&path, &damaged).unwrap();
    let sent = sandbox.updates().len();
    let run = batch(&sandbox, &file, &[]).exits(2);
    assert!(run.line().contains("line 2 is damaged; nothing was sent"), "{run}");
    assert_eq!(sandbox.updates().len(), sent);
}

#[test]
fn a_journal_that_cannot_be_written_exits_2() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    let run = batch(&sandbox, &file, &["--journal", &dir.path("none/journal")]).exits(2);
    assert!(
        run.line().contains("none/journal: this journal cannot be used"),
        "{run}"
    );
    assert!(
        run.line()
            .ends_with("; for a new batch, choose another place with --journal FILE"),
        "{run}"
    );
    let run = batch(&sandbox, &file, &["--journal", &dir.path("")]).exits(2);
    assert!(run.line().contains("a journal must be a regular file"), "{run}");
    // A dry run only reads it. Windows does not distinguish this path from that of a missing file.
    if cfg!(unix) {
        let path = format!("{file}/journal");
        let run = batch(&sandbox, &file, &["--dry-run", "--journal", &path]).exits(2);
        assert!(run.err.contains("this journal cannot be used"), "{run}");
    }
    assert!(sandbox.log().is_empty());
}

/// Returns a server that does something to the journal when the second update arrives.
#[cfg(unix)]
fn interfering(interfere: impl Fn() + Send + Sync + 'static) -> (Server, std::sync::Arc<Sessions>) {
    let sessions = std::sync::Arc::new(Sessions::default());
    let served = sessions.clone();
    let server = Server::start(move |request| {
        if session_of(request) == id(1) {
            interfere();
        }
        served.serve(request)
    });
    (server, sessions)
}

/// Runs five rows, of which the second lets something be done to the journal. Nothing may be sent after it.
#[cfg(unix)]
fn stopped_by(interfere: fn(&str)) -> Run {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(5));
    let path = format!("{file}.journal");
    let (server, _) = interfering(move || interfere(&path));
    let run = run(&server, &[&file, "--jobs", "1"]).exits(6);
    assert_eq!(server.requests().len(), 2);
    run
}

#[cfg(unix)]
#[test]
fn a_journal_that_is_replaced_or_removed_during_the_run_stops_it() {
    let interferences: [fn(&str); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::rename(path, format!("{path}.old")).unwrap(),
        // An editor writes a new file and renames it.
        |path| {
            fs::copy(path, format!("{path}.new")).unwrap();
            fs::rename(format!("{path}.new"), path).unwrap();
        },
    ];
    for interfere in interferences {
        let run = stopped_by(interfere);
        let stopped = "didit: stopped: the journal was replaced or removed during the run; put the old file back before you run \
                       again, otherwise rows may be sent twice\n";
        assert!(run.err.contains(stopped), "{run}");
        assert!(run.err.contains("5 rows: 2 applied, "), "{run}");
        // Without the old file, it would send every row again.
        assert!(!run.err.contains("run the same command again"), "{run}");
    }
}

#[cfg(unix)]
#[test]
fn a_journal_whose_size_changes_during_the_run_stops_it() {
    let interferences: [fn(&str); 2] = [
        |path| fs::write(path, "").unwrap(),
        |path| {
            let mut journal = fs::OpenOptions::new().append(true).open(path).unwrap();
            journal.write_all(b"a note\n").unwrap();
        },
    ];
    for interfere in interferences {
        let run = stopped_by(interfere);
        let stopped = "didit: stopped: the journal was edited during the run; undo that before you run again, otherwise rows may be \
                       sent twice\n";
        assert!(run.err.ends_with(stopped), "{run}");
    }
}

#[cfg(unix)]
#[test]
fn a_journal_that_was_put_back_resumes_without_sending_a_row_twice() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(5));
    let (path, old) = (format!("{file}.journal"), dir.path("old"));
    let (from, to) = (path.clone(), old.clone());
    let is_moved = Mutex::new(false);
    let (server, sessions) = interfering(move || {
        if !std::mem::replace(&mut *lock(&is_moved), true) {
            fs::rename(&from, &to).unwrap();
        }
    });
    run(&server, &[&file, "--jobs", "1"]).exits(6);
    fs::rename(&old, &path).unwrap();
    run(&server, &[&file, "--jobs", "1"]).exits(0);
    assert_eq!(sessions.applied(), [1; 5]);
    let updates = server
        .requests()
        .into_iter()
        .filter(|request| request.method == "PATCH");
    assert_eq!(updates.count(), 5);
}

#[test]
fn a_journal_is_read_with_other_line_ends_blank_lines_and_any_order_of_keys() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &[]).exits(0);
    let path = format!("{file}.journal");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Values of serde_json have their keys in alphabetical order.
    let sorted = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap().to_string());
    let sorted = sorted.collect::<Vec<_>>().join("\n") + "\n";
    assert_ne!(sorted, text);
    for edited in [
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.replace('\n', "\n\n \n"),
        sorted,
        text.trim_end().to_owned(),
    ] {
        fs::write(&path, &edited).unwrap();
        for more in [&["--dry-run"][..], &[]] {
            batch(&sandbox, &file, more).exits(0);
        }
        let after = fs::read_to_string(&path).unwrap();
        assert_eq!(after.trim_end(), edited.trim_end(), "nothing is rewritten");
    }
    assert_eq!(sandbox.updates().len(), 3);
}

#[test]
fn an_intent_without_its_line_break_counts() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = killed(&dir, &sandbox, "Approved", 0);
    let path = format!("{file}.journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    batch(&sandbox, &file, &[]).exits(0);
    let methods: Vec<Value> = sandbox.log().iter().map(|entry| entry["method"].clone()).collect();
    assert_eq!(methods, ["GET", "PATCH"]);
    // The new lines begin on a line of their own.
    assert_eq!(journal(&file).len(), 3);
}

#[test]
fn nul_bytes_are_ignored_at_the_end_of_a_journal_and_are_damage_elsewhere() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let path = format!("{file}.journal");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    // The last result was not synced, and the file contains other bytes in its place.
    for tail in ["\0\0\0\0\0\0\n", "\0\0\0\0\0\0", "{\"line\":4,\"ses\0\0\0\0\n\0\0\0\n"] {
        fs::write(&path, format!("{}\n{tail}", lines[..6].join("\n"))).unwrap();
        let run = batch(&sandbox, &file, &[]).exits(0);
        assert!(run.err.contains("3 rows: 3 applied, 0 already set"), "{run}");
        assert!(!fs::read(&path).unwrap().contains(&0));
    }
    // A row was sent after the NUL bytes, so they are not at the end.
    fs::write(&path, format!("{}\n\0\0\0\n{}\n", lines[..5].join("\n"), lines[5])).unwrap();
    let run = batch(&sandbox, &file, &[]).exits(2);
    assert!(
        run.line()
            .contains("line 6 is damaged; nothing was sent; restore the journal"),
        "{run}"
    );
    assert_eq!(sandbox.updates().len(), 3);

    // The file contains nothing but NUL bytes.
    fs::write(&path, [0; 64]).unwrap();
    batch(&sandbox, &file, &[]).exits(0);
}

#[test]
fn a_journal_of_another_version_is_rejected_and_the_message_says_to_keep_it() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &[]).exits(0);
    let path = format!("{file}.journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"didit_journal\":3", "\"didit_journal\":4")).unwrap();
    for more in [&["--json"][..], &["--dry-run"]] {
        let run = batch(&sandbox, &file, more).exits(2);
        assert!(
            run.line()
                .contains("Finish the batch with that version. Keep the journal"),
            "{run}"
        );
        let stopped = run
            .objects()
            .pop()
            .map(|mut object| object["summary"]["stopped"].take());
        assert_eq!(stopped, more.contains(&"--json").then(|| json!(run.line())));
    }
}

#[test]
fn a_result_that_appears_twice_counts_once() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(2));
    batch(&sandbox, &file, &[]).exits(0);
    let path = format!("{file}.journal");
    let text = fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    fs::write(&path, format!("{text}{last}\n{last}\n")).unwrap();
    let run = batch(&sandbox, &file, &["--json"]).exits(0);
    assert!(
        run.err
            .contains("2 rows: 2 applied, 0 already set, 0 refused, 0 unknown, 0 not applied"),
        "{run}"
    );
    assert_eq!(run.objects().len(), 3, "{run}");
}

#[cfg(unix)]
#[test]
fn an_existing_journal_becomes_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(1));
    let path = dir.file("rows.csv.journal", "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn two_names_of_one_input_share_a_journal() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let (file, link) = (dir.file("rows.csv", csv(3)), dir.path("link.csv"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    batch(&sandbox, &file, &[]).exits(0);
    let again = batch(&sandbox, &link, &[]).exits(0);
    assert!(again.err.contains("nothing is left to do"), "{again}");
    assert_eq!(sandbox.updates().len(), 3);
}
