//! The runner: plays every behaviour in every situation, with servers in threads and clients in processes.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::behaviour::{Behaviour, SITUATIONS, ServerLoad, Situation};
use crate::forge::{Server, Version, identity};
use crate::judge::{Verdict, judge};
use crate::report::{Order, Report};
use crate::{behaviours, client};

/// A client that reports nothing for this long hangs.
const HANGS: Duration = Duration::from_secs(20);
/// The number of concurrent clients, without and with a flooding server.
const JOBS: usize = 20;
const FLOODED_JOBS: usize = 2;
/// The most late situations that are repeated. If there are more, a busy machine is not the cause.
const MAX_LATE: usize = 40;

/// Plays the behaviours whose names contain, or with `exact` equal, the filter.
pub fn run(filter: &str, exact: bool, verbose: bool) -> ExitCode {
    let wanted =
        |one: &Behaviour| if exact { one.name == filter } else { one.name.contains(filter) };
    let all = behaviours::all().into_iter().filter(wanted).map(Arc::new);
    if let Err(error) = client::reset_peak() {
        println!("skipped: memory growth: cannot reset the peak: {error}");
    }
    let begun = Instant::now();
    let (flooded, others): (Vec<_>, Vec<_>) = all.partition(|one| one.load == ServerLoad::Flood);
    let count = flooded.len() + others.len();
    let tally = Mutex::new(Tally { verbose, ..Tally::default() });
    thread::scope(|scope| {
        scope.spawn(|| play_all(others, JOBS, &tally));
        scope.spawn(|| play_all(flooded, FLOODED_JOBS, &tally));
    });
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.play_late_ones_again();
    let took = begun.elapsed().as_secs_f32();
    let Tally { right, played, .. } = tally;
    println!("\nhostile: {count} behaviours, {right} of {played} situations right, in {took:.1} s");
    ExitCode::from(u8::from(right < played || played == 0))
}

/// Plays these behaviours with `jobs` clients.
fn play_all(behaviours: Vec<Arc<Behaviour>>, jobs: usize, tally: &Mutex<Tally>) {
    let queue = Mutex::new(VecDeque::from(behaviours));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut client = None;
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(behaviour) = next else { break };
                    for situation in SITUATIONS {
                        let (report, verdict) = play(&mut client, &behaviour, situation);
                        lock(tally).count(&behaviour, situation, &report, verdict);
                    }
                }
            });
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Tally {
    played: usize,
    right: usize,
    verbose: bool,
    /// Situations that were late while others ran.
    late: Vec<(Arc<Behaviour>, Situation)>,
    /// Nothing else runs.
    alone: bool,
}

impl Tally {
    fn count(
        &mut self,
        behaviour: &Arc<Behaviour>,
        situation: Situation,
        report: &Report,
        verdict: Verdict,
    ) {
        let cell = format!("{}: {situation:?}", behaviour.name);
        if self.verbose {
            println!("{cell}: {report:?}");
        }
        if verdict.is_late() && !self.alone && self.late.len() < MAX_LATE {
            self.late.push((Arc::clone(behaviour), situation));
            return;
        }
        self.played += 1;
        self.right += usize::from(verdict.is_right());
        if !verdict.is_right() {
            let all = [verdict.faults, verdict.delays].concat().join("; ");
            println!("FAILED    {cell}: {all} ({})", report.why);
        }
    }

    /// Repeats late situations one at a time. Those that are in time now were short of CPU time.
    fn play_late_ones_again(&mut self) {
        self.alone = true;
        let mut client = None;
        for (behaviour, situation) in std::mem::take(&mut self.late) {
            println!("again     {}: {situation:?}", behaviour.name);
            let (report, verdict) = play(&mut client, &behaviour, situation);
            self.count(&behaviour, situation, &report, verdict);
        }
    }
}

// -------------------------------------------------------------------- one situation

/// Plays and judges a behaviour in a situation, with this client or a new one.
fn play(
    client: &mut Option<Client>,
    behaviour: &Arc<Behaviour>,
    situation: Situation,
) -> (Report, Verdict) {
    let running = client.get_or_insert_with(Client::new);
    match running.play(behaviour, situation) {
        Ok((report, sent)) => {
            let verdict = judge(behaviour, situation, sent, &report);
            (report, verdict)
        }
        Err(what) => {
            let errors = client.take().map(Client::kill).unwrap_or_default();
            (Report::default(), Verdict::fault(format!("{what}\n{errors}")))
        }
    }
}

/// A client process.
struct Client {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
}

impl Client {
    /// Starts a client that has made a connection with each version, so that one-time allocations are not measured.
    fn new() -> Client {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .arg("client")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program runs once more");
        let mut input = child.stdin.take().expect("it is piped");
        let (tell, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|l| tell.send(l)));
        let errors = Arc::new(Mutex::new(String::new()));
        let (said, mut stderr) = (Arc::clone(&errors), child.stderr.take().expect("it is piped"));
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(len @ 1..) = stderr.read(&mut buf) {
                lock(&said).push_str(&String::from_utf8_lossy(&buf[..len]));
            }
        });
        writeln!(input, "{}\n", identity::root_pem().trim()).expect("it listens");
        let mut client = Client { child, input, lines, errors };
        for version in [Version::Tls13, Version::Tls12] {
            let plain = Behaviour::ends("a good server", version, |server| {
                server.data(100_000 / 8)?;
                server.close_notify()
            });
            client.play(&Arc::new(plain), Situation::Reading).expect("it plays");
        }
        client
    }

    /// Returns the client's report and the length of the data that the server has sent.
    fn play(
        &mut self,
        behaviour: &Arc<Behaviour>,
        situation: Situation,
    ) -> Result<(Report, u64), String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let sent = Arc::new(AtomicU64::new(0));
        let (ready, wait) = mpsc::channel();
        // Dropping this closes the server's end.
        let (_over, hold) = mpsc::channel::<()>();
        let (script, counter) = (Arc::clone(behaviour), Arc::clone(&sent));
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the client connects");
            stream.set_nodelay(true).expect("it is TCP");
            let mut server = Server::new(stream, counter, wait);
            // The script fails when the client is gone.
            let _ = (script.play)(&mut server);
            let _ = hold.recv();
        });
        let Behaviour { opens, lenient, load, .. } = **behaviour;
        let order = Order { situation, port, opens, lenient, floods: load == ServerLoad::Flood };
        writeln!(self.input, "{order}").map_err(|error| format!("the client is gone: {error}"))?;
        let line = loop {
            let line = self.lines.recv_timeout(HANGS);
            match line.map_err(|_| String::from("the client hangs, or is gone"))?.as_str() {
                // The script may have ended.
                "ready" => drop(ready.send(())),
                line => break line.to_owned(),
            }
        };
        let errors = std::mem::take(&mut *lock(&self.errors));
        if !errors.is_empty() {
            return Err(format!("the client wrote to standard error: {errors}"));
        }
        let report = Report::parse(&line).ok_or(format!("no report: {line}"))?;
        Ok((report, sent.load(Ordering::SeqCst)))
    }

    /// Kills the process and returns its standard error.
    fn kill(mut self) -> String {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
        lock(&self.errors).clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
