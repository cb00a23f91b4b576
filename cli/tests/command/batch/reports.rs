//! A run reports the outcome of every row, and its exit status follows from the outcomes.

use super::*;

#[test]
fn every_row_is_applied_once_and_a_second_run_sends_nothing() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(20));
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(run.out, "");
    assert_eq!(
        run.line(),
        "20 rows: 20 applied, 0 already set, 0 refused, 0 unknown, 0 not applied"
    );
    assert_eq!(sandbox.updates().len(), 20);
    let sessions = sandbox.sessions();
    assert_eq!(sessions[&id(0)].0, "Approved");
    assert_eq!(sessions[&id(19)].0, "Declined");
    assert_eq!(
        results(&file).values().filter(|result| *result == "applied").count(),
        20
    );

    let again = batch(&sandbox, &file, &["--json"]).exits(0);
    let expected = format!("{}didit: nothing is left to do\n", run.err);
    assert_eq!(again.err, expected);
    let objects = again.objects();
    assert_eq!(objects.len(), 21, "{again}");
    let summary = json!({
        "rows": 20, "applied": 20, "already": 0, "left_alone": 0, "refused": 0, "unknown": 0, "not_applied": 0,
        "duplicates": 0, "exit": 0,
    });
    assert_eq!(objects[20], json!({"summary": summary}));
    assert_eq!(sandbox.updates().len(), 20);
}

#[test]
fn every_run_reports_refused_rows_with_their_reasons_and_exits_1() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "session_id,new_status\nunknown-1,Approved\nabc,Approved\nunfinished-1,Declined\n";
    let file = dir.file("rows.csv", text);
    let first = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    let lines: Vec<&str> = first.out.lines().collect();
    assert_eq!(lines.len(), 2, "{first}");
    assert!(
        lines[0].starts_with("line 2: refused: setting session unknown-1"),
        "{first}"
    );
    assert!(
        lines[1].starts_with("line 4: refused: setting session unfinished-1"),
        "{first}"
    );
    assert!(lines.iter().all(|line| line.contains("nothing was changed")), "{first}");
    let summary = "didit: 3 rows: 1 applied, 0 already set, 2 refused, 0 unknown, 0 not applied";
    let advice = "didit: nothing is left to do; --retry refused resends the refused rows";
    assert_eq!(first.err, format!("{summary}\n{advice}\n"));

    let again = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    assert_eq!(again.out, first.out);
    assert_eq!(again.err, first.err);
    assert_eq!(sandbox.updates().len(), 3);
}

#[test]
fn json_reports_every_row() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", "session_id,new_status\nunknown-1,Approved\nabc,Declined\n");
    let run = batch(&sandbox, &file, &["--json", "--quiet", "--jobs", "1"]).exits(1);
    assert_eq!(run.err, "");
    let objects = run.objects();
    assert_eq!(objects.len(), 3);
    assert_eq!(
        (&objects[0]["result"], &objects[0]["status_code"]),
        (&json!("refused"), &json!(404))
    );
    assert!(objects[0]["reason"].as_str().unwrap().contains("Session not found."));
    assert_eq!(
        (&objects[1]["result"], &objects[1]["new_status"]),
        (&json!("applied"), &json!("Declined"))
    );
    assert_eq!(
        (&objects[1]["line"], &objects[1]["session_id"]),
        (&json!(3), &json!("abc"))
    );
}

#[test]
fn not_applied_decides_the_exit_status_before_refused() {
    let body = json!({"detail": "Request was throttled."}).to_string();
    let server = Server::start(move |request| match session_of(request) == id(0) {
        true => didit_json(404, json!({"detail": "Session not found."})),
        false => answer(429, &[("retry-after", "86400")], &body),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(802));
    let run = run(&server, &[&file, "--jobs", "1"]).exits(6);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 3, "{run}");
    assert!(lines[0].starts_with("line 2: refused: "), "{run}");
    assert!(
        lines[1].starts_with("line 3: not applied: ") && lines[1].contains("nothing was changed"),
        "{run}"
    );
    assert_eq!(lines[2], "800 rows were not reached");
    assert!(run.err.contains("1 refused, 0 unknown, 801 not applied\n"), "{run}");
    assert!(
        run.err
            .ends_with("didit: run the same command again: it resumes 801 rows\n"),
        "{run}"
    );
}

