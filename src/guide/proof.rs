//! How it is proved, how to repeat that, and what it found.
//!
//! A socket is one state machine and a few threads that share it, so there are two questions: whether the
//! machine is right, and whether the threads keep it so. The first is answered where nothing is left to
//! chance, the second where all of it is explored, and both again on a real system that is made to fail.
//!
//! | What | is shown by | again by |
//! |---|---|---|
//! | what every input does in every state | a table that is checked in, `src/machine/state/table.txt` | `cargo test --lib table` |
//! | that no rule of the machine is broken by any course of events | lives in a simulator (feature `sim`) | `cargo test --features sim --test sim` |
//! | the same, where chance would not look | fuzzing, eight targets | `fuzz/README.md` |
//! | that no order of the threads' steps loses anything | models of the driver under shuttle | `.ci/schedules` |
//! | that faults of the network and of the system are told as what they are | faults made for real | `cargo test --test faults` |
//! | the same, at every system call | errors injected by strace | `cargo test --test faults -- sweep` |
//! | that nothing piles up | a soak | `cargo test --release --test faults -- soak` |
//! | that it is what Workers' users know | the 255 scenarios of `tests/it/conformance` | `cargo test --test it conformance` |
//! | that the tests would notice | planted bugs, mutants, coverage | `.ci/mutations`, `.ci/deep` |
//! | that no memory is misused and no data raced for | miri, address and thread sanitizer | `.ci/deep` |
//!
//! # The machine
//!
//! [`machine`](crate::machine) has no clock, no thread and no socket, so a test can be all of these. The
//! simulator leads whole lives of it: a plan of steps, decoded from a seed or from a fuzzer's bytes, says what
//! the program does, what names and addresses answer, what the peer sends, over TLS too, and what the wire
//! makes of that: splits, joins, holds back, cuts, resets, changes. After each step the rules are checked, such
//! as that what is read is what was written, that whoever waits is told once, that FIN follows what was
//! accepted, that no denied address is dialled, and that nothing which came in plaintext is taken for secure.
//! Where one is broken the seed is printed; `SIM_SEED=n` leads that life again with every step, and
//! `SIM_LIVES=n` leads more of them. A seed that once broke a rule stays in `tests/sim/lives.rs`, a file of a
//! fuzzer's in `fuzz/corpus`; both are led again by every run of the tests.
//!
//! `.ci/mutations sim` plants five bugs, one at a time, each in another place of the machine. Each has to be found
//! within 10,000 lives. They are, in lives 0, 36, 64, 1,666 and 3,090.
//!
//! # The threads
//!
//! What callers, the loop and each other's closes do to one socket is tried in models: a few threads that use
//! a socket by the public API, over a model of locks, clock and system calls. Each runs thousands of times, a
//! third of them at random, a third by priorities that change (PCT), and a third in order: all schedules
//! without a preemption, then all with one, and so on. A run fails where an assertion does, where nobody can go
//! on any more, and where a descriptor, a place or a command of the loop is left over. `src/failpoint.rs` names 24
//! bugs of the driver that a build with `--cfg sockeye_planted` contains, such as a wake-up that is left out.
//! `.ci/mutations driver` plants each of them in turn. The models that `tests/schedules/planted.rs` lists for a bug
//! must find it, and each model must find at least one.
//!
//! # The system
//!
//! `tests/faults` makes faults for real: a full backlog, black holes and rejects of a packet filter, links that
//! go down, resets, frozen peers, peers that never read, the smallest buffers, no descriptor, no thread and no
//! memory left, clocks that jump, resolvers that hang or panic; each in every phase in which it makes sense, in
//! plaintext and over TLS. It has survived one if every waiter was told the same, of the right kind, within
//! twice the deadline, if nothing panicked and nothing is left over, and if the next socket works. The sweep
//! then takes a small program that opens, upgrades, reads, writes and closes, and fails its system calls one
//! after the other with one of eight errors.
//!
//! # How much of it was run
//!
//! On the machine of the README's figures, at the state of 0.1.0:
//!
//! | | |
//! |---|---|
//! | lives | 1,000,000 seeds, none of which breaks a rule (1,360 a second, beside other work) |
//! | executions of the fuzz targets | more than 102,000,000: 62,600,000 of `address`, 31,200,000 of `egress`, 3,500,000 of `inputs`, 2,000,000 each of `lives` and `pairs`, 600,000 of `secure`, 400,000 of `upgrades`, 200,000 of `records`; no crash is open |
//! | schedules | 10,204,830 in 42 models, each waiting by poll(2) and by condition variable; every model complete up to 0, 1 or 2 preemptions, four of TLS not that far |
//! | faults made for real | 208 of 208 survived |
//! | injected errors | 1,799 at 34 calls, all survived; 5 more were given up by std before any code of the library's |
//! | soak | 1,000,000 lives in plaintext, 100,000 over TLS and 10,000 upgrades, each after a warm-up of a tenth: no more descriptors or threads, and 20, 60 and 12 KiB more memory |
//! | coverage of `src/machine` | 97.0 % of lines, 92.4 % of branches |
//! | mutants of the states, the race and the egress rules | all of them: of 377 that built 343 were caught by the tests of the library alone, four of these by a time limit; by now all are caught by one test or another, but for those that change nothing: the switch of a planted bug, and shortcuts on the common way, behind which the long way leads to the same |
//! | miri, address and thread sanitizer | no report: by the thread sanitizer, std included, of 160 tests of the library and 790 of the crate; by the address sanitizer of the former |
//!
//! # What it found
//!
//! Each was mended together with a test, a seed or a model that fails without the mending.
//!
//! | What was wrong | Found by |
//! |---|---|
//! | a writer that came while an upgrade was under way was not told that the upgrade came to nothing, and would have waited for ever | the simulator, `SIM_SEED=661` |
//! | `start` in a handshake gave outputs when called again | the simulator, `SIM_SEED=124` |
//! | over TLS, `attend` gave a pass that was withdrawn at once, once reading was cancelled: whoever drives a machine by its documentation would have spun | the simulator, `SIM_SEED=45` |
//! | bytes that are no TLS, behind a ServerHello, were explained by a port that expects plaintext | the fuzz target `records`, whose corpus keeps it |
//! | an upgraded socket that ended before the loop had adopted it was kept in memory for good | schedules, `a_close_and_an_upgrade_leave_nothing_behind` |
//! | a caller that found the wire ready, while another one had the right to receive or to send, asked again and again until that one was done | schedules, `threads_that_wait_for_a_handshake_make_it_among_them` and its neighbours |
//! | a look for the peer's end that was interrupted was taken for one that found nothing | the sweep: EINTR at recvfrom |
//! | poll(2) that failed with EAGAIN ended the connection | the sweep: EAGAIN at ppoll |
//! | a read that was blocked went on waiting where a write had failed alone | the sweep: EMFILE at sendto |
//! | a socket that could not be watched for want of memory was never watched again, and its end not noticed | the sweep: ENOMEM at epoll_ctl |
//! | a failed look-up whose cause was `Interrupted` made `write_all` call again for ever | faults: a resolver's own error |
//! | a read that waited by condition variable took what came after `close()` | a hundred rounds of one test, on a busy core |
//! | where a link went down, one was told of a reset and not of the loss: each of two threads waited for what the other had heard, or nobody knew that the loop was asking | faults: `link-down/open-tls`, `link-down/peer-ended`, now and then |
//! | over TLS, `health` called an end clean that was none, in the moment in which the loop took it in | a pool of a thousand connections, once in 150 runs |
