//! The planted bugs of the driver, each with the models that must find it.

use std::collections::BTreeSet;
use std::env;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::failpoint;

/// How callers wait in the build that has the bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Poll,
    Condvar,
}

const THIS_BUILD: Waiting = if cfg!(sockeye_condvar) { Waiting::Condvar } else { Waiting::Poll };

const FINDERS: &[(&str, Waiting, &[&str])] = &[
    (
        "AcceptsSocketsAfterShutdown",
        Waiting::Poll,
        &[
            "closing::shutdown_ends_what_a_connect_beside_it_began",
            "limits::shutdown_ends_those_that_wait_and_leaves_none",
        ],
    ),
    (
        "AnnouncesWaitLate",
        Waiting::Poll,
        &["closing::close_ends_a_blocked_read_and_a_blocked_write"],
    ),
    ("BelievesZeroRead", Waiting::Poll, &["reading::a_reset_is_an_error_for_all_who_wait"]),
    (
        "CloseReturnsEarly",
        Waiting::Poll,
        &[
            "closing::close_ends_a_blocked_read_and_a_blocked_write",
            "closing::two_closes_wait_for_the_same_end",
        ],
    ),
    (
        "ClosesOneHandleEarly",
        Waiting::Poll,
        &[
            "closing::the_last_handle_closes_whoever_drops_it",
            "reading::cancelling_ends_a_blocked_read_and_not_the_writing",
            "upgrading::of_two_upgrades_one_is_made",
            "upgrading::what_was_written_before_an_upgrade_precedes_it",
            "writing::a_half_close_goes_behind_the_writes_that_began_before",
        ],
    ),
    (
        "DeadlineWakesNobody",
        Waiting::Poll,
        &[
            "reading::a_deadline_in_the_past_ends_a_blocked_read_at_once",
            "reading::a_deadline_that_is_set_and_moved_while_a_read_waits_counts",
            "reading::a_read_behind_another_honours_its_own_limit",
            "writing::a_deadline_in_the_past_ends_a_blocked_write_at_once",
        ],
    ),
    (
        "ForgetsReadiness",
        Waiting::Condvar,
        &[
            "closing::the_last_handle_closes_whoever_drops_it",
            "connecting::a_read_and_a_write_wait_for_the_connection",
            "reading::a_reset_is_an_error_for_all_who_wait",
            "reading::data_and_the_end_wake_a_blocked_read",
            "reading::the_peers_end_is_noticed_after_a_read_that_had_the_watch",
            "reading::the_peers_end_is_noticed_after_the_last_read",
            "reading::two_readers_share_what_comes_and_both_see_the_end",
            "writing::the_peers_end_ends_the_writing_after_what_was_accepted",
        ],
    ),
    (
        "FreesSlotLate",
        Waiting::Poll,
        &[
            "connecting::a_connect_timeout_ends_an_attempt_that_may_just_succeed",
            "limits::a_place_is_free_when_the_end_is_told",
        ],
    ),
    (
        "HandshakeSpins",
        Waiting::Poll,
        &[
            "securing::one_thread_reads_while_another_writes_through_a_narrow_connection",
            "securing::threads_that_wait_for_a_handshake_make_it_among_them",
        ],
    ),
    (
        "IgnoresCallTimer",
        Waiting::Poll,
        &[
            "reading::a_deadline_in_the_past_ends_a_blocked_read_at_once",
            "reading::a_deadline_that_is_set_and_moved_while_a_read_waits_counts",
            "reading::a_read_behind_another_honours_its_own_limit",
            "writing::a_deadline_in_the_past_ends_a_blocked_write_at_once",
        ],
    ),
    (
        "LeaksLateConnection",
        Waiting::Poll,
        &[
            "closing::shutdown_ends_what_a_connect_beside_it_began",
            "connecting::close_cancels_an_attempt_that_may_just_succeed",
            "limits::a_queued_socket_that_is_dropped_while_it_is_admitted_gives_its_place_on",
            "limits::a_scope_ends_its_sockets_also_those_that_wait",
            "limits::who_waits_goes_in_order_although_others_give_up",
        ],
    ),
    (
        "LeavesHandshakeUnmonitored",
        Waiting::Poll,
        &["securing::the_peers_end_is_noticed_whichever_thread_made_the_handshake"],
    ),
    (
        "LoopLosesCommand",
        Waiting::Poll,
        &[
            "connecting::a_read_and_a_write_wait_for_the_connection",
            "reading::a_read_that_timed_out_took_nothing",
            "reading::the_peers_end_is_noticed_when_nobody_reads",
            "securing::close_ends_a_handshake_or_what_comes_after_it",
            "writing::room_wakes_a_blocked_write",
        ],
    ),
    (
        "LoopSendsSilently",
        Waiting::Poll,
        &["securing::one_thread_reads_while_another_writes_through_a_narrow_connection"],
    ),
    (
        "LosesSlot",
        Waiting::Poll,
        &[
            "limits::a_queued_socket_that_is_dropped_while_it_is_admitted_gives_its_place_on",
            "limits::a_scope_ends_its_sockets_also_those_that_wait",
            "limits::a_wait_for_a_place_that_times_out_leaves_no_gap",
            "limits::who_waits_goes_in_order_although_others_give_up",
        ],
    ),
    (
        "NeverLingers",
        Waiting::Poll,
        &[
            "closing::what_comes_after_a_close_does_not_reset_it",
            "reading::cancelling_ends_a_blocked_read_and_not_the_writing",
        ],
    ),
    (
        "NoExecutorNotice",
        Waiting::Poll,
        &[
            "closing::two_closes_wait_for_the_same_end",
            "limits::who_waits_for_a_place_gets_it_and_there_are_never_too_many",
            "securing::a_close_an_abort_or_a_limit_ends_a_handshake_of_foreign_code",
        ],
    ),
    (
        "NoReaderAfterUpgradeCheck",
        Waiting::Poll,
        &[
            "securing::an_upgrade_beside_a_read_and_a_write_is_made",
            "upgrading::an_upgrade_calls_a_blocked_read_off_the_wire",
            "upgrading::what_the_peer_sent_before_an_upgrade_is_read_or_told",
        ],
    ),
    (
        "NoRelist",
        Waiting::Poll,
        &["reading::the_peers_end_is_noticed_after_a_read_that_had_the_watch"],
    ),
    (
        "NoWake",
        Waiting::Poll,
        &[
            "closing::close_ends_a_blocked_read_and_a_blocked_write",
            "securing::an_upgrade_beside_a_read_and_a_write_is_made",
            "upgrading::an_upgrade_calls_a_blocked_read_off_the_wire",
        ],
    ),
    (
        "QueueKeepsDropped",
        Waiting::Poll,
        &[
            "limits::a_queued_socket_that_is_dropped_while_it_is_admitted_gives_its_place_on",
            "limits::a_scope_ends_its_sockets_also_those_that_wait",
            "limits::a_wait_for_a_place_that_times_out_leaves_no_gap",
            "limits::who_waits_goes_in_order_although_others_give_up",
        ],
    ),
    (
        "ResetsBeforeState",
        Waiting::Poll,
        &[
            "closing::abort_ends_a_blocked_read_and_a_blocked_write",
            "closing::close_and_abort_and_the_peers_end_agree_on_one_outcome",
        ],
    ),
    (
        "ScopeForgetsQueued",
        Waiting::Poll,
        &["limits::a_scope_ends_its_sockets_also_those_that_wait"],
    ),
    (
        "TurnReleasedSilently",
        Waiting::Poll,
        &[
            "reading::two_readers_share_what_comes_and_both_see_the_end",
            "upgrading::what_was_written_before_an_upgrade_precedes_it",
            "writing::a_half_close_goes_behind_the_writes_that_began_before",
            "writing::two_writers_take_turns",
        ],
    ),
    (
        "LentSessionSpins",
        Waiting::Poll,
        &["securing::a_write_waits_for_a_session_that_runs_foreign_code_for_a_read"],
    ),
    (
        "UpgradesTwice",
        Waiting::Poll,
        &[
            "upgrading::a_close_and_an_upgrade_leave_nothing_behind",
            "upgrading::a_shutdown_ends_what_an_upgrade_beside_it_made",
            "upgrading::of_two_upgrades_one_is_made",
            "upgrading::what_the_peer_sent_before_an_upgrade_is_read_or_told",
            "upgrading::what_was_written_before_an_upgrade_precedes_it",
        ],
    ),
    (
        "WorkerKeepsSocket",
        Waiting::Poll,
        &["securing::a_handshake_of_foreign_code_is_made_whoever_waits"],
    ),
];

