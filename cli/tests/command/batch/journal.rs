//! A journal is on disk before its requests are sent, and belongs to one batch.

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
fn a_journal_belongs_to_the_credential_in_use_even_if_another_is_set() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(1));
    let mut command = sandbox.with_key(&["batch", &file]);
    Run::of(
        command
            .env("DIDIT_CLIENT_ID", "id")
            .env("DIDIT_CLIENT_SECRET", "secret")
            .env("DIDIT_API_VERSION", "v3"),
    )
    .exits(0);
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert!(run.err.contains("nothing is left to do"), "{run}");
}

#[test]
fn a_journal_recognizes_a_key_from_a_file() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(1));
    let with_file = |key: &str| {
        let key = dir.file("key", key);
        let mut command = sandbox.with_key(&["batch", &file]);
        Run::of(command.env_remove("DIDIT_API_KEY").env("DIDIT_API_KEY_FILE", key))
    };
    with_file("key-hunter2\n").exits(0);
    // The same key is accepted, and another one is rejected.
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert!(run.err.contains("nothing is left to do"), "{run}");
    let run = with_file("other\n").exits(2);
    assert!(
        run.line().contains("this journal belongs to other credentials"),
        "{run}"
    );
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
    let run = batch(&sandbox, &file, &[]).exits(2);
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
fn a_journal_of_another_batch_and_any_other_file_is_rejected() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &[]).exits(0);
    let journal = format!("{file}.journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let refused = |run: Run, expected: &str| {
        let run = run.exits(2);
        assert!(run.line().contains(expected), "{run}");
        assert!(run.line().starts_with(&format!("{journal}: ")), "{run}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), kept);
    };
    let mut other = sandbox.with_key(&["batch", &file]);
    refused(
        Run::of(other.env("DIDIT_API_KEY", "other")),
        "this journal belongs to other credentials",
    );
    let mut other = sandbox.with_key(&["batch", &file]);
    refused(
        Run::of(other.env("DIDIT_BASE_URL", format!("{}/eu", sandbox.url))),
        &format!(
            "this journal belongs to {0}; nothing was sent. To resume that batch, set DIDIT_BASE_URL to this URL. With \
             another --journal, this run sends every row to {0}/eu",
            sandbox.url
        ),
    );
    dir.file("rows.csv", csv(4));
    refused(
        batch(&sandbox, &file, &[]),
        "this journal belongs to a different input file; nothing was sent. To correct rows, put them in a new file with its \
         own journal; to resume this batch, restore its input.",
    );

    // A file that is not a journal stays unchanged, with or without a complete line.
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

    // The last row's result is incomplete. Its intent is complete, so the row is read back.
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
    assert!(sandbox.log().is_empty());
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
    fs::write(&path, text.replace("\"didit_journal\":2", "\"didit_journal\":1")).unwrap();
    for more in [&["--json"][..], &["--dry-run"]] {
        let run = batch(&sandbox, &file, more).exits(2);
        assert!(
            run.line()
                .contains("Finish the batch with that version. Keep the journal"),
            "{run}"
        );
        assert_eq!(run.out, "");
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
