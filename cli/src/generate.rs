//! Generates shell completions and manual pages from the definition of the command line.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::exit::Exit;
use crate::terminal::print_all;

pub fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "didit", &mut script);
    print_all(&String::from_utf8_lossy(&script))
}

/// Prints the manual page of one command, or of `didit` itself.
pub fn man(command: Option<&str>) -> Exit {
    let mut didit = Args::command().disable_help_subcommand(true);
    didit.build();
    let command = command.and_then(|name| didit.find_subcommand(name)).unwrap_or(&didit);
    print_all(&page(command))
}

fn page(command: &clap::Command) -> String {
    let help = command.get_after_help().map_or(String::new(), ToString::to_string);
    // clap_mangen would join the lines of the tables.
    let man = Man::new(command.clone().after_help(None::<&str>))
        .source(concat!("didit ", env!("CARGO_PKG_VERSION")))
        .manual("didit");
    let (prose, tables): (Vec<_>, Vec<_>) = help
        .split("\n\n")
        .map(section)
        .partition(|text| text.starts_with(".PP"));
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| page.write_all(prose.concat().as_bytes()))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut page),
            false => Ok(()),
        })
        .and_then(|()| page.write_all(tables.concat().as_bytes()));
    debug_assert!(rendered.is_ok(), "writing to memory does not fail");
    String::from_utf8_lossy(&page).into_owned()
}

/// Formats a paragraph of a help text: a table under its title, or prose.
fn section(paragraph: &str) -> String {
    let text = paragraph.replace('\\', "\\e").replace('-', "\\-");
    match text.split_once(":\n  ") {
        Some((title, table)) => format!(".SH {}\n.nf\n  {table}\n.fi\n", title.to_uppercase()),
        None => format!(".PP\n{text}\n"),
    }
}