/// Bugs of the machine, which scenarios of tests/sim find.
const OF_THE_MACHINE: &[&str] =
    &["DialsDenied", "FinBeforeData", "KeepsStaleTimer", "LosesWritable", "TrustsPlaintext"];

/// The schedules in which a model has to find a bug, unless `SCHEDULES` says another number.
const SCHEDULES: &str = "40000";
/// The time in which a model has to find a bug.
const LIMIT: Duration = Duration::from_secs(300);
/// This module, as the test harness lists it.
const MODULE: &str = "planted::";

#[test]
fn every_bug_has_a_finder_and_every_model_is_one() {
    let all: BTreeSet<&str> = failpoint::ALL.iter().map(|(bug, _)| *bug).collect();
    let listed: BTreeSet<&str> =
        FINDERS.iter().map(|(bug, ..)| *bug).chain(OF_THE_MACHINE.iter().copied()).collect();
    assert_eq!(listed, all);
    assert_eq!(FINDERS.len() + OF_THE_MACHINE.len(), all.len(), "each has one row");
    let models = models();
    let finders: BTreeSet<String> =
        FINDERS.iter().flat_map(|(.., models)| *models).map(|model| (*model).to_owned()).collect();
    let unknown: Vec<_> = finders.difference(&models).collect();
    assert!(unknown.is_empty(), "no models: {unknown:?}");
    let idle: Vec<_> = models.difference(&finders).collect();
    assert!(idle.is_empty(), "these models find no planted bug: {idle:?}");
}

