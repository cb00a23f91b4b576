//! What the command was asked to do: arguments in, plain data out.

use std::ffi::OsString;
use std::path::PathBuf;

use didit::{NewStatus, Node, SessionId};
use lexopt::{Arg, Parser};

use crate::batch::input::Format;
use crate::help;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    /// To be printed: help or the version.
    Special(String),
    Run(Command, Output),
}

#[derive(Debug, PartialEq)]
pub enum Command {
    Update(Update),
    Status(SessionId),
    Batch(Batch),
    Auth,
}

/// How results are told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
}

#[derive(Debug, PartialEq)]
pub struct Update {
    pub id: SessionId,
    pub status: NewStatus,
    pub comment: Option<String>,
    pub nodes: Vec<Node>,
    pub email: Option<String>,
    pub email_language: Option<String>,
    pub ensure: bool,
}

#[derive(Debug, PartialEq)]
pub struct Batch {
    /// `None` is stdin.
    pub file: Option<PathBuf>,
    pub format: Format,
    /// `None` only on a dry run.
    pub journal: Option<PathBuf>,
    pub rate: u32,
    pub jobs: u32,
    pub dry_run: bool,
}

const MAX_RATE: u32 = 10_000_000;
const MAX_JOBS: u32 = 64;

/// Reads the arguments, without the program's name.
///
/// # Errors
/// A line that names the option or argument. It never repeats a value: one may be a secret that was put there by mistake.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    let mut line = Line::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|error| told(&error))? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => line.help = true,
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Parsed::Special(
                    concat!("didit ", env!("CARGO_PKG_VERSION"), "\n").into(),
                ));
            }
            Arg::Long("json") => line.output.json = true,
            Arg::Short('q') | Arg::Long("quiet") => line.output.quiet = true,
            Arg::Short('v') | Arg::Long("verbose") => line.output.verbose = true,
            Arg::Value(word) if line.command.is_none() => line.command = Some(Name::parse(&word)?),
            Arg::Value(word) => line.words.push(word),
            Arg::Short(letter) => return Err(unknown_option(&format!("-{letter}"), line.command)),
            Arg::Long(name) => {
                let name = name.to_owned();
                line.option(&name, &mut parser)?;
            }
        }
    }
    line.finish()
}

fn told(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option}: it takes no value"),
        lexopt::Error::MissingValue { option: Some(option) } => format!("{option}: a value is missing"),
        _ => "these arguments cannot be understood".into(),
    }
}

fn unknown_option(option: &str, command: Option<Name>) -> String {
    let command = command.map_or(String::new(), |name| format!(" {}", name.as_str()));
    format!("{option}: no such option; see `didit{command} --help`. Credentials are taken from the environment only")
}

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Update,
    Status,
    Batch,
    Auth,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Name::Update => "update",
            Name::Status => "status",
            Name::Batch => "batch",
            Name::Auth => "auth",
        }
    }

    fn parse(word: &OsString) -> Result<Name, String> {
        [Name::Update, Name::Status, Name::Batch, Name::Auth]
            .into_iter()
            .find(|name| word == name.as_str())
            .ok_or_else(|| "the first argument has to be update, status, batch or auth; see `didit --help`".into())
    }
}

/// What has been read of the line, not yet checked as a whole.
#[derive(Default)]
struct Line {
    command: Option<Name>,
    help: bool,
    output: Output,
    words: Vec<OsString>,
    comment: Option<String>,
    nodes: Vec<Node>,
    email: Option<String>,
    email_language: Option<String>,
    ensure: bool,
    format: Option<Format>,
    journal: Option<PathBuf>,
    rate: Option<u32>,
    jobs: Option<u32>,
    dry_run: bool,
}

