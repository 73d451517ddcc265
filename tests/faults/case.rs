//! The cases, the processes that run them, and the verdicts.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::getuid;

use crate::child::{ChildOutput, run};
use crate::judge::LeakCheck;
use crate::support::spawn_call;
use crate::support::subprocess::this_binary;
use crate::{cases, space};

/// A case that takes longer than this hangs.
pub const HANGS: Duration = Duration::from_secs(60);

/// One fault in one phase.
pub struct FaultCase {
    pub name: String,
    pub place: ProcessKind,
    /// Uses the library before the case begins, so that its permanent descriptors are not taken for a leak.
    pub warm: bool,
    play: Box<dyn Fn() + Send + Sync>,
}

/// The environment of the process that runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    Here,
    /// A network namespace that ends with the process.
    OwnNetwork,
    /// A user without privileges, so that resource limits apply.
    Unprivileged,
    /// A wall clock that libfaketime sets, from the file that an environment variable names.
    SetClock,
    /// A time namespace whose monotonic clock started long ago.
    OldClock,
}

/// How a case ended.
enum HasErrorKind {
    Survived(Duration),
    /// A failed allocation aborted the program, as Rust and aws-lc do: no hang, no corruption and no error.
    Aborted(Duration),
    Failed(String),
    Skipped(String),
}

impl FaultCase {
    pub fn new(name: impl Into<String>, play: impl Fn() + Send + Sync + 'static) -> FaultCase {
        FaultCase { name: name.into(), place: ProcessKind::Here, warm: true, play: Box::new(play) }
    }

    pub fn at(self, place: ProcessKind) -> FaultCase {
        FaultCase { place, ..self }
    }

    pub fn cold(self) -> FaultCase {
        FaultCase { warm: false, ..self }
    }

    fn verdict(&self) -> HasErrorKind {
        if let Some(reason) = self.place.missing() {
            return HasErrorKind::Skipped(reason);
        }
        let mut command = self.place.command(&self.name);
        command.args(["case", &self.name]).env_remove("RUST_BACKTRACE");
        let ran = run(command, HANGS);
        if self.place == ProcessKind::SetClock {
            cases::clock::remove_file(&self.name);
        }
        let ChildOutput { output, errors, status, .. } = match ran {
            Ok(ran) => ran,
            Err(error) => {
                return HasErrorKind::Failed(format!("could not start the process: {error}"));
            }
        };
        let Some(status) = status else {
            return HasErrorKind::Failed(format!("it hangs\n{output}{errors}"));
        };
        let last = output.lines().last().unwrap_or_default();
        let millis = |text: &str| text.parse().map(Duration::from_millis).ok();
        match (status.code(), last.split_once(' ')) {
            (Some(0), Some(("survived", took))) => millis(took).map(HasErrorKind::Survived),
            (Some(0), Some(("aborted", took))) => millis(took).map(HasErrorKind::Aborted),
            (Some(0), Some(("skipped", reason))) => Some(HasErrorKind::Skipped(reason.to_owned())),
            _ => None,
        }
        .unwrap_or_else(|| HasErrorKind::Failed(format!("{status}\n{output}{errors}")))
    }
}

impl ProcessKind {
    fn command(self, case: &str) -> Command {
        const NOBODY: u32 = 65_534;
        let mut command = match self {
            ProcessKind::Here | ProcessKind::Unprivileged | ProcessKind::SetClock => {
                Command::new(this_binary())
            }
            ProcessKind::OwnNetwork => space::command(),
            ProcessKind::OldClock => {
                let mut command = Command::new("unshare");
                // 30 years, which is less than the kernel's limit.
                command.args(["--time", "--monotonic", "946080000", "--boottime", "946080000"]);
                command.args(["--fork", "--kill-child"]).arg(this_binary());
                command
            }
        };
        if self == ProcessKind::Unprivileged && getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        if self == ProcessKind::SetClock {
            if let Some(library) = cases::clock::library() {
                command.env("LD_PRELOAD", library);
            }
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            // The variable's older name.
            command.env("DONT_FAKE_MONOTONIC", "1");
            command.env("FAKETIME_TIMESTAMP_FILE", cases::clock::new_file(case));
        }
        command
    }

