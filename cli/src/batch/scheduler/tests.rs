use didit::SessionStatus::{Approved, Declined, InReview};

use super::*;

const APPROVE: NewStatus = NewStatus::Approved;
const RESUBMIT: NewStatus = NewStatus::Resubmitted;

const UNTOUCHED: LastEntry = LastEntry::None;
const INTERRUPTED: LastEntry = LastEntry::Intent;
const UNKNOWN: LastEntry = LastEntry::Result(Unknown);
const NOT_APPLIED: LastEntry = LastEntry::Result(NotApplied);
const REFUSED: LastEntry = LastEntry::Result(RowResult::Refused);

/// Returns a scheduler for rows with their last entries, each at its position in this list.
fn scheduler(rows: &[(NewStatus, LastEntry)], change: impl FnOnce(&mut Settings)) -> Scheduler {
    let mut settings = Settings {
        updates: 10_000_000,
        reads: 10_000_000,
        max_outage: at(60),
        retry_unknown: false,
        retry_refused: false,
        unless_decided: false,
        has_access_token: false,
    };
    change(&mut settings);
    let history: Vec<RowHistory> = (0..)
        .zip(rows)
        .map(|(place, (_, last))| RowHistory { last: *last, place })
        .collect();
    Scheduler::new(&settings, &history, |row| rows[row].0)
}

