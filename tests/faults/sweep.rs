//! Fails every system call of a small program, one at a time, with strace.
//!
//! The program is the tour. It is traced once to learn its calls. Then it runs once for each error at the k-th call of
//! each name. strace counts calls per thread, so more than one thread may have a k-th call. strace attaches just
//! before the tour begins, because loading the program is not under test.
//!
//! A run survives if it ends in time, either with success or with an error of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::child::{ChildProcess, jobs};
use crate::server::Server;
use crate::support::subprocess::this_binary;
use crate::tour::{BEGINS, CLEAN_FAILURE};

/// The time limit of a run.
const LIMIT: Duration = Duration::from_secs(10);

const ERRORS: [&str; 8] =
    ["EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ENOMEM", "EMFILE", "EINVAL", "ETIMEDOUT"];

/// Calls that are not made to fail, and why.
const LEFT_OUT: [(&str, &str); 8] = [
    ("brk", "has no errors: the C library takes the result for an address"),
    ("exit", "can't fail"),
    ("exit_group", "can't fail"),
    ("futex", "without its wake-ups locks break: the C library aborts and other code hangs"),
    ("getrandom", "std panics and aws-lc aborts without random numbers"),
    ("restart_syscall", "is the kernel's own"),
    ("rseq", "the C library aborts"),
    ("rt_sigreturn", "can't fail"),
];

/// Errors at which std itself aborts: it cannot guard a thread's stack, or cannot ignore SIGPIPE.
const STDS_OWN: [&str; 3] = [
    "library/std/src/sys/pal/unix/stack_overflow.rs",
    "failed to allocate an alternative stack",
    "signal(libc::SIGPIPE, handler) != libc::SIG_ERR",
];

/// Calls that never fail like this on a live connection, and whose failure leaves nothing to report. The peer does not
/// answer a FIN that was not sent, and a lost wake-up wakes no thread. So limits may pass in these runs. In all
/// others, a program without limits would wait forever.
const MAY_BE_LATE: [&str; 2] = ["shutdown", "write"];

/// Calls that the library repeats after an interruption, so that callers do not notice it. (An injected would-block is
/// false, no event follows it, and limits may pass.)
const GO_ON: [&str; 5] = ["epoll_wait", "ppoll", "recvfrom", "recvmsg", "sendto"];

/// One error at one call.
#[derive(Clone, Debug)]
struct Injection {
    call: String,
    error: &'static str,
    when: usize,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Continued,
    ReportedError,
    /// The run made fewer such calls than the traced one.
    NotReached,
    /// std aborted the program.
    AbortedByStd,
    Failed,
}

pub fn run(only: Option<&str>) -> ExitCode {
    if let Some(reason) = missing() {
        println!("skipped: sweep: {reason}");
        return ExitCode::SUCCESS;
    }
    let server = Server::start();
    let word = server.site.word();
    let injections = injections(&word, only);
    println!("{} injections", injections.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::<String, Row>::new());
    let work = |job: usize| {
        let log = scratch(&format!("sweep-{job}"));
        while let Some(injection) = injections.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (outcome, words) = try_one(injection, &word, &log);
            let kind = kind(&words);
            if outcome == Outcome::Failed {
                println!("FAILED    {injection}: {}", words.trim().replace('\n', "\n    "));
                println!("    to repeat: cargo test --test faults -- sweep {}", injection.spelt());
                let _ = std::io::stdout().flush();
            }
            let mut results = results.lock().expect("nothing fails under it");
            let row = results.entry(injection.call.clone()).or_default();
            *row.outcomes.entry(outcome).or_default() += 1;
            if outcome == Outcome::ReportedError {
                *row.kinds.entry(kind.to_owned()).or_default() += 1;
            }
        }
        // strace may not have written a log.
        let _ = std::fs::remove_file(log);
    };
    std::thread::scope(|scope| {
        for job in 0..jobs() {
            scope.spawn(move || work(job));
        }
    });
    report(&results.into_inner().expect("nothing fails under it"))
}

/// Repeats one injection, and prints the program's full output.
pub fn again(call: &str, error: &str, when: &str) -> ExitCode {
    let error = ERRORS.into_iter().find(|known| *known == error).expect("one of the errors");
    let when = when.parse().expect("a number");
    let injection = Injection { call: call.to_owned(), error, when };
    let server = Server::start();
    let log = scratch("sweep-again");
    let (outcome, words) = try_one(&injection, &server.site.word(), &log);
    println!("{words}\n{injection}: {outcome:?}; its calls are in {}", log.display());
    ExitCode::from(u8::from(outcome == Outcome::Failed))
}

/// Returns the error kind in the program's last line.
fn kind(words: &str) -> &str {
    let last = words.trim_end().lines().last().unwrap_or_default();
    last.split_once(':').map_or(last, |(kind, _)| kind)
}

/// The results of all calls of one name.
#[derive(Default)]
struct Row {
    outcomes: BTreeMap<Outcome, usize>,
    /// The kinds of the errors that the program reported.
    kinds: BTreeMap<String, usize>,
}

impl Row {
    fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }
}

fn report(rows: &BTreeMap<String, Row>) -> ExitCode {
    println!("\n{:<18} {:>8} {:>8} {:>8}", "call", "failed", "went on", "error");
    for (call, row) in rows {
        let [failed, on, message] = [Outcome::Failed, Outcome::Continued, Outcome::ReportedError]
            .map(|outcome| row.count(outcome));
        let kinds: Vec<String> =
            row.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("{call:<18} {failed:>8} {on:>8} {message:>8}  {}", kinds.join(", "));
    }
    for (call, why) in LEFT_OUT {
        println!("{call:<18} left out: {why}");
    }
    let sum = |outcome| rows.values().map(|row| row.count(outcome)).sum::<usize>();
    let survived = sum(Outcome::Continued) + sum(Outcome::ReportedError);
    let failed = sum(Outcome::Failed);
    println!("\n{survived} of {} survived", survived + failed);
    println!("{} not reached: the run had fewer calls", sum(Outcome::NotReached));
    println!("{} aborted by std, before any code of the library", sum(Outcome::AbortedByStd));
    ExitCode::from(u8::from(failed > 0 || survived == 0))
}

