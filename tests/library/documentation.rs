//! README.md and the crate's documentation agree, and the README's links work.

#[test]
fn the_readme_and_the_crate_documentation_have_the_same_verdict_table() {
    let table = |text: &str| {
        let lines = text.lines().map(|line| line.trim_start_matches("//!").trim());
        let rows = lines.skip_while(|line| !line.starts_with("| what happened"));
        rows.take_while(|line| line.starts_with('|'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let readme = table(include_str!("../../README.md"));
    assert!(readme.len() > 10, "{readme:?}");
    assert_eq!(readme, table(include_str!("../../src/lib.rs")));
}

#[test]
fn every_local_link_in_the_readme_has_a_target() {
    let readme = include_str!("../../README.md");
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files: Vec<_> = targets.filter(|target| !target.contains("://")).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let heading = |name: &str| {
            readme
                .lines()
                .any(|line| line.to_lowercase().replace(' ', "-").trim_start_matches('#') == format!("-{name}"))
        };
        let exists = file.strip_prefix('#').map_or_else(|| path.exists(), heading);
        assert!(exists, "{file}");
    }
}
