//! A valid input is accepted in every form, and nothing is sent for an invalid one.

use std::io::Write;

use super::*;

/// Returns the bodies of the updates that the sandbox received.
fn bodies(sandbox: &Sandbox) -> Vec<Value> {
    let updates = sandbox.updates().into_iter();
    updates.map(|mut entry| entry["body"].take()).collect()
}

#[test]
fn csv_is_accepted_in_every_valid_form() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "\u{feff}\"comment\",nodes,new_status,session_id,email,email_language\r\n\
                \"said \"\"no\"\",\r\nand left\",,declined,abc,,\r\n\
                \r\n\
                ,\" a:OCR;b:FACE, c:AML\nd:NFC \",RESUBMITTED, def ,p@example.com,fr\r\n\
                Zo\u{eb},,Approved,ghi,,";
    let file = dir.file("rows.csv", text);
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let bodies = bodies(&sandbox);
    let nodes = [("a", "OCR"), ("b", "FACE"), ("c", "AML"), ("d", "NFC")];
    let nodes = nodes.map(|(id, feature)| json!({"node_id": id, "feature": feature}));
    assert_eq!(
        bodies[0],
        json!({"new_status": "Declined", "comment": "said \"no\",\r\nand left"})
    );
    let resubmitted = json!({
        "new_status": "Resubmitted", "nodes_to_resubmit": nodes,
        "send_email": true, "email_address": "p@example.com", "email_language": "fr",
    });
    assert_eq!(bodies[1], resubmitted);
    assert_eq!(bodies[2], json!({"new_status": "Approved", "comment": "Zo\u{eb}"}));
    let lines: Vec<u64> = results(&file).into_keys().collect();
    assert_eq!(lines, [2, 5, 7]);
}

#[test]
fn csv_from_spreadsheets_is_accepted() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    for (number, (before, separator)) in [("", ';'), ("", '\t'), ("", ','), ("sep=;\n", ';'), ("sep=|\r\n", '|')]
        .into_iter()
        .enumerate()
    {
        let lines = [
            ",,,,".to_owned(),
            "comment,session_id,,new_status,".to_owned(),
            format!("\"a{separator}b\",s{number}-1,,Approved,"),
            ", ,,,".to_owned(),
            format!(",s{number}-2,,Declined,"),
            ",,,,".to_owned(),
        ];
        // The comment of the first row contains a separator.
        let text = lines.join("\r\n").replace(',', &separator.to_string());
        let file = dir.file(&format!("rows-{number}.csv"), format!("\u{feff}{before}{text}"));
        let run = batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
        assert!(
            run.line().starts_with("2 rows: 2 applied"),
            "{before:?} {separator:?}: {run}"
        );
        let bodies = &bodies(&sandbox)[2 * number..];
        let comment = format!("a{separator}b");
        assert_eq!(
            bodies[0],
            json!({"new_status": "Approved", "comment": comment}),
            "{separator:?}"
        );
        assert_eq!(bodies[1], json!({"new_status": "Declined"}));
        let first = 3 + u64::from(!before.is_empty());
        assert_eq!(results(&file).into_keys().collect::<Vec<_>>(), [first, first + 2]);
    }
}

#[test]
fn unknown_columns_are_ignored_only_with_the_option() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "Ticket;session_id;new_status;\"Seen by; when\"\n7;abc;Approved;Ann\n;def;Declined;\n";
    let file = dir.file("rows.csv", text);
    let strict = batch(&sandbox, &file, &[]).exits(2);
    let expected = "rows.csv: line 1: 2 unknown columns: \"Ticket\", \"Seen by; when\"; the columns are session_id, \
                    new_status, comment, nodes, email, email_language; use --ignore-unknown-columns to ignore others\n";
    assert!(strict.err.contains(expected), "{strict}");

    let run = batch(&sandbox, &file, &["--ignore-unknown-columns"]).exits(0);
    let notice = format!("didit: {file}: ignoring the columns Ticket, Seen by; when\n");
    assert!(run.err.starts_with(&notice), "{run}");
    assert_eq!(bodies(&sandbox).len(), 2);
}