fn untouched(rows: usize) -> Scheduler {
    scheduler(&vec![(APPROVE, UNTOUCHED); rows], |_| {})
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns the next task, once the rate allows it.
fn next(scheduler: &mut Scheduler, now: Duration) -> Task {
    match scheduler.next(now) {
        Task::Wait(wait) if wait < Duration::from_millis(500) => next(scheduler, now + wait),
        task => task,
    }
}

/// Lets the next rows fail, all at the same time.
fn fail(scheduler: &mut Scheduler, now: Duration, rows: std::ops::Range<usize>) {
    for row in rows.clone() {
        assert_eq!(next(scheduler, now), Task::Update(row));
    }
    for row in rows {
        scheduler.ended(now, row, Outcome::NotApplied, None);
    }
}

/// Returns the rows without a result.
fn left(scheduler: &Scheduler) -> Vec<(usize, Left)> {
    let rows = 0..scheduler.rows.len();
    rows.filter_map(|row| Some((row, scheduler.left(row)?))).collect()
}

/// Runs one worker. Returns when each update went out, in seconds, and its row.
fn updates(
    scheduler: &mut Scheduler,
    limit: Duration,
    mut respond: impl FnMut(Duration, usize) -> Outcome,
) -> Vec<(u64, usize)> {
    let (mut now, mut updates) = (Duration::ZERO, Vec::new());
    while now <= limit {
        assert!(updates.len() < 10_000, "the time does not pass");
        match scheduler.next(now) {
            Task::Update(row) => {
                updates.push((now.as_secs(), row));
                let outcome = respond(now, row);
                scheduler.ended(now, row, outcome, None);
            }
            Task::Read(row) => {
                if scheduler.found(now, row, &InReview) == Step::Update {
                    updates.push((now.as_secs(), row));
                    let outcome = respond(now, row);
                    scheduler.ended(now, row, outcome, None);
                }
            }
            Task::Wait(wait) => now += wait,
            Task::Done => break,
        }
    }
    updates
}

fn rows(updates: &[(u64, usize)]) -> Vec<usize> {
    updates.iter().map(|(_, row)| *row).collect()
}

// What goes out.

#[test]
fn interrupted_rows_go_first_then_untouched_ones_in_order_then_those_tried_least_recently() {
    let last = [
        NOT_APPLIED,
        UNTOUCHED,
        UNKNOWN,
        INTERRUPTED,
        UNTOUCHED,
        REFUSED,
        INTERRUPTED,
        NOT_APPLIED,
    ];
    let mut scheduler = scheduler(&last.map(|last| (APPROVE, last)), |settings| {
        settings.retry_refused = true
    });
    let order = updates(&mut scheduler, at(1), |_, _| Outcome::Confirmed);
    assert_eq!(rows(&order), [3, 6, 1, 4, 0, 2, 5, 7]);
}

#[test]
fn rows_that_are_done_do_not_go_out_again() {
    let done = [
        RowResult::Applied,
        RowResult::Already,
        RowResult::LeftAlone,
        RowResult::Refused,
    ];
    for result in done {
        for retry_unknown in [false, true] {
            let mut scheduler = scheduler(&[(APPROVE, LastEntry::Result(result))], |settings| {
                settings.retry_unknown = retry_unknown;
            });
            assert_eq!(next(&mut scheduler, at(0)), Task::Done, "{result:?}");
        }
    }
}

#[test]
fn a_refused_row_goes_out_with_retry_refused_as_if_it_had_never_been_sent() {
    let mut scheduler = scheduler(&[(APPROVE, REFUSED)], |settings| settings.retry_refused = true);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
}

#[test]
fn a_session_is_read_before_its_update_in_three_cases() {
    for (wanted, last, unless_decided, reads) in [
        (APPROVE, UNTOUCHED, false, false),
        (APPROVE, NOT_APPLIED, false, false),
        (APPROVE, UNKNOWN, false, true),
        (APPROVE, INTERRUPTED, false, true),
        (RESUBMIT, UNTOUCHED, false, true),
        (APPROVE, UNTOUCHED, true, true),
    ] {
        let mut scheduler = scheduler(&[(wanted, last)], |settings| settings.unless_decided = unless_decided);
        let task = if reads { Task::Read(0) } else { Task::Update(0) };
        assert_eq!(next(&mut scheduler, at(0)), task, "{wanted} {last:?} {unless_decided}");
    }
}

#[test]
fn a_row_that_was_certainly_not_applied_is_sent_again_without_a_read() {
    let mut scheduler = untouched(2);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    assert_eq!(scheduler.ended(at(0), 0, Outcome::NotApplied, None), Step::NotApplied);
    assert_eq!(next(&mut scheduler, at(1)), Task::Update(0));
}

#[test]
fn a_row_that_may_have_been_applied_is_read_before_it_is_sent_again() {
    let mut scheduler = untouched(2);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    assert_eq!(scheduler.ended(at(0), 0, Outcome::Unclear, None), Step::Wait);
    assert_eq!(next(&mut scheduler, at(1)), Task::Read(0));
    assert_eq!(scheduler.found(at(1), 0, &InReview), Step::Update);
    // A 429 after that does not make it certain that the first attempt was not applied.
    assert_eq!(scheduler.ended(at(1), 0, Outcome::RateLimited, None), Step::Wait);
    assert_eq!(next(&mut scheduler, at(2)), Task::Update(1));
    scheduler.ended(at(2), 1, Outcome::Confirmed, None);
    assert_eq!(next(&mut scheduler, at(3)), Task::Read(0));
    assert_eq!(scheduler.found(at(3), 0, &Approved), Step::Report(RowResult::Applied));
}

#[test]
fn the_worker_that_read_sends_at_once_and_counts_for_both_rates() {
    let rows = [(RESUBMIT, UNTOUCHED), (APPROVE, UNTOUCHED)];
    let mut scheduler = scheduler(&rows, |settings| (settings.updates, settings.reads) = (60, 600));
    assert_eq!(scheduler.next(at(0)), Task::Read(0));
    assert_eq!(
        scheduler.next(at(0)),
        Task::Wait(at(1)),
        "the update of the read row counts"
    );
    assert_eq!(scheduler.found(at(0), 0, &InReview), Step::Update);
    assert_eq!(scheduler.next(at(1)), Task::Update(1));
}

#[test]
fn reads_keep_to_a_rate_of_their_own() {
    let mut scheduler = scheduler(&[(RESUBMIT, UNTOUCHED); 3], |settings| {
        (settings.updates, settings.reads) = (600, 60);
    });
    let sent = updates(&mut scheduler, at(10), |_, _| Outcome::Confirmed);
    assert_eq!(sent, [(0, 0), (1, 1), (2, 2)]);
}

#[test]
fn a_worker_waits_until_the_next_row_is_due() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 2], |_| {});
    assert_eq!(next(&mut scheduler, at(10)), Task::Update(0));
    assert_eq!(next(&mut scheduler, at(10)), Task::Update(1));
    scheduler.ended(at(10), 0, Outcome::NotApplied, None);
    assert_eq!(scheduler.next(at(10)), Task::Wait(at(1)));
}

