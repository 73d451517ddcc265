//! Writes the summary to BENCHMARKING.md.

use std::io;
use std::path::Path;

/// A run replaces the text between these two lines of BENCHMARKING.md.
const BEGIN: &str = "<!-- results: begin -->\n";
const END: &str = "<!-- results: end -->\n";

pub fn write(summary: &str) -> io::Result<()> {
    let project =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the workspace");
    let path = project.join("BENCHMARKING.md");
    let page = std::fs::read_to_string(&path)?;
    let section = format!("\n{summary}\n");
    let Some(page) = with_section(&page, &section) else {
        return Err(io::Error::other(
            "BENCHMARKING.md lacks the two lines that enclose the results",
        ));
    };
    std::fs::write(path, page)
}

/// Returns `text` with `section` between the two lines.
fn with_section(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{section}{END}{after}"))
}
