//! Every command's help ends with one or two examples, which work.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::arguments::COMMANDS;
use crate::batch::csv;
use crate::sandbox::{Run, didit, in_sandbox};
use crate::support::directory::Directory;

/// Returns the arguments that select each command, and none for `didit` itself.
fn commands() -> impl Iterator<Item = Vec<&'static str>> {
    COMMANDS.iter().map(|(command, _)| vec![*command]).chain([vec![]])
}

/// Returns the end of a command's help: the examples, as a script.
fn examples(command: &[&str]) -> String {
    let help = Run::of(&mut didit(&[command, &["--help"]].concat())).exits(0).out;
    let (_, examples) = help.split_once("\n\nExamples:\n").expect(&help);
    assert!(examples.lines().all(|line| line.starts_with("  ")), "{help}");
    let count = examples.matches("\n  didit ").count() + 1;
    assert!(examples.starts_with("  didit ") && count <= 2, "{help}");
    examples.into()
}

#[test]
fn the_examples_in_the_help_work() {
    for command in commands() {
        let directory = Directory::new();
        directory.file("decisions.csv", csv(3));
        fs::create_dir_all(directory.path(".local/share/bash-completion/completions")).unwrap();
        for program in ["npm", "pytest", "man"] {
            let file = directory.file(program, "#!/bin/sh\ndidit auth\n");
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let home = directory.path("");
        let mut shell = in_sandbox(&[], &["sh", "-ec", &examples(&command)]);
        shell.env("PATH", format!("{home}:{}", env::var("PATH").unwrap()));
        Run::of(shell.env("HOME", &home).current_dir(&home)).exits(0);
    }
}

#[test]
fn every_manual_page_ends_with_the_examples_of_the_help() {
    for command in commands() {
        let page = Run::of(&mut didit(&[&["man"], &command[..]].concat())).exits(0).out;
        let (_, last) = page.split_once(".SH EXAMPLES\n.nf\n").expect(&page);
        let plain = last
            .strip_suffix(".fi\n")
            .expect(&page)
            .replace("\\-", "-")
            .replace("\\e", "\\");
        assert_eq!(plain, examples(&command));
    }
}