#[test]
fn every_model_finds_its_bugs() {
    let pairs: Vec<(&str, &str)> = FINDERS
        .iter()
        .filter(|(_, waiting, _)| *waiting == THIS_BUILD)
        .flat_map(|(bug, _, models)| models.iter().map(|model| (*bug, *model)))
        .collect();
    let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((bug, model)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = is_found(bug, model);
                    println!("{}: {bug}, by {model}", if found { "found" } else { "NOT FOUND" });
                    missed.fetch_add(usize::from(!found), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(missed.into_inner(), 0, "of {} pairs", pairs.len());
}

/// Runs a model in a process of its own, with a bug planted, and returns whether it failed with a schedule.
fn is_found(bug: &str, model: &str) -> bool {
    let schedules = env::var("SCHEDULES").unwrap_or_else(|_| SCHEDULES.to_owned());
    let child = this_program()
        .args(["--exact", model, "--nocapture"])
        .env("PLANTED", bug)
        .env("SCHEDULES", schedules)
        .spawn()
        .unwrap();
    let Some(output) = finish(child) else {
        println!("{bug}: {model} did not end within {LIMIT:?}");
        return false;
    };
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let failed = !output.status.success();
    let has_schedule = text.contains("failing schedule") || text.contains("failing seed");
    assert!(!failed || has_schedule, "{model} failed otherwise than by a schedule:\n{text}");
    failed
}

fn models() -> BTreeSet<String> {
    let output = this_program().arg("--list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !name.starts_with(MODULE))
        .map(str::to_owned)
        .collect()
}

fn this_program() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for a child, at most for [`LIMIT`], and kills it then.
fn finish(mut child: Child) -> Option<Output> {
    let started = Instant::now();
    // Its pipes must not fill up meanwhile.
    thread::scope(|scope| {
        let mut stdout = child.stdout.take()?;
        let mut stderr = child.stderr.take()?;
        let stdout = scope.spawn(move || read_all(&mut stdout));
        let stderr = scope.spawn(move || read_all(&mut stderr));
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() < LIMIT => thread::sleep(Duration::from_millis(20)),
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break None;
                }
            }
        };
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        Some(Output { status: status?, stdout, stderr })
    })
}

fn read_all(from: &mut impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}