#[test]
fn what_was_read_before_a_pause_is_read_again() {
    let mut scheduler = scheduler(&[(RESUBMIT, UNTOUCHED), (APPROVE, UNTOUCHED)], |_| {});
    assert_eq!(next(&mut scheduler, at(0)), Task::Read(0));
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(1));
    scheduler.ended(at(0), 1, Outcome::RateLimited, Some(at(5)));
    assert_eq!(scheduler.found(at(0), 0, &InReview), Step::Wait);
    assert_eq!(next(&mut scheduler, at(0)), Task::Wait(at(5)));
    assert_eq!(next(&mut scheduler, at(5)), Task::Update(1));
    scheduler.ended(at(5), 1, Outcome::Confirmed, None);
    assert_eq!(next(&mut scheduler, at(5)), Task::Read(0));
}

#[test]
fn a_failed_row_waits_its_own_back_off_while_the_others_continue() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 200], |settings| settings.updates = 60);
    let sent = updates(&mut scheduler, at(130), |_, row| match row {
        0 => Outcome::NotApplied,
        _ => Outcome::Confirmed,
    });
    let tries = sent.iter().filter(|(_, row)| *row == 0).map(|(time, _)| *time);
    assert_eq!(tries.collect::<Vec<_>>(), [0, 1, 3, 7, 15, 31, 61, 91, 121]);
    assert_eq!(sent.len(), 131, "another row goes out in every other second");
}

#[test]
fn rows_whose_wait_is_over_take_turns_with_the_untried_ones() {
    let mut scheduler = untouched(20);
    fail(&mut scheduler, at(0), 0..3);
    let order: Vec<Task> = (0..6).map(|_| next(&mut scheduler, at(10))).collect();
    assert_eq!(order, [0, 3, 1, 4, 2, 5].map(Task::Update));
}

#[test]
fn retry_unknown_holds_until_an_attempt_of_this_run_may_have_been_applied() {
    let mut scheduler = scheduler(&[(APPROVE, UNKNOWN)], |settings| settings.retry_unknown = true);
    for (time, outcome) in [
        (0, Outcome::NotApplied),
        (5, Outcome::RateLimited),
        (10, Outcome::Unclear),
    ] {
        assert_eq!(next(&mut scheduler, at(time)), Task::Read(0));
        assert_eq!(
            scheduler.found(at(time), 0, &Declined),
            Step::Update,
            "before {outcome:?}"
        );
        scheduler.ended(at(time), 0, outcome, None);
    }
    assert_eq!(next(&mut scheduler, at(20)), Task::Read(0));
    assert_eq!(scheduler.found(at(20), 0, &Declined), Step::Report(Unknown));
}

#[test]
fn retry_unknown_is_only_for_rows_that_a_run_has_reported() {
    for (last, step) in [(INTERRUPTED, Step::Report(Unknown)), (UNKNOWN, Step::Update)] {
        let mut scheduler = scheduler(&[(APPROVE, last)], |settings| settings.retry_unknown = true);
        assert_eq!(next(&mut scheduler, at(0)), Task::Read(0));
        assert_eq!(scheduler.found(at(0), 0, &Declined), step, "{last:?}");
    }
}

// The run.

#[test]
fn eight_failures_in_a_row_pause_all_workers_and_then_one_request_at_a_time_goes_out() {
    let mut scheduler = untouched(20);
    fail(&mut scheduler, at(0), 0..7);
    assert_eq!(scheduler.pause(at(0)), None);
    fail(&mut scheduler, at(0), 7..8);
    assert_eq!(scheduler.take_new_pause(), Some(at(1)));
    assert_eq!(scheduler.take_new_pause(), None, "a pause is announced once");
    assert_eq!(next(&mut scheduler, at(0)), Task::Wait(at(1)));
    assert_eq!(next(&mut scheduler, at(1)), Task::Update(8));
    assert_eq!(next(&mut scheduler, at(1)), Task::Wait(POLL_INTERVAL));
    scheduler.ended(at(1), 8, Outcome::NotApplied, None);
    assert_eq!(next(&mut scheduler, at(1)), Task::Wait(at(2)), "each pause is longer");
    assert_eq!(next(&mut scheduler, at(3)), Task::Update(9));
    scheduler.ended(at(3), 9, Outcome::Confirmed, None);
    let two = [next(&mut scheduler, at(3)), next(&mut scheduler, at(3))];
    assert!(two.iter().all(|task| matches!(task, Task::Update(_))), "{two:?}");
}

