//! An error at every system call that a small program makes, one at a time, by strace.
//!
//! The program is the tour. It is traced once, so that its calls are known; then it runs again and again, each
//! time with one error at the k-th call of one name. (strace counts by thread, so that it may be the k-th of
//! several.) It is attached to when it is about to begin: how a program is loaded is not what is tried here.
//!
//! Survived is a run that ends in time, in success or in a failure that is told as the crate tells failures.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::child::{Running, jobs};
use crate::server::Server;
use crate::support::alone::this_binary;
use crate::tour::{BEGINS, CLEAN_FAILURE};

/// The most that a run may take.
const LIMIT: Duration = Duration::from_secs(10);

const ERRORS: [&str; 8] =
    ["EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ENOMEM", "EMFILE", "EINVAL", "ETIMEDOUT"];

/// What is not made to fail, and why.
const LEFT_OUT: [(&str, &str); 8] = [
    ("brk", "has no errors: the C library takes what it returns for an address"),
    ("exit", "can't fail"),
    ("exit_group", "can't fail"),
    (
        "futex",
        "a wake that is not made is a broken lock, at which the C library aborts and others hang",
    ),
    ("getrandom", "std panics and aws-lc aborts where there are no random numbers"),
    ("restart_syscall", "is the kernel's own"),
    ("rseq", "the C library aborts"),
    ("rt_sigreturn", "can't fail"),
];

/// Where std gives a program up itself: a thread whose stack can't be guarded, SIGPIPE that can't be ignored.
const STDS_OWN: [&str; 3] = [
    "library/std/src/sys/pal/unix/stack_overflow.rs",
    "failed to allocate an alternative stack",
    "signal(libc::SIGPIPE, handler) != libc::SIG_ERR",
];

/// Calls that never fail so on a connection that stands, and whose failure leaves nothing to be told: a FIN
/// that is not sent is not answered, a wake-up that is not made wakes nobody. Limits may pass then; elsewhere
/// who sets none would wait for ever.
const MAY_BE_LATE: [&str; 2] = ["shutdown", "write"];

/// After an interruption these are called again, and nobody hears of it. (After a would-block that is a lie
/// there is no event, and limits may pass.)
const GO_ON: [&str; 5] = ["epoll_wait", "ppoll", "recvfrom", "recvmsg", "sendto"];

/// One error at one call.
#[derive(Clone, Debug)]
struct Injection {
    call: String,
    error: &'static str,
    when: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    WentOn,
    Told,
    /// The run made fewer such calls this time.
    NotReached,
    /// std gave the program up.
    Given,
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
                println!("    again by: cargo test --test faults -- sweep {}", injection.spelt());
                let _ = std::io::stdout().flush();
            }
            let mut results = results.lock().expect("nothing fails under it");
            let row = results.entry(injection.call.clone()).or_default();
            *row.outcomes.entry(outcome).or_default() += 1;
            if outcome == Outcome::Told {
                *row.kinds.entry(kind.to_owned()).or_default() += 1;
            }
        }
        // Where there was nothing to inject there is none.
        let _ = std::fs::remove_file(log);
    };
    std::thread::scope(|scope| {
        for job in 0..jobs() {
            scope.spawn(move || work(job));
        }
    });
    report(&results.into_inner().expect("nothing fails under it"))
}

/// One of them again, with all its words.
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

/// The kind of the failure that the program tells in its last line.
fn kind(words: &str) -> &str {
    let last = words.trim_end().lines().last().unwrap_or_default();
    last.split_once(':').map_or(last, |(kind, _)| kind)
}

/// What came of all the calls of one name.
#[derive(Default)]
struct Row {
    outcomes: BTreeMap<Outcome, usize>,
    /// Of the failures that were told.
    kinds: BTreeMap<String, usize>,
}

impl Row {
    fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }
}

fn report(rows: &BTreeMap<String, Row>) -> ExitCode {
    println!("\n{:<18} {:>8} {:>8} {:>8}", "call", "failed", "went on", "told");
    for (call, row) in rows {
        let [failed, on, told] =
            [Outcome::Failed, Outcome::WentOn, Outcome::Told].map(|outcome| row.count(outcome));
        let kinds: Vec<String> =
            row.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("{call:<18} {failed:>8} {on:>8} {told:>8}  {}", kinds.join(", "));
    }
    for (call, why) in LEFT_OUT {
        println!("{call:<18} left out: {why}");
    }
    let sum = |outcome| rows.values().map(|row| row.count(outcome)).sum::<usize>();
    let survived = sum(Outcome::WentOn) + sum(Outcome::Told);
    let failed = sum(Outcome::Failed);
    println!("\n{survived} of {} survived", survived + failed);
    println!("{} not reached: the run had fewer calls", sum(Outcome::NotReached));
    println!("{} given up by std, before any code of the library's", sum(Outcome::Given));
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

/// Each error at each call of the run that is traced for this.
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

/// The thread and the name of a call that begins in this line of a trace.
fn call(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(char::is_whitespace)?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name && !name.is_empty()).then_some((thread, name))
}

fn try_one(injection: &Injection, word: &str, log: &Path) -> (Outcome, String) {
    let Injection { call, error, when } = injection;
    let inject = format!("inject={call}:error={error}:when={when}");
    let tour = Tour::start(word);
    let strace = tour.attach(log, &["-e", &format!("trace={call}"), "-e", &inject]);
    let ran = tour.finish();
    strace.finish();
    let trace = std::fs::read_to_string(log).unwrap_or_default();
    let words = format!("{}\n{}", ran.output, ran.errors);
    if STDS_OWN.iter().any(|own| words.contains(own)) {
        return (Outcome::Given, words);
    }
    if words.contains("panicked at") {
        return (Outcome::Failed, words);
    }
    let outcome = match ran.status {
        None => return (Outcome::Failed, format!("it hangs\n{words}")),
        Some(status) => match status.code() {
            Some(0) if !trace.contains("(INJECTED)") => Outcome::NotReached,
            Some(0) => Outcome::WentOn,
            Some(code) if code == i32::from(CLEAN_FAILURE) => {
                if *error == "EINTR" && GO_ON.contains(&call.as_str()) {
                    return (Outcome::Failed, format!("it should have gone on\n{words}"));
                }
                let excused = *error == "EAGAIN" || MAY_BE_LATE.contains(&call.as_str());
                if kind(&words) == "TimedOut" && !excused {
                    return (Outcome::Failed, format!("only a limit told of it\n{words}"));
                }
                Outcome::Told
            }
            Some(_) | None => return (Outcome::Failed, format!("{status}\n{words}")),
        },
    };
    (outcome, words)
}

/// The program, up to where it waits to be told to begin.
struct Tour {
    running: Running,
}

impl Tour {
    fn start(word: &str) -> Tour {
        let mut command = Command::new(this_binary());
        command.args(["tour", word]).env_remove("RUST_BACKTRACE");
        let running = Running::start(command, Stdio::piped()).expect("it can be started");
        Tour { running }
    }

    /// Attaches strace, and returns when it is at work.
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
        // It says so, or says what hinders it.
        errors.read_line(&mut line).expect("what it says is text");
        assert!(line.contains("attached"), "{line}");
        Strace { child, errors }
    }

    fn finish(mut self) -> crate::child::Ran {
        self.running.tell(BEGINS);
        self.running.finish(LIMIT).expect("it is a child of this process")
    }
}

struct Strace {
    child: Child,
    /// It goes on talking, and would end where nobody could hear it.
    errors: BufReader<ChildStderr>,
}

impl Strace {
    /// It ends with what it traces.
    fn finish(mut self) {
        // What it has said is of no interest.
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