#[test]
fn unknown_fields_of_ndjson_are_ignored_only_with_the_option() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let row = |id: &str, more: &str| format!("{{\"session_id\":\"{id}\",\"new_status\":\"Approved\",{more}}}\n");
    let text = row("abc", "\"ticket\":7,\"by\":[\"Ann\"]") + &row("def", "\"ticket\":8,\"comment\":\"Yes\"");
    let file = dir.file("rows.ndjson", text);
    let strict = batch(&sandbox, &file, &[]).exits(2);
    let expected = "rows.ndjson: line 2: not a row: unknown field `ticket`; the fields are session_id, new_status, comment, \
                    nodes, email, email_language; use --ignore-unknown-columns to ignore others\n";
    assert!(strict.err.contains(expected), "{strict}");
    assert!(sandbox.log().is_empty());

    let run = batch(&sandbox, &file, &["--ignore-unknown-columns", "--jobs", "1"]).exits(0);
    let notice = format!("didit: {file}: ignoring the fields by, ticket\n");
    assert!(run.err.starts_with(&notice), "{run}");
    let expected = [
        json!({"new_status": "Approved"}),
        json!({"new_status": "Approved", "comment": "Yes"}),
    ];
    assert_eq!(bodies(&sandbox), expected);
}

#[test]
fn column_names_may_have_capital_letters_and_spaces() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", "Session ID,NEW_STATUS, Comment\nabc,Approved,Yes\n");
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(bodies(&sandbox), [json!({"new_status": "Approved", "comment": "Yes"})]);
    let twice = dir.file("twice.csv", "session_id,new_status,Session ID\nabc,Approved,abc\n");
    let run = batch(&sandbox, &twice, &[]).exits(2);
    assert!(run.err.contains("line 1: the column Session ID appears twice"), "{run}");
}