#[test]
fn a_stopped_run_also_ends_with_a_summary_object() {
    let server = Server::start(|_| didit_json(401, json!({"detail": "Invalid API key."})));
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(5));
    let run = run(&server, &[&file, "--json", "--jobs", "1"]).exits(3);
    let objects = run.objects();
    let summary = &objects.last().unwrap()["summary"];
    assert_eq!((&summary["not_applied"], &summary["exit"]), (&json!(5), &json!(3)));
    assert!(
        summary["stopped"].as_str().unwrap().contains("Invalid API key."),
        "{run}"
    );
    let lines: Vec<u64> = objects[..5]
        .iter()
        .map(|object| object["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    assert!(
        objects[..5].iter().all(|object| object["result"] == "not_applied"),
        "{run}"
    );
    assert_eq!(objects[0]["status_code"], 401);
    assert_eq!(objects[1]["reason"], "not reached before the run ended");
}

#[test]
fn a_dry_run_needs_no_credentials_and_reports_what_is_left() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", "session_id,new_status\nunknown-1,Approved\nabc,Declined\n");
    let dry = |more: &[&str]| {
        let mut command = didit(&[&["batch", &file, "--dry-run"][..], more].concat());
        Run::of(command.env("DIDIT_BASE_URL", &sandbox.url)).exits(0)
    };
    assert!(!dry(&[]).out.contains("journal"));
    batch(&sandbox, &file, &[]).exits(1);
    let kept = fs::read(format!("{file}.journal")).unwrap();
    let run = dry(&[]);
    let expected =
        "the journal says that 0 of 2 rows are left: 1 applied, 0 already set, 1 refused, 0 unknown, 0 not applied\n";
    assert!(run.out.ends_with(expected), "{run}");
    let objects = dry(&["--json"]).objects();
    let results: Vec<&Value> = objects[..2].iter().map(|object| &object["result"]).collect();
    assert!(
        results.contains(&&json!("applied")) && results.contains(&&json!("refused")),
        "{objects:?}"
    );
    // A dry run counts only what this run would do.
    assert_eq!(
        (&objects[2]["summary"]["applied"], &objects[2]["summary"]["not_applied"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(fs::read(format!("{file}.journal")).unwrap(), kept);
}

#[test]
fn a_dry_run_without_credentials_checks_for_the_configured_version_or_v3() {
    let dir = Directory::new();
    let file = dir.file("rows.csv", "session_id,new_status,nodes\nabc,Resubmitted,a:OCR\n");
    Run::of(&mut didit(&["batch", &file, "--dry-run"])).exits(0);
    let mut v1 = didit(&["batch", &file, "--dry-run"]);
    Run::of(v1.env("DIDIT_API_VERSION", "v1")).exits(2);
    let file = dir.file("bad.csv", "session_id,new_status,nodes\nabc,Resubmitted,\n");
    Run::of(&mut didit(&["batch", &file, "--dry-run"])).exits(2);
}

#[cfg(target_os = "linux")]
#[test]
fn unwritable_output_is_reported_and_changes_neither_the_run_nor_its_exit_status() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(5));
    let mut command = sandbox.with_key(&[&["batch", &file, "--json"][..], &FAST].concat());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = Run::of(command.stdout(full)).exits(0);
    assert!(run.err.contains("standard output cannot be written"), "{run}");
    assert_eq!(sandbox.updates().len(), 5);
    assert_eq!(results(&file).len(), 5);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_run_and_every_row_is_reported_correctly() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(60));
    let command = sandbox.with_key(&["batch", &file, "--json", "--rate", "100000"]);
    let run = Run::of(&mut on_a_full_disk(&command, 4)).exits(6);
    assert!(run.err.contains("stopped: the journal cannot be written: "), "{run}");
    let objects = run.objects();
    let applied = objects.iter().filter(|object| object["result"] == "applied").count();
    assert_eq!(applied, sandbox.sessions().len(), "{run}");
    assert_eq!(objects.last().unwrap()["summary"]["not_applied"], json!(60 - applied));

    let run = batch(&sandbox, &file, &[]).exits(0);
    assert!(run.err.contains("60 rows: "), "{run}");
    assert_eq!(sandbox.updates().len(), 60);
}
