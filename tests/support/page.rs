//! docs/messages.md: causes, and what is said of them. Each test program holds its own part of the page to the code.

use std::fs;
use std::path::Path;

/// Causes, and the messages that they lead to, of a line or more.
pub type Rows = Vec<(&'static str, String)>;

/// Compares the part of the page that begins with this title.
pub fn compare(title: &str, introduction: &str, sections: Vec<(&str, Rows)>) {
    let mut said = format!("# {title}\n\n{introduction}\n");
    for (title, rows) in sections {
        said += &format!("\n## {title}\n\n");
        for (cause, message) in rows {
            said += &format!("- {cause}:\n");
            for line in message.lines() {
                let quotes = if line.contains('`') { ["`` ", " ``"] } else { ["`", "`"] };
                said += &format!("  {}{line}{}\n", quotes[0], quotes[1]);
            }
        }
    }
    // The command's crate is a folder of the library's.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut pages = folders.filter_map(|folder| fs::read_to_string(folder.join("docs/messages.md")).ok());
    let page = pages.next().expect("docs/messages.md");
    let mut parts = page.split("\n# ").map(|part| part.trim_start_matches("# ").trim_end());
    if !parts.any(|part| part == said[2..].trim_end()) {
        let path = concat!(
            env!("CARGO_TARGET_TMPDIR"),
            "/messages-",
            env!("CARGO_CRATE_NAME"),
            ".md"
        );
        fs::write(path, &said).unwrap();
        panic!("docs/messages.md has other words under {title:?}; what is said is in {path}");
    }
}
