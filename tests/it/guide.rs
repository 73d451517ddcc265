//! The guide names tests that prove its claims; these tests exist.

use std::path::Path;

#[test]
fn every_test_that_the_comparison_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("src/guide/from_node_go_std.rs");
    let page = std::fs::read_to_string(page).expect("the file exists");
    let names = page.split("<br>`").skip(1);
    let names: Vec<&str> = names.filter_map(|rest| rest.split('`').next()).collect();
    assert!(names.len() > 40, "found only {names:?}");
    let missing: Vec<_> = names.into_iter().filter(|name| !is_test(root, name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Checks whether a test of this path exists in the file of its modules.
fn is_test(root: &Path, name: &str) -> bool {
    let (modules, function) = name.rsplit_once("::").expect("tests are in modules");
    // The last module may be inside the file of the one before it.
    let within = modules.rsplit_once("::").map(|(outer, _)| (outer, "    "));
    [Some((modules, "")), within].into_iter().flatten().any(|(file, indent)| {
        let file = root.join("tests/it").join(format!("{}.rs", file.replace("::", "/")));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains(&format!("{indent}#[test]\n{indent}fn {function}() {{"))
    })
}