impl Line {
    fn option(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        let option = format!("--{name}");
        let mut value = || {
            let value = parser.value().map_err(|error| told(&error))?;
            value
                .into_string()
                .map_err(|_| format!("{option}: the value is not UTF-8"))
        };
        let of_update = matches!(self.command, None | Some(Name::Update));
        let of_batch = matches!(self.command, None | Some(Name::Batch));
        match name {
            "comment" if of_update => self.comment = Some(value()?),
            "node" if of_update => self
                .nodes
                .push(node(&value()?).map_err(|problem| format!("{option}: {problem}"))?),
            "email" if of_update => self.email = Some(value()?),
            "email-language" if of_update => self.email_language = Some(value()?),
            "ensure" if of_update => self.ensure = true,
            "format" if of_batch => {
                self.format = Some(match value()?.as_str() {
                    "csv" => Format::Csv,
                    "ndjson" => Format::Ndjson,
                    _ => return Err(format!("{option}: it has to be csv or ndjson")),
                });
            }
            "journal" if of_batch => {
                self.journal = Some(parser.value().map_err(|error| told(&error))?.into());
            }
            "rate" if of_batch => self.rate = Some(within(&option, &value()?, MAX_RATE)?),
            "jobs" if of_batch => self.jobs = Some(within(&option, &value()?, MAX_JOBS)?),
            "dry-run" if of_batch => self.dry_run = true,
            _ => return Err(unknown_option(&option, self.command)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Parsed, String> {
        if self.help {
            let text = match self.command {
                None => help::DIDIT,
                Some(Name::Update) => help::UPDATE,
                Some(Name::Status) => help::STATUS,
                Some(Name::Batch) => help::BATCH,
                Some(Name::Auth) => help::AUTH,
            };
            return Ok(Parsed::Special(text.into()));
        }
        let output = self.output;
        let command = match self.command {
            None => return Err("a command is missing: update, status, batch or auth; see `didit --help`".into()),
            Some(Name::Update) => Command::Update(self.update()?),
            Some(Name::Status) => {
                self.no_batch_options("status")?;
                let [id] = exactly(self.words, "status", ["SESSION_ID"])?;
                Command::Status(session_id(id)?)
            }
            Some(Name::Batch) => Command::Batch(self.batch()?),
            Some(Name::Auth) => {
                self.no_batch_options("auth")?;
                let [] = exactly(self.words, "auth", [])?;
                Command::Auth
            }
        };
        Ok(Parsed::Run(command, output))
    }

    fn update(self) -> Result<Update, String> {
        self.no_batch_options("update")?;
        let [id, status] = exactly(self.words, "update", ["SESSION_ID", "STATUS"])?;
        let id = session_id(id)?;
        let status = status.into_string().ok().and_then(|word| word.parse().ok());
        let status = status.ok_or("STATUS: it has to be approved, declined or resubmitted")?;
        match status {
            NewStatus::Resubmitted if self.nodes.is_empty() => {
                return Err("resubmitted needs a step to repeat: --node NODE_ID:FEATURE".into());
            }
            NewStatus::Resubmitted => {}
            _ if self.nodes.is_empty() => {}
            _ => return Err("--node: it goes with resubmitted only".into()),
        }
        if self.email_language.is_some() && self.email.is_none() {
            return Err("--email-language: it goes with --email only".into());
        }
        Ok(Update {
            id,
            status,
            comment: self.comment,
            nodes: self.nodes,
            email: self.email,
            email_language: self.email_language,
            ensure: self.ensure,
        })
    }

    fn batch(self) -> Result<Batch, String> {
        self.no_update_options("batch")?;
        let [file] = exactly(self.words, "batch", ["FILE"])?;
        let file = (file != "-").then(|| PathBuf::from(file));
        let journal = self.journal.or_else(|| {
            let mut name = file.clone()?.into_os_string();
            name.push(".journal");
            Some(name.into())
        });
        if journal.is_none() && !self.dry_run {
            return Err("--journal: it is needed when the rows come from standard input, to go on after a stop".into());
        }
        let extension = file.as_ref().and_then(|file| file.extension());
        let by_name = match extension.and_then(|extension| extension.to_str()) {
            Some("ndjson" | "jsonl") => Format::Ndjson,
            _ => Format::Csv,
        };
        Ok(Batch {
            format: self.format.unwrap_or(by_name),
            file,
            journal,
            rate: self.rate.unwrap_or(300),
            jobs: self.jobs.unwrap_or(4),
            dry_run: self.dry_run,
        })
    }

    /// Options that came before the command's name are checked here.
    fn no_batch_options(&self, command: &str) -> Result<(), String> {
        let given = self.format.is_some() || self.journal.is_some() || self.rate.is_some() || self.jobs.is_some();
        if given || self.dry_run {
            return Err(format!(
                "{command} takes no option of batch; see `didit {command} --help`"
            ));
        }
        if command == "update" {
            Ok(())
        } else {
            self.no_update_options(command)
        }
    }

    fn no_update_options(&self, command: &str) -> Result<(), String> {
        let given = self.comment.is_some() || self.email.is_some() || self.email_language.is_some() || self.ensure;
        match given || !self.nodes.is_empty() {
            true => Err(format!(
                "{command} takes no option of update; see `didit {command} --help`"
            )),
            false => Ok(()),
        }
    }
}

fn exactly<const N: usize>(words: Vec<OsString>, command: &str, names: [&str; N]) -> Result<[OsString; N], String> {
    if let Some(missing) = names.get(words.len()) {
        return Err(format!("{missing} is missing; see `didit {command} --help`"));
    }
    words
        .try_into()
        .map_err(|_| format!("there are too many arguments; see `didit {command} --help`"))
}

fn session_id(word: OsString) -> Result<SessionId, String> {
    let word = word.into_string().map_err(|_| "SESSION_ID: not UTF-8")?;
    word.parse().map_err(|error| format!("SESSION_ID: {error}"))
}

fn within(option: &str, value: &str, max: u32) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("{option}: it has to be a whole number from 1 to {max}"))
}

/// `NODE_ID:FEATURE`.
pub fn node(text: &str) -> Result<Node, String> {
    match text.split_once(':') {
        Some((id, feature)) if !id.is_empty() && !feature.is_empty() => Ok(Node::new(id, feature)),
        _ => Err("a step has to be NODE_ID:FEATURE, such as feature_ocr_1:OCR".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Parsed, String> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    fn update(line: &str) -> Update {
        match run(line) {
            Ok(Parsed::Run(Command::Update(update), _)) => update,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn batch(line: &str) -> Batch {
        match run(line) {
            Ok(Parsed::Run(Command::Batch(batch), _)) => batch,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_option_may_stand_anywhere_and_the_last_one_wins() {
        let expected = update("update abc declined --comment two");
        assert_eq!(expected.comment.as_deref(), Some("two"));
        for line in [
            "update --comment=two abc declined",
            "--comment two update abc DECLINED",
            "update abc --comment one declined --comment two",
        ] {
            assert_eq!(update(line), expected, "{line}");
        }
        assert_eq!(update("update abc declined -- ").comment, None);
        assert_eq!(update("update -- -abc declined").id.as_ref(), "-abc");
    }

    #[test]
    fn nodes_add_up() {
        let update = update("update abc resubmitted --node a:OCR --node b:FACE:2");
        assert_eq!(update.nodes, [Node::new("a", "OCR"), Node::new("b", "FACE:2")]);
    }

    #[test]
    fn a_batch_has_defaults_that_follow_the_file() {
        let csv = batch("batch rows.csv");
        assert_eq!(
            (csv.format, csv.rate, csv.jobs, csv.dry_run),
            (Format::Csv, 300, 4, false)
        );
        assert_eq!(csv.journal, Some("rows.csv.journal".into()));
        assert_eq!(batch("batch rows.jsonl").format, Format::Ndjson);
        assert_eq!(batch("batch rows.jsonl --format csv").format, Format::Csv);
        let stdin = batch("batch - --journal j --format ndjson");
        assert_eq!((stdin.file, stdin.journal), (None, Some("j".into())));
        assert_eq!(batch("batch - --dry-run").journal, None);
    }

    #[test]
    fn every_mistake_names_its_option_and_repeats_no_value() {
        for (line, name) in [
            ("", "a command is missing"),
            ("hunter2", "update, status, batch or auth"),
            ("update", "SESSION_ID"),
            ("update abc", "STATUS"),
            ("update abc hunter2", "STATUS"),
            ("update ../hunter2 approved", "SESSION_ID"),
            ("update abc approved hunter2", "too many arguments"),
            ("update abc approved --comment", "--comment"),
            ("update abc approved --node hunter2", "--node"),
            ("update abc approved --node a:b", "--node"),
            ("update abc resubmitted", "--node"),
            ("update abc approved --email-language en", "--email-language"),
            ("update abc approved --ensure=hunter2", "--ensure"),
            ("update abc approved --api-key=hunter2", "--api-key"),
            ("update abc approved --rate 3", "--rate"),
            ("--rate 3 update abc approved", "option of batch"),
            ("update abc approved -x", "-x"),
            ("--comment hunter2 status abc", "option of update"),
            ("status", "SESSION_ID"),
            ("auth hunter2", "too many arguments"),
            ("batch", "FILE"),
            ("batch -", "--journal"),
            ("batch a.csv --rate 0", "--rate"),
            ("batch a.csv --rate hunter2", "--rate"),
            ("batch a.csv --jobs 65", "--jobs"),
            ("batch a.csv --format hunter2", "--format"),
            ("batch a.csv --comment hunter2", "--comment"),
        ] {
            let problem = run(line).unwrap_err();
            assert!(problem.contains(name), "{line}: {problem}");
            assert!(!problem.contains("hunter2"), "{line}: {problem}");
            assert!(!problem.contains('\n'), "{line}: {problem}");
        }
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        for line in [
            "--help",
            "-h",
            "update --help",
            "status abc --help",
            "batch --help",
            "auth -h",
            "--version",
            "-V",
        ] {
            assert!(matches!(run(line), Ok(Parsed::Special(_))), "{line}");
        }
    }
}