#[test]
fn missing_credits_and_permissions_count_as_failures() {
    let mut scheduler = untouched(20);
    for row in 0..8 {
        assert_eq!(next(&mut scheduler, at(0)), Task::Update(row));
        let step = scheduler.ended(at(0), row, Outcome::NotPermitted, None);
        assert_eq!(step, Step::Report(NotApplied));
    }
    assert_eq!(scheduler.pause(at(0)), Some(at(1)));
}

#[test]
fn only_an_answered_update_ends_an_outage() {
    let opened = || {
        let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 20], |settings| settings.unless_decided = true);
        for row in 0..8 {
            assert_eq!(next(&mut scheduler, at(0)), Task::Read(row));
            scheduler.ended(at(0), row, Outcome::NotApplied, None);
        }
        assert_eq!(next(&mut scheduler, at(1)), Task::Read(8));
        scheduler
    };
    for (outcome, closes) in [
        (Outcome::Confirmed, true),
        (Outcome::SessionRefused, true),
        (Outcome::NotPermitted, false),
        (Outcome::NotApplied, false),
        (Outcome::Unclear, false),
    ] {
        let mut scheduler = opened();
        assert_eq!(scheduler.found(at(1), 8, &InReview), Step::Update);
        scheduler.ended(at(1), 8, outcome, None);
        assert_eq!(scheduler.circuit.is_open(), !closes, "{outcome:?}");
    }
    let mut read = opened();
    assert_eq!(read.found(at(1), 8, &Approved), Step::Report(RowResult::Already));
    assert!(read.circuit.is_open(), "a read answers no update");
    let mut missing = opened();
    missing.ended(at(1), 8, Outcome::SessionRefused, None);
    assert!(
        missing.circuit.is_open(),
        "nor does a read of a session that does not exist"
    );
}

#[test]
fn a_probe_is_an_approved_or_declined_row_if_there_is_one() {
    let mut rows = vec![(APPROVE, UNTOUCHED); 8];
    rows.extend([(RESUBMIT, UNTOUCHED), (APPROVE, UNTOUCHED), (RESUBMIT, UNTOUCHED)]);
    let mut scheduler = scheduler(&rows, |_| {});
    fail(&mut scheduler, at(0), 0..8);
    assert_eq!(next(&mut scheduler, at(1)), Task::Update(9), "an untried row");
    scheduler.ended(at(1), 9, Outcome::NotApplied, None);
    assert_eq!(next(&mut scheduler, at(3)), Task::Update(0), "a row that failed");
    scheduler.ended(at(3), 0, Outcome::NotApplied, None);
    assert_eq!(
        next(&mut scheduler, at(7)),
        Task::Update(1),
        "each probe is another row"
    );
}

#[test]
fn a_resubmission_is_a_probe_if_nothing_else_is_left() {
    let mut scheduler = scheduler(&[(RESUBMIT, UNTOUCHED); 20], |_| {});
    for row in 0..8 {
        assert_eq!(next(&mut scheduler, at(0)), Task::Read(row));
        scheduler.ended(at(0), row, Outcome::NotApplied, None);
    }
    assert_eq!(next(&mut scheduler, at(1)), Task::Read(8));
}

#[test]
fn a_failure_of_every_row_that_is_left_pauses_and_stops_like_an_outage() {
    let mut scheduler = untouched(3);
    let sent = updates(&mut scheduler, at(200), |_, row| match row {
        1 => Outcome::NotApplied,
        _ => Outcome::Confirmed,
    });
    assert_eq!(scheduler.stopped(), Some(Stop::Outage));
    assert_eq!(sent.last(), Some(&(61, 1)), "{sent:?}");
}

#[test]
fn a_pause_that_the_server_asks_for_pauses_all_workers() {
    for outcome in [Outcome::RateLimited, Outcome::Unclear, Outcome::NotApplied] {
        let mut scheduler = untouched(20);
        assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
        scheduler.ended(at(0), 0, outcome, Some(at(7)));
        assert_eq!(next(&mut scheduler, at(0)), Task::Wait(at(7)), "{outcome:?}");
    }
    let mut scheduler = untouched(20);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    scheduler.ended(at(0), 0, Outcome::RateLimited, None);
    assert_eq!(next(&mut scheduler, at(0)), Task::Wait(at(1)), "a 429 without a time");
}

