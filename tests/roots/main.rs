//! The same certificates under every set of roots: each has the same outcome and message. The system's roots come from
//! `SSL_CERT_FILE` or `SSL_CERT_DIR`, so each client is a process of its own. curl gives the same verdicts.
#![cfg(unix)]

#[allow(dead_code, reason = "other tests need the rest")]
#[path = "../it/support/tls/authority.rs"]
mod authority;
mod curl;
mod server;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sockeye::{RevocationPolicy, Roots, SecureTransport, SocketOptions, TlsOptions};

use authority::{Authority, CertSpec, Identity};
use server::Server;

/// The longest time that a client may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

// -------------------------------------------------------------------- the client

const ROOTS: &str = "SOCKEYE_ROOTS";
const ADDRESS: &str = "SOCKEYE_ADDRESS";
const ADDED: &str = "SOCKEYE_ADDED";
const LISTS: &str = "SOCKEYE_LISTS";

/// Before the outcome, which the client prints.
const OUTCOME: &str = "outcome: ";

/// A base set of roots, and where the one root of a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    WebPki,
    OnlyAdded,
    Native(Variable),
    Platform(Variable),
    /// The roots of the system without the root of the test, which is added.
    NativeAndAdded,
    PlatformAndAdded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    File,
    Folder,
    /// A folder among others, as `openssl rehash` leaves it.
    Folders,
    Both,
}

const BASES: [Base; 12] = [
    Base::WebPki,
    Base::OnlyAdded,
    Base::Native(Variable::File),
    Base::Native(Variable::Folder),
    Base::Native(Variable::Folders),
    Base::Native(Variable::Both),
    Base::Platform(Variable::File),
    Base::Platform(Variable::Folder),
    Base::Platform(Variable::Folders),
    Base::Platform(Variable::Both),
    Base::NativeAndAdded,
    Base::PlatformAndAdded,
];

impl Base {
    fn name(self) -> &'static str {
        match self {
            Base::WebPki => "WebPki",
            Base::OnlyAdded => "OnlyAdded",
            Base::Native(_) | Base::NativeAndAdded => "Native",
            Base::Platform(_) | Base::PlatformAndAdded => "Platform",
        }
    }

    fn variable(self) -> Option<Variable> {
        match self {
            Base::Native(variable) | Base::Platform(variable) => Some(variable),
            Base::WebPki | Base::OnlyAdded | Base::NativeAndAdded | Base::PlatformAndAdded => None,
        }
    }
}

/// The client, in its own process: connects once and prints the outcome.
#[test]
#[ignore = "the other tests start it"]
fn client() {
    let text = |name| fs::read(env::var_os(name).expect("it is set")).expect("the file exists");
    let roots = match env::var(ROOTS).expect("it is set").as_str() {
        "WebPki" => Roots::WebPki,
        "OnlyAdded" => Roots::OnlyAdded,
        "Native" => Roots::Native,
        "Platform" => Roots::Platform,
        other => panic!("unexpected roots: {other}"),
    };
    let mut tls = TlsOptions::new().roots(roots).server_name("localhost");
    if env::var_os(ADDED).is_some() {
        tls = tls.add_root_pem(text(ADDED)).expect("it is a root");
    }
    if env::var_os(LISTS).is_some() {
        tls = tls.add_crl_pem(text(LISTS)).expect("it is a list");
        tls = tls.revocation(RevocationPolicy::Leaf);
    }
    let options =
        SocketOptions::new().secure_transport(SecureTransport::On).tls(tls).connect_timeout(LIMIT);
    let address = env::var(ADDRESS).expect("it is set");
    let outcome = sockeye::connect_with(address, options).and_then(|socket| {
        socket.opened()?;
        socket.close()
    });
    match outcome {
        Ok(()) => println!("\n{OUTCOME}accepted"),
        Err(error) => println!("\n{OUTCOME}{:?}: {error}", error.kind()),
    }
}

