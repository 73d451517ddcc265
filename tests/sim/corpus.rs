//! Runs the fuzz targets over their corpora.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

#[test]
fn every_file_of_every_corpus_passes() {
    crate::silence_rustls_panics();
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let folder = corpora.join(name);
        let mut files = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = entry.expect("it stays readable").path();
            let bytes = fs::read(&path).expect("it stays readable");
            println!("{}", path.display());
            target(&bytes);
            files += 1;
        }
        assert!(files > 0, "no corpus of {name}");
    }
    let folders = fs::read_dir(&corpora).expect("there are corpora").count();
    assert_eq!(folders, targets::TARGETS.len(), "a corpus has no target");
}