#[test]
fn the_run_stops_max_outage_after_the_first_pause() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 90], |settings| settings.max_outage = at(10));
    let sent = updates(&mut scheduler, at(300), |_, _| Outcome::NotApplied);
    assert_eq!(scheduler.stopped(), Some(Stop::Outage));
    let times: Vec<u64> = sent.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 7, 10]);
}

#[test]
fn a_longer_pause_than_max_outage_stops_the_run() {
    let mut scheduler = untouched(2);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    scheduler.ended(at(0), 0, Outcome::RateLimited, Some(at(61)));
    assert_eq!(scheduler.stopped(), Some(Stop::LongPause(at(61))));
    assert_eq!(next(&mut scheduler, at(0)), Task::Done);
}

#[test]
fn a_refused_api_key_stops_the_run_at_once() {
    let mut scheduler = untouched(2);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    assert_eq!(
        scheduler.ended(at(0), 0, Outcome::CredentialsRefused, None),
        Step::NotApplied
    );
    assert_eq!(scheduler.stopped(), Some(Stop::Credentials));
}

#[test]
fn a_refused_access_token_stops_the_run_after_one_more_attempt() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 9], |settings| settings.has_access_token = true);
    for row in 0..3 {
        assert_eq!(next(&mut scheduler, at(0)), Task::Update(row));
    }
    // The requests in flight have the same token, so they show nothing new.
    for row in 0..3 {
        assert_eq!(
            scheduler.ended(at(0), row, Outcome::CredentialsRefused, None),
            Step::NotApplied
        );
    }
    assert_eq!(scheduler.stopped(), None);
    assert_eq!(next(&mut scheduler, at(0)), Task::Wait(at(1)));
    assert_eq!(next(&mut scheduler, at(1)), Task::Update(3));
    assert_eq!(
        next(&mut scheduler, at(1)),
        Task::Wait(POLL_INTERVAL),
        "one attempt, not four"
    );
    scheduler.ended(at(1), 3, Outcome::CredentialsRefused, None);
    assert_eq!(scheduler.stopped(), Some(Stop::Credentials));
}

#[test]
fn after_an_answered_update_a_refused_access_token_is_the_first_again() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 9], |settings| settings.has_access_token = true);
    for time in [0, 10] {
        assert!(matches!(next(&mut scheduler, at(time)), Task::Update(_)));
        let row = *scheduler.in_flight.keys().next().unwrap();
        scheduler.ended(at(time), row, Outcome::CredentialsRefused, None);
        let Task::Update(row) = next(&mut scheduler, at(time + 1)) else {
            panic!("the run stopped: {:?}", scheduler.stopped());
        };
        scheduler.ended(at(time + 1), row, Outcome::Confirmed, None);
    }
    assert_eq!(scheduler.stopped(), None);
}

