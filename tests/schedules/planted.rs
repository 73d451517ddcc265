//! The driver's planted bugs, each with the models that must find it.

use std::collections::BTreeSet;
use std::env;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::failpoint;

/// The callers' way of waiting in the build that has the bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Poll,
    Condvar,
}

const THIS_BUILD: Waiting = if cfg!(sockeye_condvar) { Waiting::Condvar } else { Waiting::Poll };

const FINDERS: &[(&str, Waiting, &[&str])] = &[
    (
        "AbortForgetsAccept",
        Waiting::Poll,
        &["accepting::an_abort_resets_what_no_thread_has_accepted"],
    ),
    (
        "AbortForgetsOpening",
        Waiting::Poll,
        &[
            "accepting::a_shutdown_resets_a_handshake_that_just_begins",
            "accepting::an_abort_resets_a_handshake_that_just_begins",
            "accepting::the_last_handle_resets_what_the_event_loop_accepts",
        ],
    ),
    (
        "AcceptTurnLost",
        Waiting::Poll,
        &[
            "accepting::a_client_is_not_lost_when_an_accept_times_out",
            "accepting::two_threads_accept_one_client_each",
            "accepting::two_threads_share_the_only_slot",
        ],
    ),
    (
        "CloseBelievesOldAccept",
        Waiting::Poll,
        &[
            "accepting::a_close_loses_no_client_that_was_complete",
            "accepting::an_accept_that_found_nothing_does_not_end_a_close",
        ],
    ),
    (
        "HeaderForgetsClient",
        Waiting::Poll,
        &["accepting::a_client_in_headers_has_only_as_many_sockets_as_it_may"],
    ),
    (
        "ListenerForgetsWake",
        Waiting::Poll,
        &[
            "accepting::a_deadline_in_the_past_ends_blocked_accepts",
            "accepting::abort_and_close_end_blocked_accepts",
            "accepting::shutdown_of_a_shared_connector_ends_a_concurrent_accept",
        ],
    ),
    (
        "ListenerKeepsSlot",
        Waiting::Poll,
        &["accepting::an_accept_that_gives_up_its_wait_for_a_slot_loses_none"],
    ),
    (
        "OpenedIsForgotten",
        Waiting::Poll,
        &[
            "accepting::opened_connections_are_returned_until_the_end",
            "accepting::the_end_of_a_listener_does_not_miss_what_the_event_loop_accepts",
        ],
    ),
    ("ShutdownForgetsTaken", Waiting::Poll, &["accepting::a_shutdown_resets_what_a_close_takes"]),
    (
        "SlotWakesNoListener",
        Waiting::Poll,
        &[
            "accepting::a_freed_slot_lets_the_next_client_in",
            "accepting::two_threads_share_the_only_slot",
            "polling::a_client_at_the_limit_is_reported_once_a_slot_is_free",
        ],
    ),
    (
        "UseIsForgotten",
        Waiting::Poll,
        &[
            "accepting::a_close_that_returns_all_it_may_ends_blocked_accepts",
            "accepting::opened_connections_are_returned_until_the_end",
            "accepting::the_end_of_a_listener_does_not_miss_what_the_event_loop_accepts",
            "accepting::when_closed_returns_the_address_is_free",
        ],
    ),
    (
        "ServerNotHalfOpen",
        Waiting::Poll,
        &["accepting::the_end_of_a_client_leaves_the_other_direction_open"],
    ),
    (
        "AcceptsSocketsAfterShutdown",
        Waiting::Poll,
        &[
            "closing::shutdown_ends_a_concurrent_connect",
            "limits::shutdown_ends_open_and_queued_sockets",
        ],
    ),
    (
        "AnnouncesWaitLate",
        Waiting::Poll,
        &["closing::close_ends_a_blocked_read_and_a_blocked_write"],
    ),
    (
        "BelievesOldReceive",
        Waiting::Poll,
        &[
            "reading::a_read_that_does_not_wait_returns_the_data_before_a_reset",
            "reading::data_before_a_reset_is_read_although_a_writer_learns_of_the_reset",
            "unix::an_unread_byte_makes_the_close_of_a_unix_domain_peer_a_failure_for_every_thread",
        ],
    ),
    ("BelievesZeroRead", Waiting::Poll, &["reading::a_reset_fails_every_waiting_call"]),
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
            "closing::the_last_handle_to_drop_closes_the_socket",
            "reading::cancel_ends_a_blocked_read_but_not_writes",
            "upgrading::earlier_writes_precede_an_upgrade",
            "upgrading::of_two_upgrades_one_succeeds",
            "writing::a_half_close_waits_for_earlier_writes",
        ],
    ),
    (
        "DeadlineWakesNobody",
        Waiting::Poll,
        &[
            "reading::a_deadline_in_the_past_ends_a_blocked_read_at_once",
            "reading::a_deadline_set_and_moved_during_a_read_applies",
            "reading::a_queued_read_honours_its_own_limit",
            "writing::a_deadline_in_the_past_ends_a_blocked_write_at_once",
        ],
    ),
    (
        "ForgetsReadiness",
        Waiting::Condvar,
        &[
            "closing::the_last_handle_to_drop_closes_the_socket",
            "connecting::a_read_and_a_write_wait_for_the_connection",
            "reading::a_reset_fails_every_waiting_call",
            "reading::data_and_eof_wake_a_blocked_read",
            "reading::eof_is_noticed_after_a_read_that_delayed_the_monitor",
            "reading::eof_is_noticed_after_the_last_read",
            "reading::two_readers_share_the_data_and_both_see_eof",
            "writing::eof_ends_writes_after_the_accepted_data",
        ],
    ),
    (
        "FreesSlotLate",
        Waiting::Poll,
        &[
            "connecting::a_connect_timeout_ends_an_attempt_that_may_just_succeed",
            "limits::a_slot_is_free_when_closed_returns",
        ],
    ),
    (
        "GoAheadBeforeCheck",
        Waiting::Poll,
        &[
            "upgrading::a_close_or_an_abort_beside_a_go_ahead_sends_it_once_or_not",
            "upgrading::a_go_ahead_does_not_go_out_if_a_line_is_unread",
            "upgrading::a_go_ahead_goes_out_once_although_a_thread_reads",
        ],
    ),
    (
        "HandshakeSpins",
        Waiting::Poll,
        &[
            "securing::one_thread_reads_while_another_writes_through_a_narrow_connection",
            "securing::waiting_threads_share_the_handshake",
        ],
    ),
    (
        "IgnoresCallTimer",
        Waiting::Poll,
        &[
            "reading::a_deadline_in_the_past_ends_a_blocked_read_at_once",
            "reading::a_deadline_set_and_moved_during_a_read_applies",
            "reading::a_queued_read_honours_its_own_limit",
            "writing::a_deadline_in_the_past_ends_a_blocked_write_at_once",
        ],
    ),
    (
        "IngestionForgetsMissed",
        Waiting::Poll,
        &[
            "polling::a_record_during_a_check_of_the_health_is_not_lost",
            "securing::a_check_of_the_health_hides_no_end",
        ],
    ),
    (
        "LeaksLateConnection",
        Waiting::Poll,
        &[
            "closing::shutdown_ends_a_concurrent_connect",
            "connecting::close_cancels_an_attempt_that_may_just_succeed",
            "connecting::of_two_attempts_that_succeed_at_once_one_wins",
            "limits::a_queued_socket_dropped_during_admission_passes_its_slot_on",
            "limits::a_scope_ends_its_open_and_its_queued_sockets",
            "limits::queued_sockets_get_slots_in_order_although_others_give_up",
        ],
    ),
    (
        "LeavesHandshakeUnmonitored",
        Waiting::Poll,
        &["securing::eof_is_noticed_whichever_thread_completed_the_handshake"],
    ),
    (
        "LoopLosesCommand",
        Waiting::Poll,
        &[
            "connecting::a_read_and_a_write_wait_for_the_connection",
            "reading::a_timed_out_read_consumes_nothing",
            "reading::eof_is_noticed_without_a_reader",
            "securing::close_ends_a_handshake_or_an_open_connection",
            "writing::send_buffer_space_wakes_a_blocked_write",
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
            "limits::a_queued_socket_dropped_during_admission_passes_its_slot_on",
            "limits::a_scope_ends_its_open_and_its_queued_sockets",
            "limits::a_wait_for_a_slot_that_times_out_leaves_no_gap",
            "limits::queued_sockets_get_slots_in_order_although_others_give_up",
        ],
    ),
    (
        "NeverLingers",
        Waiting::Poll,
        &[
            "closing::late_data_does_not_reset_a_close",
            "reading::cancel_ends_a_blocked_read_but_not_writes",
        ],
    ),
    (
        "NoExecutorNotice",
        Waiting::Poll,
        &[
            "closing::two_closes_wait_for_the_same_end",
            "limits::queued_sockets_get_slots_and_the_limit_holds",
            "securing::close_abort_or_a_limit_ends_a_handshake_with_foreign_code",
        ],
    ),
    (
        "NoReaderAfterUpgradeCheck",
        Waiting::Poll,
        &[
            "securing::an_upgrade_succeeds_during_a_read_and_a_write",
            "upgrading::an_upgrade_ends_a_blocked_read",
            "upgrading::data_before_an_upgrade_is_read_or_fails_it",
        ],
    ),
    ("NoRelist", Waiting::Poll, &["reading::eof_is_noticed_after_a_read_that_delayed_the_monitor"]),
    (
        "NoWake",
        Waiting::Poll,
        &[
            "closing::close_ends_a_blocked_read_and_a_blocked_write",
            "securing::an_upgrade_succeeds_during_a_read_and_a_write",
            "upgrading::an_upgrade_ends_a_blocked_read",
        ],
    ),
    (
        "PollerBelievesOldPoll",
        Waiting::Poll,
        &["polling::a_report_of_data_that_was_read_is_not_believed"],
    ),
    (
        "PollerForgetsLevel",
        Waiting::Poll,
        &["polling::a_level_triggered_key_is_reported_until_it_is_read"],
    ),
    ("PollerForgetsMissed", Waiting::Poll, &["polling::what_a_reader_leaves_is_reported"]),
    ("PollerForgetsRoom", Waiting::Poll, &["polling::room_in_the_send_buffer_is_reported"]),
    ("PollerForgetsSecondKey", Waiting::Poll, &["polling::a_socket_has_two_keys_of_one_poller"]),
    (
        "PollerHidesLateClient",
        Waiting::Poll,
        &["polling::the_end_of_a_listener_finds_the_client_that_a_poller_has_taken"],
    ),
    ("PollerHidesMissed", Waiting::Poll, &["polling::what_a_reader_leaves_is_reported"]),
    ("PollerHidesRest", Waiting::Poll, &["polling::what_a_thread_leaves_is_reported_to_another"]),
    (
        "PollerKeepsClient",
        Waiting::Poll,
        &["polling::a_thread_accepts_the_client_that_a_poller_has_taken"],
    ),
    (
        "PollerKeepsItsPlace",
        Waiting::Poll,
        &["polling::a_thread_takes_the_place_of_one_that_leaves"],
    ),
    ("PollerLosesModify", Waiting::Poll, &["polling::a_modify_against_an_event_is_not_lost"]),
    (
        "PollerLosesWake",
        Waiting::Poll,
        &[
            "polling::a_record_behind_others_is_not_lost",
            "polling::a_wake_ends_a_wait_that_is_about_to_sleep",
            "polling::one_of_two_waiting_threads_sees_a_record",
            "polling::two_waiting_threads_share_the_events",
        ],
    ),
    ("PollerMissesClients", Waiting::Poll, &["polling::a_client_is_reported"]),
    ("PollerMissesTransitions", Waiting::Poll, &["polling::the_end_is_reported_once"]),
    (
        "PollerReportsAfterRemove",
        Waiting::Poll,
        &[
            "polling::a_removed_key_is_not_reported",
            "polling::the_last_handle_takes_its_keys_along",
        ],
    ),
    ("PollerSkipsLook", Waiting::Poll, &["polling::a_modify_against_an_event_is_not_lost"]),
    (
        "QueueKeepsDropped",
        Waiting::Poll,
        &[
            "limits::a_queued_socket_dropped_during_admission_passes_its_slot_on",
            "limits::a_scope_ends_its_open_and_its_queued_sockets",
            "limits::a_wait_for_a_slot_that_times_out_leaves_no_gap",
            "limits::queued_sockets_get_slots_in_order_although_others_give_up",
        ],
    ),
    (
        "ReaderKeepsLateLine",
        Waiting::Poll,
        &["upgrading::a_line_before_an_upgrade_is_read_or_fails_it"],
    ),
    (
        "ResetsBeforeState",
        Waiting::Poll,
        &[
            "closing::abort_ends_a_blocked_read_and_a_blocked_write",
            "closing::close_abort_and_eof_agree_on_one_outcome",
        ],
    ),
    (
        "ScopeForgetsQueued",
        Waiting::Poll,
        &["limits::a_scope_ends_its_open_and_its_queued_sockets"],
    ),
    (
        "TakesUnixEndForReset",
        Waiting::Poll,
        &[
            "unix::a_write_that_meets_a_closed_unix_domain_peer_leaves_its_end_clean",
            "unix::the_close_of_a_unix_domain_peer_that_has_read_everything_is_an_end",
        ],
    ),
    (
        "TurnReleasedSilently",
        Waiting::Poll,
        &[
            "reading::two_readers_take_turns",
            "upgrading::earlier_writes_precede_an_upgrade",
            "writing::a_half_close_waits_for_earlier_writes",
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
            "upgrading::a_concurrent_close_and_upgrade_leak_nothing",
            "upgrading::data_before_an_upgrade_is_read_or_fails_it",
            "upgrading::earlier_writes_precede_an_upgrade",
            "upgrading::of_two_upgrades_one_succeeds",
            "upgrading::shutdown_ends_a_concurrent_upgrade",
        ],
    ),
    (
        "TrustsUnixHangUp",
        Waiting::Poll,
        &[
            "unix::a_check_of_the_health_takes_no_failure_of_a_unix_domain_socket_for_an_end",
            "unix::an_unread_byte_makes_the_close_of_a_unix_domain_peer_a_failure_for_every_thread",
        ],
    ),
    ("WorkerKeepsSocket", Waiting::Poll, &["securing::a_handshake_with_foreign_code_completes"]),
];

/// Bugs of the machine, which the simulator (`tests/sim`) finds.
const OF_THE_MACHINE: &[&str] = &[
    "AcceptorSpins",
    "AsksEndedProxy",
    "ClientHelloTrusted",
    "DialsDenied",
    "FinBeforeData",
    "KeepsStaleTimer",
    "LosesWritable",
    "RetriesAtOnce",
    "TruncationSpins",
    "TrustsPlaintext",
];

/// The number of schedules in which a model has to find a bug, unless `SCHEDULES` sets another.
const SCHEDULES: &str = "40000";
/// The time in which a model has to find a bug.
const LIMIT: Duration = Duration::from_secs(300);
/// This module's prefix in the names of tests.
const MODULE: &str = "planted::";

#[test]
fn every_bug_has_a_model_and_every_model_a_bug() {
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

/// Waits for a child for at most [`LIMIT`], and then kills it.
fn finish(mut child: Child) -> Option<Output> {
    let started = Instant::now();
    // Threads read its output, so that full pipes do not block it.
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