#[test]
fn ndjson_may_have_blank_lines_empty_fields_and_no_final_line_end() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "\n{\"session_id\":\"abc\",\"new_status\":\"approved\",\"comment\":null,\"email\":\"\"}\r\n  \n\
                {\"nodes\":[{\"node_id\":\"a\",\"feature\":\"OCR\"}],\"new_status\":\"Resubmitted\",\"session_id\":\"def\"}";
    let file = dir.file("rows.ndjson", text);
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let bodies = bodies(&sandbox);
    let nodes = json!([{"node_id": "a", "feature": "OCR"}]);
    assert_eq!(bodies[0], json!({"new_status": "Approved"}));
    assert_eq!(
        bodies[1],
        json!({"new_status": "Resubmitted", "nodes_to_resubmit": nodes})
    );
    assert_eq!(results(&file).into_keys().collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn an_invalid_input_is_reported_by_line_and_nothing_is_sent() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let cases: [(&str, &[u8], &[&str]); 44] = [
        (
            "a.csv",
            b"",
            &["the input is empty; the first line must name the columns"],
        ),
        (
            "a.csv",
            b"\n\nsession_id\nabc\n",
            &["line 3: the column new_status is missing"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comnent\nabc,Approved,x\n",
            &["line 1: 1 unknown column: \"comnent\"; "],
        ),
        (
            "a.csv",
            b"session_id;new_status\nabc;Approved;x\n",
            &["line 2: this row has 3 fields, but the header has 2; a field that contains a separator"],
        ),
        (
            "a.csv",
            b"session_id;new_status\nabc;Approved;\n",
            &["line 2: this row has 3 fields, but the header has 2; a field that contains a separator must be in quotes; or remove the separator at the end"],
        ),
        (
            "a.csv",
            b"session_id,new_status\nabc,Approved,\ndef,Approved, ,\n",
            &[
                "line 2: this row has 3 fields, but the header has 2; a field that contains a comma must be in quotes; or remove the comma at the end",
                "line 3: this row has 4 fields, but the header has 2; a field that contains a comma must be in quotes; or remove the comma at the end",
            ],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\"},\n{\"session_id\":\"def\",\"new_status\":\"Approved\"} ,\t\n, {\"session_id\":\"ghi\"}\n",
            &[
                "line 1: a comma separates this row from the next one: remove it",
                "line 2: a comma separates this row from the next one: remove it",
                "line 3: a comma separates this row from the next one: remove it",
            ],
        ),
        (
            "a.csv",
            b"sep=;\nsession_id,new_status\nabc,Approved\n",
            &["line 2: no column names; the first line must name them, such as session_id,new_status"],
        ),
        (
            "a.csv",
            b"sep=;\n",
            &["the input is empty; the first line must name the columns"],
        ),
        (
            "a.csv",
            b"session_id,new_status,,\nabc,Approved,,\ndef,Approved,,x\n",
            &["line 3: column 4 has no name, but contains \"x\""],
        ),
        (
            "a.csv",
            b"[{\"session_id\":\"abc\",\"new_status\":\"Approved\"}]",
            &["the input is a JSON array; convert it to NDJSON with `jq -c '.[]' FILE > FILE.ndjson`"],
        ),
        (
            "a.ndjson",
            b"\n [\n{\"session_id\":\"abc\",\"new_status\":\"Approved\"}]",
            &["the input is a JSON array; convert it to NDJSON with `jq -c '.[]' FILE > FILE.ndjson`"],
        ),
        (
            "a.ndjson",
            b"\n{\n  \"session_id\": \"abc\",\n  \"new_status\": \"Approved\"\n}\n",
            &["the JSON objects take several lines each; convert them with `jq -c . FILE > FILE.ndjson`"],
        ),
        (
            "a.json",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\"}\n",
            &["the input is JSON; if it has one object per line, add --format ndjson"],
        ),
        (
            "a.xlsx",
            b"PK\x03\x04\x14\0\x06\0",
            &["the input is a workbook; nothing was sent; save it as CSV"],
        ),
        (
            "a.xls",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            &["the input is a workbook; nothing was sent; save it as CSV"],
        ),
        (
            "a.csv",
            b"\x1f\x8b\x08\0\0",
            &["the input is compressed with gzip; nothing was sent; decompress it first"],
        ),
        (
            "a.ndjson",
            b"\x1f\x8b\x08\0\0",
            &["the input is compressed with gzip; nothing was sent; decompress it first"],
        ),
        (
            "a.csv",
            b"session_id,new_status,session_id\n",
            &["line 1: the column session_id appears twice"],
        ),
        (
            "a.csv",
            b"session_id,new_status\r\nabc,Approved,x\r\ndef\r\n",
            &[
                "line 2: this row has 3 fields, but the header has 2; a field that contains a comma",
                "line 3: this row has 1 field, but the header has 2",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status\n,Approved\na/b,Approved\nc,In Review\n",
            &[
                "line 2: session_id: \"\" is not a session id: empty",
                "line 3: session_id: \"a/b\" is not a session id: contains '/'",
                "line 4: new_status: \"In Review\" cannot be set: use approved, declined or resubmitted",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,caf\xe9\ndef,Approved,x\n",
            &["line 2: not UTF-8; nothing was sent"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,\"a\nb\"\ndef,Approved,\"c\nghi,Declined,\n",
            &["line 4: a quote opens here and is never closed; the rest was not read"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,5\" pipe\n",
            &["line 2: a quote inside an unquoted field"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,\"5\" pipe\n",
            &["line 2: text after a closing quote"],
        ),
        (
            "a.csv",
            b"session_id,new_status,nodes\nabc,Resubmitted,\ndef,Resubmitted,x\nghi,Approved,a:b\n",
            &[
                "line 2: nodes: Resubmitted needs at least one, such as feature_ocr_1:OCR",
                "line 3: nodes: \"x\" is not a node: use NODE_ID:FEATURE",
                "line 4: nodes: only valid with Resubmitted",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status,email,email_language\nabc,Approved,nobody,\ndef,Approved,,en\nghi,Approved,a@b.example,xx\n",
            &[
                "line 2: email: not an email address",
                "line 3: an email language needs an email address",
                "line 4: email_language: \"xx\" is not a language of Didit's emails",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status\nabc,Approved\ndef,Approved\nABC,Declined\n",
            &["line 4: this row contradicts line 2 about session abc: Declined here, Approved in line 2"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment,nodes,email\nabc,Approved,x,,\nabc,Approved,y,,\n\
              def,Resubmitted,,a:b,\ndef,Resubmitted,,a:c,\nghi,Approved,,,\nghi,Approved,,,a@b.example\n",
            &[
                "line 3: this row contradicts line 2 about session abc: the comments differ",
                "line 5: this row contradicts line 4 about session def: the nodes differ",
                "line 7: this row contradicts line 6 about session ghi: the emails differ",
            ],
        ),
        (
            "a.csv",
            b"\xff\xfes\0e\0s\0",
            &["the input is UTF-16; nothing was sent; save it as UTF-8"],
        ),
        (
            "a.csv",
            b"\xfe\xff\0s\0e\0s",
            &["the input is UTF-16; nothing was sent; save it as UTF-8"],
        ),
        (
            "a.csv",
            b"s\0e\0s\0",
            &["the input is UTF-16; nothing was sent; save it as UTF-8"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\"}\n\n{\"session_id\":\"def\",\"new_st",
            &["line 3: the last line is cut off"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\",\"comnent\":\"x\"}\n",
            &["line 1: not a row: unknown field `comnent`"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\"}\n[]\n7\n",
            &[
                "line 1: not a row: missing field `new_status`",
                "line 2: not a row: ",
                "line 3: not a row: ",
            ],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\"} {}\n",
            &["line 1: not valid JSON (column 46)"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"session_id\":\"d\",\"new_status\":\"Approved\"}\n",
            &["line 1: not a row: duplicate field"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"\xe9\",\"new_status\":\"Approved\"}\n",
            &["line 1: not UTF-8; nothing was sent"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\",\"comment\":5}\n",
            &["line 1: not a row: invalid type"],
        ),
        (
            "a.ndjson",
            b"session_id,new_status\nabc,Approved\n",
            &["line 1: not valid JSON (column 1)", "line 2: not valid JSON (column 1)"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Resubmitted\",\"nodes\":[\"a:OCR\"]}\n\
              {\"session_id\":\"abc\",\"new_status\":\"Resubmitted\",\"nodes\":\"a:OCR\"}\n\
              {\"session_id\":\"abc\",\"new_status\":\"Resubmitted\"}\n",
            &[
                "line 1: not a row: invalid type: string \"a:OCR\", expected {\"node_id\": \"feature_ocr_1\", \"feature\": \"OCR\"} ",
                "line 2: not a row: invalid type: string \"a:OCR\", expected a list ",
                "line 3: Resubmitted needs at least one node",
            ],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\",\"nodes\":[{\"node_id\":\"a\",\"feature\":\"OCR\"}]}\n",
            &["line 1: nodes: only valid with Resubmitted"],
        ),
        (
            "a.csv",
            b"4c5c7f3a,approved\nabc,Approved\n",
            &["line 1: no column names; the first line must name them, such as session_id,new_status"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved, \"a-1\"\n",
            &["line 2: a space before a quote; remove the space; the rest was not read"],
        ),
    ];
    for (name, content, expected) in cases {
        let file = dir.file(name, content);
        let shown = String::from_utf8_lossy(content);
        let run = batch(&sandbox, &file, &[]).exits(2);
        let lines: Vec<&str> = run.err.lines().collect();
        // If the input cannot be read as text, no count of problems follows.
        let is_text = !expected[0].contains("nothing was sent");
        assert_eq!(lines.len(), expected.len() + usize::from(is_text), "{shown}: {run}");
        for (line, expected) in lines.iter().zip(expected) {
            let line = line.strip_prefix(&format!("didit: {file}: "));
            assert!(line.is_some_and(|line| line.starts_with(expected)), "{shown}: {run}");
        }
        assert!(lines.last().unwrap().contains("nothing was sent"), "{run}");
        assert!(!fs::exists(format!("{file}.journal")).unwrap(), "{shown}");
    }
    assert!(sandbox.log().is_empty());
}

#[test]
fn a_missing_file_exits_2() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let run = batch(&sandbox, &dir.path("none.csv"), &[]).exits(2);
    assert!(run.line().contains("none.csv: the input cannot be read"), "{run}");
    assert!(run.line().ends_with("; nothing was sent; check the file name"), "{run}");
}

#[test]
fn an_input_without_rows_exits_2_and_starts_no_journal() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    for (name, content) in [("rows.csv", "session_id,new_status\n\n"), ("rows.ndjson", "")] {
        let file = dir.file(name, content);
        let run = batch(&sandbox, &file, &[]).exits(2);
        assert_eq!(run.line(), format!("{file} has no rows; nothing was sent"));
        assert!(!fs::exists(format!("{file}.journal")).unwrap());
    }
}

#[test]
fn every_row_is_checked_against_the_api_version_before_any_is_sent() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file(
        "rows.csv",
        "session_id,new_status,nodes,email\na,Approved,,\nb,Resubmitted,x:y,\nc,Approved,,a@b.c\n",
    );
    let run = sandbox.run(&["batch", &file]).exits(2);
    assert!(
        run.err
            .contains("line 3: resubmitting needs API v3: set DIDIT_API_VERSION=v3"),
        "{run}"
    );
    assert!(
        run.err
            .contains("line 4: sending an email needs API v3: set DIDIT_API_VERSION=v3"),
        "{run}"
    );
    assert!(sandbox.log().is_empty());
}

#[test]
fn identical_rows_are_sent_once() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let (upper, plain) = (id(7).to_uppercase(), id(7).replace('-', ""));
    let text = format!(
        "session_id,new_status\n{{{upper}}},Approved\nx,Declined\n{upper},approved\nX,Declined\nx,Declined\n{plain},APPROVED\n",
    );
    let file = dir.file("rows.csv", text);
    let dry = batch(&sandbox, &file, &["--dry-run", "--json"]).exits(0);
    let objects = dry.objects();
    let duplicate_of = |object: &Value| Some((object["line"].as_u64()?, object["duplicate_of"].as_u64()?));
    let duplicates: Vec<_> = objects.iter().filter_map(duplicate_of).collect();
    assert_eq!(duplicates, [(4, 2), (5, 3), (6, 3), (7, 2)]);
    assert_eq!(objects.len(), 2 + 4 + 1, "the rows, the duplicates and the summary");
    let run = batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    assert!(
        run.line().starts_with("2 rows (4 duplicates left out): 2 applied"),
        "{run}"
    );
    let sent: Vec<Value> = sandbox.updates().iter().map(|update| update["path"].clone()).collect();
    let path = |id: &str| format!("/v3/session/{id}/update-status/");
    assert_eq!(sent, [path(&id(7)), path("x")]);
    assert_eq!(results(&file).into_keys().collect::<Vec<_>>(), [2, 3]);

    // A row between two identical ones is sent.
    let file = dir.file(
        "again.csv",
        "session_id,new_status\naaa,Approved\nbbb,Approved\naaa,Approved\n",
    );
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let sent: Vec<Value> = sandbox.updates()[2..]
        .iter()
        .map(|update| update["path"].clone())
        .collect();
    assert_eq!(sent, [path("aaa"), path("bbb")]);
}

#[test]
fn contradictory_rows_are_rejected_for_any_spelling_of_the_session_id() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let plain = id(7).replace('-', "").to_uppercase();
    let text = format!("session_id,new_status\n{},Approved\n{plain},Declined\n", id(7));
    let run = batch(&sandbox, &dir.file("rows.csv", text), &[]).exits(2);
    let expected = format!("line 3: this row contradicts line 2 about session {}", id(7));
    assert!(run.err.contains(&expected), "{run}");
    assert!(sandbox.log().is_empty());
}

#[test]
fn a_dry_run_sends_nothing_and_writes_no_journal() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(5));
    let run = batch(&sandbox, &file, &["--dry-run"]).exits(0);
    let expected = "the input has 5 rows: 3 to approve, 2 to decline, 0 to resubmit; 0 duplicate rows left out; nothing was sent\n";
    assert_eq!(run.out, expected);
    assert!(sandbox.log().is_empty());
    assert!(!fs::exists(format!("{file}.journal")).unwrap());
}

#[test]
fn rows_are_read_from_standard_input() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let journal = dir.path("journal");
    let mut command = sandbox.with_key(&["batch", "-", "--journal", &journal]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(csv(2).as_bytes()).unwrap();
    Run::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(sandbox.updates().len(), 2);
    assert!(fs::exists(&journal).unwrap());
}

#[test]
fn the_first_problems_are_printed_and_the_others_counted() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let rows: String = (0..5000).map(|row| format!("{},In Review\n", id(row))).collect();
    let file = dir.file("rows.csv", format!("session_id,new_status\n{rows}"));
    let run = batch(&sandbox, &file, &[]).exits(2);
    assert_eq!(run.err.lines().count(), 22, "{run}");
    assert!(run.err.contains("rows.csv: and 4980 more\n"), "{run}");
    assert!(run.err.contains("5000 problems; nothing was sent"), "{run}");
}

#[test]
fn an_empty_comment_is_left_out_in_both_formats() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let csv = dir.file("rows.csv", "session_id,new_status,comment\na,Approved,\n");
    let ndjson = dir.file(
        "rows.ndjson",
        "{\"session_id\":\"b\",\"new_status\":\"Approved\",\"comment\":\"\"}",
    );
    for file in [csv, ndjson] {
        batch(&sandbox, &file, &[]).exits(0);
    }
    for update in sandbox.updates() {
        assert_eq!(update["body"], json!({"new_status": "Approved"}));
    }
}
