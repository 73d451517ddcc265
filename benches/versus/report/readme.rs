//! Puts the summary and the chart where readers of the project find them.

use std::io;
use std::path::Path;

/// Between these two lines of the README stands what a run writes.
const BEGIN: &str = "<!-- cargo bench -- --readme: begin -->\n";
const END: &str = "<!-- cargo bench -- --readme: end -->\n";

const CHART: &str = "benches/results.svg";

pub fn write(summary: &str, chart: &str) -> io::Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = project.join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let section = format!(
        "\n{summary}\n![Beside the reference, by workload: how many times as good]({CHART})\n\n"
    );
    let Some(readme) = with_section(&readme, &section) else {
        return Err(io::Error::other("the README has not the two lines between which this goes"));
    };
    std::fs::write(project.join(CHART), chart)?;
    std::fs::write(path, readme)
}

/// `text` with `section` between the two lines.
fn with_section(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{section}{END}{after}"))
}
