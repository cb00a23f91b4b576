//! Compares docs/messages.md with the messages of the code. Each test program checks its own part of the page.

use std::fs;
use std::path::Path;

use super::words;

/// Causes, each with its message of one or more lines.
pub type Rows = Vec<(&'static str, String)>;

/// Fails unless the page has this part, which begins with `title`.
pub fn compare(title: &str, introduction: &str, sections: Vec<(&str, Rows)>) {
    let mut part = format!("# {title}\n\n{introduction}\n");
    for (title, rows) in sections {
        part += &format!("\n## {title}\n\n");
        for (cause, message) in rows {
            part += &format!("- {cause}:\n");
            for line in words::as_on_linux(&message).lines() {
                let quotes = if line.contains('`') { ["`` ", " ``"] } else { ["`", "`"] };
                part += &format!("  {}{line}{}\n", quotes[0], quotes[1]);
            }
        }
    }
    // The command's crate is in a directory of the library's.
    let directories = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut pages = directories.filter_map(|directory| fs::read_to_string(directory.join("docs/messages.md")).ok());
    let page = pages.next().expect("docs/messages.md");
    let mut parts = page.split("\n# ").map(|part| part.trim_start_matches("# ").trim_end());
    if !parts.any(|documented| documented == part[2..].trim_end()) {
        let path = concat!(
            env!("CARGO_TARGET_TMPDIR"),
            "/messages-",
            env!("CARGO_CRATE_NAME"),
            ".md"
        );
        fs::write(path, &part).unwrap();
        panic!("docs/messages.md differs under {title:?}: the new text is in {path}");
    }
}