    fn missing(self) -> Option<String> {
        let works = |mut command: Command| command.output().is_ok_and(|out| out.status.success());
        let probe = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args);
            works(command)
        };
        match self {
            ProcessKind::Here => None,
            ProcessKind::OwnNetwork => space::missing(),
            ProcessKind::Unprivileged => {
                let mut command = self.command("");
                command.arg("--help");
                // The usage message shows that the program runs.
                let ran = command.output().is_ok_and(|out| out.status.code() == Some(2));
                (!ran).then(|| "the unprivileged user cannot run this program".to_owned())
            }
            ProcessKind::SetClock => {
                let missing = cases::clock::library().is_none();
                missing.then(|| "libfaketime is not installed".to_owned())
            }
            ProcessKind::OldClock => {
                let works = probe("unshare", &["--time", "--monotonic", "1", "--fork", "true"]);
                (!works).then(|| "unshare --time does not work".to_owned())
            }
        }
    }
}

// -------------------------------------------------------------------- running all cases

/// Runs every case whose name contains `filter`, and prints the verdicts.
pub fn run_all(filter: &str) -> ExitCode {
    let cases: Vec<FaultCase> =
        cases::all().into_iter().filter(|case| case.name.contains(filter)).collect();
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = case.verdict();
            tally.lock().expect("nothing fails under it").count(&case.name, verdict);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..crate::child::jobs() {
            scope.spawn(work);
        }
    });
    let tally = tally.into_inner().expect("nothing fails under it");
    println!("\n{} of {} survived", tally.survived, tally.survived + tally.failed);
    if tally.aborted > 0 {
        println!("{} aborted because an allocation failed", tally.aborted);
    }
    if tally.skipped > 0 {
        println!("{} skipped", tally.skipped);
    }
    let none = tally.survived == 0;
    ExitCode::from(u8::from(tally.failed > 0 || none))
}

#[derive(Default)]
struct Tally {
    survived: usize,
    aborted: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    fn count(&mut self, name: &str, verdict: HasErrorKind) {
        match verdict {
            HasErrorKind::Survived(took) => {
                self.survived += 1;
                println!("survived  {name}  {} ms", took.as_millis());
            }
            HasErrorKind::Aborted(took) => {
                self.aborted += 1;
                println!("aborted   {name}  {} ms", took.as_millis());
            }
            HasErrorKind::Failed(why) => {
                self.failed += 1;
                println!("FAILED    {name}: {}", why.trim_end().replace('\n', "\n    "));
            }
            HasErrorKind::Skipped(reason) => {
                self.skipped += 1;
                println!("skipped: {name}: {reason}");
            }
        }
        // The reader of standard output may have gone.
        let _ = std::io::stdout().flush();
    }
}

// -------------------------------------------------------------------- running one case

/// Runs a case in this process, and prints its verdict in the last line.
pub fn play(name: &str) -> ExitCode {
    let Some(case) = cases::all().into_iter().find(|case| case.name == name) else {
        println!("no such case: {name:?}");
        return ExitCode::from(2);
    };
    if case.place == ProcessKind::OwnNetwork {
        space::here("ip link set lo up");
    }
    let watch = LeakCheck::begin(case.warm);
    let begun = Instant::now();
    // In a thread, so that the wake handle that the library may keep for a waiting thread ends with it.
    spawn_call(case.play).join_within(HANGS);
    let took = begun.elapsed();
    watch.end();
    println!("\nsurvived {}", took.as_millis());
    ExitCode::SUCCESS
}

/// Ends the case because the machine lacks something that it needs.
pub fn skip(reason: &str) -> ! {
    println!("\nskipped {reason}");
    std::process::exit(0);
}

/// Ends the case because the program that it watched aborted when it ran out of memory.
pub fn aborted(after: Duration) -> ! {
    println!("\naborted {}", after.as_millis());
    std::process::exit(0);
}
