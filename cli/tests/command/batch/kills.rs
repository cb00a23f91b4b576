//! A batch that is killed loses no row, and the same command resumes it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::*;

#[test]
fn a_batch_that_is_killed_repeatedly_loses_no_row_and_repeats_no_resubmission() {
    const ROWS: usize = 5_000;
    const KILLS: usize = 20;
    let (sandbox, dir) = (Sandbox::start(&["--fail-rate", "0.1"]), Directory::new());
    let statuses = ["Approved", "Declined", "Resubmitted"];
    let wanted: HashMap<String, &str> = (0..ROWS).map(|row| (id(row), statuses[row % 3])).collect();
    let mut text = "session_id,new_status,comment,nodes\n".to_owned();
    for row in 0..ROWS {
        let nodes = if row % 3 == 2 { "feature_ocr_1:OCR" } else { "" };
        text += &format!("{},{},\"row\n{row}\",{nodes}\n", id(row), statuses[row % 3]);
    }
    let file = dir.file("rows.csv", text);
    let args = ["batch", &file, "--rate", "100000", "--jobs", "8", "--json", "--quiet"];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..KILLS {
        let mut child = sandbox.with_key(&args).stdout(Stdio::piped()).spawn().unwrap();
        let before = results(&file).len();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Kill the run at a random moment after it printed this many rows, including those of earlier runs.
        let printed = lines.take(before + random.usize(1..ROWS / KILLS)).count();
        assert!(printed > 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Only `--retry` repeats resubmissions in doubt.
    let retry = [&args[..], &["--retry", "unknown"]].concat();
    let ends: Vec<Option<i32>> = (0..5).map(|_| Run::of(&mut sandbox.with_key(&retry)).code).collect();
    assert_eq!(ends.last(), Some(&Some(0)), "{ends:?}");

    let sessions = sandbox.sessions();
    assert_eq!(sessions.len(), ROWS);
    for (id, status) in &wanted {
        let (found, applied) = &sessions[id];
        assert_eq!(found, status, "{id}");
        assert_eq!(applied.values().sum::<u32>(), 1, "{id}: {applied:?}");
    }
    let results = results(&file);
    assert_eq!(results.len(), ROWS);
    assert!(
        results
            .values()
            .all(|result| result == "applied" || result == "already"),
        "{results:?}"
    );
}