/// Starts a client with these variables, and no others that name roots. Returns its outcome.
fn outcome(roots: &str, server: &Server, variables: &[(&str, OsString)]) -> String {
    let mut client = Command::new(env::current_exe().expect("the system reports the path"));
    client.args(["client", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", ADDED, LISTS] {
        client.env_remove(name);
    }
    client.env(ROOTS, roots).env(ADDRESS, server.address().to_string());
    client.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = client.stdin(Stdio::null()).output().expect("the test binary can be started");
    let printed = String::from_utf8(output.stdout).expect("it is UTF-8");
    let found = printed.lines().find_map(|line| line.strip_prefix(OUTCOME));
    let Some(found) = found else {
        panic!("no outcome: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    // Both clocks run.
    match found.split_once(", and this system's clock says ") {
        Some((found, _)) => found.to_owned(),
        None => found.to_owned(),
    }
}

// -------------------------------------------------------------------- files

/// A folder that is removed when the value is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("sockeye-roots-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the folder is new");
        Scratch(path)
    }

    /// Writes a file, and the folders that lead to it. Returns its path.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it is writable");
        fs::write(&path, content).expect("the folder is writable");
        path
    }

    /// Returns the variables of a client that finds this root by `base`.
    fn variables(&self, root: &str, base: Base) -> Vec<(&'static str, OsString)> {
        let other = Authority::new().pem();
        let file = |name| self.write(name, root).into_os_string();
        let folder = |name| {
            let path = self.write(&format!("{name}/root.pem"), root);
            path.parent().expect("it is in a folder").as_os_str().to_owned()
        };
        match base.variable() {
            None => vec![(ADDED, file("added.pem"))],
            Some(Variable::File) => vec![("SSL_CERT_FILE", file("file.pem"))],
            Some(Variable::Folder) => vec![("SSL_CERT_DIR", folder("folder"))],
            Some(Variable::Folders) => {
                let path = folder("rehashed");
                let linked = PathBuf::from(&path).join("01234567.0");
                // It is there already if this folder was used before.
                let _ = std::os::unix::fs::symlink("root.pem", linked);
                let _ = std::os::unix::fs::symlink("gone.pem", PathBuf::from(&path).join("gone.0"));
                self.write("rehashed/README", "The certificates of this folder.");
                self.write("rehashed/key.pem", Authority::new().identity().key_pem());
                self.write("others/other.pem", &other);
                let folders = [self.0.join("others"), PathBuf::from(path)];
                vec![("SSL_CERT_DIR", env::join_paths(folders).expect("no colon is in them"))]
            }
            Some(Variable::Both) => {
                vec![
                    ("SSL_CERT_FILE", self.write("other.pem", &other).into_os_string()),
                    ("SSL_CERT_DIR", folder("folder")),
                ]
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// -------------------------------------------------------------------- the matrix

/// A certificate for `localhost`, a part of the message about it, and whether curl agrees.
struct Case {
    name: &'static str,
    identity: Identity,
    /// `None` if it is accepted.
    says: Option<&'static str>,
    curl_accepts: bool,
}

fn valid() -> CertSpec {
    CertSpec::new(&["localhost", "good.test"])
}

fn cases(root: &Authority) -> Vec<Case> {
    let case = |name, identity, says: Option<&'static str>| Case {
        name,
        identity,
        says,
        curl_accepts: says.is_none(),
    };
    let between = root.intermediate().intermediate();
    vec![
        case("good", root.issues(&valid()), None),
        case("good, with two intermediates", between.issues(&valid()), None),
        case("expired", root.issues(&valid().valid(2000, 2001)), Some("has expired")),
        case("not yet valid", root.issues(&valid().valid(3000, 3001)), Some("is not valid yet")),
        case(
            "another name",
            root.issues(&CertSpec::new(&["other.test"])),
            Some("is not for the name localhost but for other.test"),
        ),
        Case {
            // OpenSSL falls back to the common name, against RFC 9525, section 6.3.
            curl_accepts: true,
            ..case(
                "only a common name",
                root.issues(&CertSpec::common_name("localhost")),
                Some("it has no subjectAltName"),
            )
        },
        case("another use", root.client("localhost"), Some("is not meant for servers")),
        case("unknown authority", Authority::new().issues(&valid()), Some("not a trusted root")),
        case("self-signed", valid().self_signed(), Some("is self-signed")),
        case(
            "an intermediate is missing",
            root.intermediate().issues(&valid()).incomplete(),
            Some("leaves out an intermediate certificate"),
        ),
        case("the authority's own", root.identity(), Some("is an authority's (CA:TRUE)")),
    ]
}

#[test]
fn every_certificate_has_the_same_outcome_under_all_roots() {
    let (root, files) = (Authority::new(), Scratch::new());
    for case in cases(&root) {
        let server = Server::new(&case.identity);
        let mut first = None;
        for base in BASES {
            let variables = files.variables(&root.pem(), base);
            let found = outcome(base.name(), &server, &variables);
            match case.says {
                None => assert_eq!(found, "accepted", "{}, {base:?}", case.name),
                Some(says) => assert!(
                    found.starts_with("Tls: ") && found.contains(says),
                    "{}, {base:?}: {found}",
                    case.name
                ),
            }
            let first = first.get_or_insert_with(|| found.clone());
            assert_eq!(&found, first, "{}, {base:?}", case.name);
        }
    }
}

#[test]
fn curl_gives_the_same_verdicts_on_the_same_files() {
    let Some(curl) = curl::installed() else { return };
    let (root, files) = (Authority::new(), Scratch::new());
    for case in cases(&root) {
        let server = Server::new(&case.identity);
        for variable in [Variable::File, Variable::Folder] {
            // curl reads a folder by the hashes of names, which only OpenSSL computes.
            let variables = files.variables(&root.pem(), Base::Native(variable));
            if variable == Variable::Folder && !curl::rehash(&files.0.join("folder")) {
                continue;
            }
            let found = outcome("Native", &server, &variables);
            assert_eq!(found == "accepted", case.says.is_none(), "{}: {found}", case.name);
            let (accepts, printed) = curl.accepts(&server, &variables);
            assert_eq!(accepts, case.curl_accepts, "{}, {variable:?}: {printed}", case.name);
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused_under_all_roots_that_take_lists() {
    let (root, files) = (server::Revoking::new(), Scratch::new());
    let [good, revoked] = [1, 2].map(|serial| Server::with(&root.issue(serial, "localhost")));
    let list = files.write("list.pem", root.list(&[2])).into_os_string();
    for base in BASES {
        let mut variables = files.variables(&root.pem(), base);
        assert_eq!(outcome(base.name(), &revoked, &variables), "accepted", "{base:?}, no list");
        variables.push((LISTS, list.clone()));
        let outcomes = [&good, &revoked].map(|server| outcome(base.name(), server, &variables));
        match base {
            Base::Platform(_) | Base::PlatformAndAdded => {
                let says = "InvalidOptions: add_crl_pem can't be combined with Roots::Platform";
                assert_eq!(outcomes, [says; 2], "{base:?}");
            }
            _ => {
                let [good, revoked] = outcomes;
                assert_eq!(good, "accepted", "{base:?}");
                let says = "the server's certificate has been revoked";
                assert!(
                    revoked.starts_with("Tls: ") && revoked.ends_with(says),
                    "{base:?}: {revoked}"
                );
            }
        }
    }
}

// -------------------------------------------------------------------- roots that cannot be used

/// The variable and the path are named, and what is wrong with it.
#[test]
fn a_variable_that_names_no_root_is_an_error_that_says_so() {
    let (root, files) = (Authority::new(), Scratch::new());
    let good = files.write("good.pem", root.pem());
    let server = Server::new(&root.issues(&valid()));
    let broken = root.pem().replacen('M', "*", 1);
    let der = root.identity().chain()[0].to_vec();
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
    for (content, says) in [
        (&b""[..], "no certificate in the PEM text: it is empty"),
        (b"<html>", "no certificate in the PEM text: it is HTML or XML"),
        (&der, "no certificate in the PEM text: it is a certificate in DER"),
        (request.as_bytes(), "it holds a certificate request"),
        (broken.as_bytes(), "certificate 1 of the PEM text is broken: its base64 is malformed"),
        ((root.pem() + &broken).as_bytes(), "certificate 2 of the PEM text is broken"),
        (
            b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n",
            "has no certificate that can be a root",
        ),
    ] {
        let path = files.write("file.pem", content);
        refuses(&server, &[("SSL_CERT_FILE", path.clone())], &path, says);
    }
    let missing = files.0.join("missing.pem");
    refuses(&server, &[("SSL_CERT_FILE", missing.clone())], &missing, "No such file");
    refuses(&server, &[("SSL_CERT_FILE", files.0.clone())], &files.0, "directory");

    let missing = files.0.join("missing");
    refuses(&server, &[("SSL_CERT_DIR", missing.clone())], &missing, "No such file");
    refuses(&server, &[("SSL_CERT_DIR", good.clone())], &good, "Not a directory");
    let bare = files.write("bare/README", "No certificate is here.");
    let bare = bare.parent().expect("it is in a folder").to_owned();
    let none = "has no certificate that can be a root";
    refuses(&server, &[("SSL_CERT_DIR", bare.clone())], &bare, none);
    let path = files.write("one broken/b.pem", &broken);
    files.write("one broken/a.pem", root.pem());
    let folder = files.0.join("one broken");
    refuses(&server, &[("SSL_CERT_DIR", folder)], &path, "certificate 1 of the PEM text is broken");

    // A file that is in order does not make up for a folder that cannot be read.
    let both = [("SSL_CERT_FILE", good.clone()), ("SSL_CERT_DIR", missing.clone())];
    let last = "SSL_CERT_DIR names can't be used";
    refuses(&server, &both, &missing, last);
    let both = [("SSL_CERT_FILE", good.clone()), ("SSL_CERT_DIR", bare)];
    assert_eq!(outcome("Native", &server, &both.map(|(name, it)| (name, it.into()))), "accepted");
    // The environment counts for the system's roots only.
    let variables = [("SSL_CERT_FILE", missing.into_os_string()), (ADDED, good.into_os_string())];
    assert_eq!(outcome("WebPki", &server, &variables), "accepted");
    assert_eq!(outcome("OnlyAdded", &server, &variables), "accepted");
}

#[track_caller]
fn refuses(server: &Server, variables: &[(&str, PathBuf)], path: &std::path::Path, says: &str) {
    let given: Vec<_> =
        variables.iter().map(|(name, value)| (*name, value.clone().into_os_string())).collect();
    for roots in ["Native", "Platform"] {
        let found = outcome(roots, server, &given);
        let (variable, _) = variables.last().expect("there is one");
        for part in ["InvalidOptions: ", variable, &path.display().to_string(), says] {
            assert!(found.contains(part), "{roots}: {found}, not {part:?}");
        }
    }
}

/// A bundle as distributions have it: with comments, a certificate that no root can be, and sections with settings.
#[test]
fn a_bundle_is_read_as_openssl_reads_it() {
    let (root, files) = (Authority::new(), Scratch::new());
    let server = Server::new(&root.issues(&valid()));
    let odd = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    let trusted = root.pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    for bundle in [
        format!("# A comment\n{odd}\n=====\n{}", root.pem()),
        trusted,
        format!("\u{feff}{}", root.pem().replace('\n', "\r\n")),
    ] {
        let path = files.write("bundle.pem", &bundle).into_os_string();
        for roots in ["Native", "Platform"] {
            let found = outcome(roots, &server, &[("SSL_CERT_FILE", path.clone())]);
            assert_eq!(found, "accepted", "{bundle}");
        }
    }
}
