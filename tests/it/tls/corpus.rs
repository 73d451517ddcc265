//! Files with certificates, keys and revocation lists as people have them. `tests/corpus/make` makes them, and
//! `tests/corpus/expected.txt` lists what each call makes of each file.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::fs;
use std::path::PathBuf;

use sockeye::{ErrorKind, Identity, TlsOptions};

use crate::support::tls::provider;

/// Files that are no part of the corpus.
const OTHERS: [&str; 2] = ["make", "expected.txt"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder()).expect("the repository has the folder");
    entries
        .map(|entry| {
            let entry = entry.expect("the folder stays");
            let name = entry.file_name().into_string().expect("the names are ASCII");
            (name, fs::read(entry.path()).expect("it is a file"))
        })
        .filter(|(name, _)| !OTHERS.contains(&&**name))
        .collect()
}

/// Every call on every file, in the order of the table.
fn table(corpus: &BTreeMap<String, Vec<u8>>) -> String {
    let mut table = String::from(
        "# What each call makes of each file: the number of certificates or lists, or the message.\n\
         # An identity is made of the files NAME.crt and NAME.key if both exist. Otherwise a file is both itself,\n\
         # but a text-NAME.crt goes with openssl-ecparam.key, and a NAME.key with openssl-ca.crt.\n\
         # UPDATE_EXPECT=1 cargo test --test it tls::corpus\n",
    );
    for (name, content) in corpus {
        // Writing to a string does not fail.
        let _ = write!(table, "\n{name}\n");
        let options = TlsOptions::new;
        for (call, result) in [
            ("add_root_pem", counted(options().add_root_pem(content), "added_roots")),
            ("trust_only_pem", counted(options().trust_only_pem(content), "trusted_only")),
            ("add_crl_pem", counted(options().add_crl_pem(content), "revocation_lists")),
            ("identity", identity(name, corpus)),
        ] {
            let result = match result {
                Ok(count) => count.to_string(),
                Err(message) => message,
            };
            let _ = writeln!(table, "    {call}: {result}");
        }
    }
    table
}

/// Returns the number that `Debug` prints for a field, or the error's message.
fn counted(result: Result<impl Debug, sockeye::Error>, field: &str) -> Result<usize, String> {
    let value = result.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        error.to_string()
    })?;
    let shown = format!("{value:?}");
    let (_, after) = shown.split_once(&format!("{field}: ")).expect("`Debug` prints the field");
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse().expect("it is a number"))
}

/// Makes an identity of a file and its counterpart, in both ways that there are.
fn identity(name: &str, corpus: &BTreeMap<String, Vec<u8>>) -> Result<usize, String> {
    let beside = |end: &str| {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        corpus.get(&format!("{stem}.{end}"))
    };
    let content = &corpus[name];
    let (chain, key) = if name.ends_with(".key") {
        (beside("crt").unwrap_or(&corpus["openssl-ca.crt"]), content)
    } else if name.starts_with("text-") {
        (content, &corpus["openssl-ecparam.key"])
    } else {
        (content, beside("key").unwrap_or(content))
    };
    let result = counted(Identity::from_pem(chain, key), "certificates");
    let as_client = TlsOptions::new().client_auth_pem(chain, key).map(drop);
    let as_client = as_client.map_err(|error| error.to_string());
    let expected = result.clone().map(drop).map_err(|message| {
        message.replace(
            "does not belong to certificate 1",
            "does not belong to the client certificate",
        )
    });
    assert_eq!(as_client, expected, "{name}: client_auth_pem");
    result
}

#[test]
fn every_file_is_read_or_refused_with_its_own_message() {
    provider();
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{} files", corpus.len());
    let (path, found) = (folder().join("expected.txt"), table(&corpus));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, found).expect("the folder is writable");
        return;
    }
    let expected = fs::read_to_string(path).expect("the repository has the file");
    let (found, expected) = (blocks(&found), blocks(&expected));
    for name in expected.keys().chain(found.keys()) {
        let (found, expected) = (found.get(name), expected.get(name));
        assert!(found.is_some(), "{name} is in the table, but there is no file");
        assert_eq!(found, expected, "{name}: `UPDATE_EXPECT=1` accepts an intended change");
    }
}

/// Returns the lines about each file.
fn blocks(table: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut blocks = BTreeMap::new();
    for block in table.split("\n\n").skip(1) {
        let (name, lines) = block.split_once('\n').expect("lines follow a name");
        let previous = blocks.insert(name, lines.lines().collect());
        assert!(previous.is_none(), "{name} is in the table twice");
    }
    blocks
}

/// Counts the sections without the crate's own reader. So no section is passed over in silence.
#[test]
fn every_certificate_and_list_counts() {
    provider();
    let mut counted_files = 0;
    for (name, content) in corpus() {
        let text = String::from_utf8_lossy(&content).to_ascii_uppercase();
        let begins = |end: &str| {
            let labels = text.split("BEGIN ").skip(1);
            labels
                .filter(|label| label.split(['-', '–']).next().unwrap_or("").trim() == end)
                .count()
        };
        let certificates: usize =
            ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"].map(begins).iter().sum();
        let options = TlsOptions::new;
        for (result, sections) in [
            (counted(options().add_root_pem(&content), "added_roots"), certificates),
            (counted(options().trust_only_pem(&content), "trusted_only"), certificates),
            (counted(options().add_crl_pem(&content), "revocation_lists"), begins("X509 CRL")),
        ] {
            if let Ok(count) = result {
                assert_eq!(count, sections, "{name}");
                assert!(count > 0, "{name}");
                counted_files += 1;
            }
        }
    }
    assert!(counted_files >= 60, "{counted_files} calls");
}
