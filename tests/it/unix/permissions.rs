//! The permissions of a path: when they exist, and what a client without them sees.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sockeye::{ErrorKind, ListenOptions, SocketOptions, Step, connect_unix, listen_unix};

use super::{Folder, uid};
use crate::support::subprocess::{TestProcess, child_part, run_part};
use crate::support::{WATCHDOG, skip};

/// On Linux no client can connect by wider permissions at any moment, even if the umask removes none.
#[test]
#[cfg(target_os = "linux")]
fn a_path_never_has_more_permissions_than_the_options_say() {
    const ROUNDS: usize = 400;
    let name = "unix::permissions::a_path_never_has_more_permissions_than_the_options_say";
    if child_part().is_none() {
        return with_umask(name, "0").expect_success(WATCHDOG);
    }
    run_part(|| {
        let folder = Folder::new();
        let control = folder.path("control");
        let _control = UnixListener::bind(&control).expect("it is free");
        let mode =
            |path: &std::path::Path| path.metadata().map(|it| it.permissions().mode() & 0o777);
        assert_eq!(mode(&control).expect("it exists"), 0o777, "the umask removes none");
        let (path, over) = (folder.path("s"), AtomicBool::new(false));
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut seen = 0;
                while !over.load(Ordering::Relaxed) {
                    if let Ok(found) = mode(&path) {
                        assert_eq!(found, 0o600, "a client could have connected");
                        seen += 1;
                    }
                }
                seen
            });
            for _ in 0..ROUNDS {
                let options = ListenOptions::new().unix_mode(0o600);
                let listener = listen_unix(folder.address("s"), options).expect("it is free");
                listener.close();
                listener.closed().expect("it was closed");
            }
            over.store(true, Ordering::Relaxed);
            assert!(watching.join().expect("it was never wider") > 0);
        });
    });
}

/// With a umask of 777, the permissions that it has removed are added after bind(2).
#[test]
fn the_permissions_are_those_of_the_options_whatever_the_umask_is() {
    let name = "unix::permissions::the_permissions_are_those_of_the_options_whatever_the_umask_is";
    if child_part().is_none() {
        for umask in ["0", "022", "077", "777"] {
            with_umask(name, umask).expect_success(WATCHDOG);
        }
        return;
    }
    run_part(|| {
        let folder = Folder::new();
        // It has been made with the umask.
        let usable = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&folder.0, usable).expect("it is this user's");
        let umask: u32 =
            child_part().and_then(|umask| u32::from_str_radix(&umask, 8).ok()).unwrap();
        drop(UnixListener::bind(folder.path("control")).expect("it is free"));
        let mode = |name: &str| {
            let metadata = folder.path(name).metadata().expect("it exists");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode("control"), 0o777 & !umask);
        for wanted in [0o600, 0o660, 0o666, 0o777, 0o700, 0] {
            let name = format!("{wanted:o}");
            let options = ListenOptions::new().unix_mode(wanted);
            let _listener = listen_unix(folder.address(&name), options).expect("it is free");
            assert_eq!(mode(&name), wanted);
        }
    });
}

/// Starts this process's test again with another umask, which is also the part.
fn with_umask(name: &str, umask: &str) -> TestProcess {
    let mut command = Command::new("/bin/sh");
    let binary = std::env::current_exe().expect("the system knows it");
    command.args(["-c", "umask \"$0\" && exec \"$@\"", umask]).arg(binary);
    TestProcess::start(name, umask, command)
}

#[test]
fn a_path_that_the_user_may_not_open_is_a_failed_connect_with_the_path() {
    let name =
        "unix::permissions::a_path_that_the_user_may_not_open_is_a_failed_connect_with_the_path";
    if child_part().is_none() && uid() == 0 {
        // The permissions do not concern root.
        const UNPRIVILEGED: u32 = 65_534;
        let binary = std::env::current_exe().expect("the system knows it");
        let unprivileged = || {
            let mut command = Command::new(&binary);
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
            command
        };
        if unprivileged().arg("--list").output().is_err() {
            skip(name, "an unprivileged user may not run the test's binary");
            return;
        }
        TestProcess::start(name, "unprivileged", unprivileged()).expect_success(WATCHDOG);
        return;
    }
    run_part(|| {
        let folder = Folder::new();
        let _listener = UnixListener::bind(folder.path("s")).expect("it is free");
        let none = std::fs::Permissions::from_mode(0o0);
        std::fs::set_permissions(folder.path("s"), none).expect("it is this user's");
        let socket = connect_unix(folder.address("s"), SocketOptions::new()).unwrap();
        let error = socket.opened().expect_err("no user may connect");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Connect, Some(Step::Connect)));
        let message = error.to_string();
        assert!(message.contains("unix:/") && message.contains("/s"), "{message}");
        let kind = std::io::Error::from(error).kind();
        assert_eq!(kind, std::io::ErrorKind::PermissionDenied, "{message}");
    });
}