#[test]
fn a_refused_connection_stops_the_run_at_once() {
    let mut scheduler = untouched(2);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    assert_eq!(
        scheduler.ended(at(0), 0, Outcome::ConnectionRefused, None),
        Step::NotApplied
    );
    assert_eq!(scheduler.stopped(), Some(Stop::Connection));
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_run() {
    let mut scheduler = untouched(2);
    assert_eq!(next(&mut scheduler, at(0)), Task::Update(0));
    scheduler.not_journaled(0);
    assert_eq!(scheduler.stopped(), Some(Stop::Journal));
    assert_eq!(next(&mut scheduler, at(0)), Task::Done);
}

#[test]
fn the_first_reason_to_stop_counts() {
    let mut scheduler = untouched(2);
    scheduler.stop(Stop::Signal);
    scheduler.stop(Stop::Journal);
    assert_eq!(scheduler.stopped(), Some(Stop::Signal));
}

#[test]
fn after_a_stop_nothing_goes_out_and_requests_in_flight_still_decide_their_rows() {
    let rows = [
        (APPROVE, UNTOUCHED),
        (RESUBMIT, UNTOUCHED),
        (APPROVE, INTERRUPTED),
        (APPROVE, INTERRUPTED),
    ];
    let mut scheduler = scheduler(&rows, |_| {});
    let tasks = [Task::Read(2), Task::Read(3), Task::Update(0), Task::Read(1)];
    assert_eq!(tasks.map(|_| next(&mut scheduler, at(0))), tasks);
    scheduler.stop(Stop::Signal);
    assert_eq!(next(&mut scheduler, at(0)), Task::Done);
    assert_eq!(
        scheduler.ended(at(0), 0, Outcome::Confirmed, None),
        Step::Report(RowResult::Applied)
    );
    assert_eq!(scheduler.found(at(0), 1, &InReview), Step::Wait, "nothing is sent");
    assert_eq!(
        scheduler.found(at(0), 2, &InReview),
        Step::Report(Unknown),
        "nothing is sent"
    );
    assert_eq!(scheduler.found(at(0), 3, &Approved), Step::Report(RowResult::Applied));
    assert_eq!(left(&scheduler), [(1, Left::NotApplied)]);
}

#[test]
fn ten_failures_of_a_row_outside_an_outage_leave_it_for_the_next_run() {
    for (outcome, result) in [(Outcome::NotApplied, NotApplied), (Outcome::Unclear, Unknown)] {
        let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 500], |settings| settings.updates = 60);
        let mut failures = 0;
        let mut last = None;
        let mut now = at(0);
        while last.is_none() {
            match scheduler.next(now) {
                Task::Update(0) | Task::Read(0) => {
                    failures += 1;
                    let outcome = if failures % 2 == 0 {
                        Outcome::NotApplied
                    } else {
                        outcome
                    };
                    last = Some(scheduler.ended(now, 0, outcome, None)).filter(|step| matches!(step, Step::Report(_)));
                }
                Task::Update(row) => drop(scheduler.ended(now, row, Outcome::Confirmed, None)),
                Task::Wait(wait) => now += wait,
                task => panic!("{task:?}"),
            }
        }
        assert_eq!((failures, last), (10, Some(Step::Report(result))));
    }
}

#[test]
fn failures_in_an_outage_do_not_count_for_the_row() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 8], |settings| settings.max_outage = at(100_000));
    fail(&mut scheduler, at(0), 0..8);
    // Every row fails more than ten times, until Didit answers again.
    let sent = updates(&mut scheduler, at(90_000), |now, _| match now.as_secs() {
        0..10_000 => Outcome::NotApplied,
        _ => Outcome::Confirmed,
    });
    assert!(sent.len() > 8 * 20, "{}", sent.len());
    assert_eq!((scheduler.stopped(), left(&scheduler).len()), (None, 0));
}

#[test]
fn a_row_without_a_result_is_left_with_what_is_known_about_it() {
    let last = [UNTOUCHED, NOT_APPLIED, UNKNOWN, INTERRUPTED, UNTOUCHED, UNTOUCHED];
    let mut scheduler = scheduler(&last.map(|last| (APPROVE, last)), |settings| settings.reads = 1);
    assert_eq!(next(&mut scheduler, at(0)), Task::Read(3));
    scheduler.ended(at(0), 3, Outcome::NotApplied, None);
    for (row, outcome) in [(0, Outcome::NotApplied), (4, Outcome::Unclear)] {
        assert_eq!(next(&mut scheduler, at(0)), Task::Update(row));
        scheduler.ended(at(0), row, outcome, None);
    }
    scheduler.stop(Stop::Signal);
    let expected = [
        (0, Left::NotApplied),
        (1, Left::NotApplied),
        (2, Left::NotChecked { is_reported: true }),
        (3, Left::InDoubt),
        (4, Left::InDoubt),
        (5, Left::NotApplied),
    ];
    assert_eq!(left(&scheduler), expected);
    let mut killed_twice = self::scheduler(&[(APPROVE, INTERRUPTED)], |_| {});
    killed_twice.stop(Stop::Signal);
    assert_eq!(left(&killed_twice), [(0, Left::NotChecked { is_reported: false })]);
}

#[test]
fn the_requests_in_flight_are_counted_and_the_last_one_says_how_long_they_may_take() {
    let mut scheduler = scheduler(&[(APPROVE, UNTOUCHED); 3], |settings| settings.updates = 60);
    assert_eq!(scheduler.in_flight(), (0, at(0)));
    for row in 0..3 {
        assert_eq!(scheduler.next(at(row as u64)), Task::Update(row));
    }
    scheduler.ended(at(2), 2, Outcome::Confirmed, None);
    scheduler.stop(Stop::Signal);
    assert_eq!(scheduler.in_flight(), (2, at(1)));
}