impl std::fmt::Display for Injection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} no. {}", self.error, self.call, self.when)
    }
}

impl Injection {
    fn spelt(&self) -> String {
        format!("{} {} {}", self.call, self.error, self.when)
    }
}

/// Lists each error at each call of a traced run without errors.
fn injections(word: &str, only: Option<&str>) -> Vec<Injection> {
    let log = scratch("sweep-all");
    let tour = Tour::start(word);
    let strace = tour.attach(&log, &[]);
    let ran = tour.finish();
    strace.finish();
    assert!(ran.status.is_some_and(|status| status.success()), "without any error: {}", ran.errors);
    let mut calls = BTreeMap::<String, BTreeMap<String, usize>>::new();
    let text = std::fs::read_to_string(&log).expect("strace has written it");
    for (thread, call) in text.lines().filter_map(call) {
        *calls.entry(call.to_owned()).or_default().entry(thread.to_owned()).or_default() += 1;
    }
    let _ = std::fs::remove_file(log);
    let left_out: BTreeSet<&str> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
    let mut all = Vec::new();
    for (call, threads) in calls {
        let wanted = only.is_none_or(|only| only == call);
        if left_out.contains(call.as_str()) || !wanted {
            continue;
        }
        let most = threads.values().copied().max().expect("one thread has made it");
        for when in 1..=most {
            let one = |error| Injection { call: call.clone(), error, when };
            all.extend(ERRORS.map(one));
        }
    }
    all
}

/// Returns the thread and the name of the call that begins in this line of a trace.
fn call(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(char::is_whitespace)?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name && !name.is_empty()).then_some((thread, name))
}

fn try_one(injection: &Injection, word: &str, log: &Path) -> (Outcome, String) {
    let (mut outcome, mut words) = try_once(injection, word, log);
    for _ in 0..5 {
        // If the program ended while another thread wrote where it panics, nothing tells whether that is in `std`.
        if !words.lines().any(|line| line.trim_end().ends_with("panicked at")) {
            break;
        }
        (outcome, words) = try_once(injection, word, log);
    }
    (outcome, words)
}

fn try_once(injection: &Injection, word: &str, log: &Path) -> (Outcome, String) {
    let Injection { call, error, when } = injection;
    let inject = format!("inject={call}:error={error}:when={when}");
    let tour = Tour::start(word);
    let strace = tour.attach(log, &["-e", &format!("trace={call}"), "-e", &inject]);
    let ran = tour.finish();
    strace.finish();
    let trace = std::fs::read_to_string(log).unwrap_or_default();
    let words = format!("{}\n{}", ran.output, ran.errors);
    if STDS_OWN.iter().any(|own| words.contains(own)) {
        return (Outcome::AbortedByStd, words);
    }
    if words.contains("panicked at") {
        return (Outcome::Failed, words);
    }
    let outcome = match ran.status {
        None => return (Outcome::Failed, format!("it hangs\n{words}")),
        Some(status) => match status.code() {
            Some(0) if !trace.contains("(INJECTED)") => Outcome::NotReached,
            Some(0) => Outcome::Continued,
            Some(code) if code == i32::from(CLEAN_FAILURE) => {
                if *error == "EINTR" && GO_ON.contains(&call.as_str()) {
                    return (Outcome::Failed, format!("it should have gone on\n{words}"));
                }
                let excused = *error == "EAGAIN" || MAY_BE_LATE.contains(&call.as_str());
                if kind(&words) == "TimedOut" && !excused {
                    return (
                        Outcome::Failed,
                        format!("only a limit revealed the failure\n{words}"),
                    );
                }
                Outcome::ReportedError
            }
            Some(_) | None => return (Outcome::Failed, format!("{status}\n{words}")),
        },
    };
    (outcome, words)
}

/// The program, stopped just before its tour.
struct Tour {
    running: ChildProcess,
}

impl Tour {
    fn start(word: &str) -> Tour {
        let mut command = Command::new(this_binary());
        command.args(["tour", word]).env_remove("RUST_BACKTRACE");
        let running = ChildProcess::start(command, Stdio::piped()).expect("it can be started");
        Tour { running }
    }

    /// Attaches strace, and returns when strace traces the program.
    fn attach(&self, log: &Path, more: &[&str]) -> Strace {
        let mut child = Command::new("strace")
            .args(["-f", "-o"])
            .arg(log)
            .args(more)
            .args(["-p", &self.running.pid().to_string()])
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was there a moment ago");
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        // strace prints one line: that it is attached, or why it could not attach.
        errors.read_line(&mut line).expect("what it says is text");
        assert!(line.contains("attached"), "{line}");
        Strace { child, errors }
    }

    fn finish(mut self) -> crate::child::ChildOutput {
        self.running.tell(BEGINS);
        self.running.finish(LIMIT).expect("it is a child of this process")
    }
}

struct Strace {
    child: Child,
    /// strace writes more later, and would end if the pipe were closed.
    errors: BufReader<ChildStderr>,
}

impl Strace {
    /// Waits for strace, which ends with the traced program.
    fn finish(mut self) {
        // Only an open pipe matters here, and not its contents.
        let _ = std::io::copy(&mut self.errors, &mut std::io::sink());
        self.child.wait().expect("it is a child of this process");
    }
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

fn missing() -> Option<String> {
    let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("strace: {error}")),
    }
}
