//! Parses the command line into plain data.

pub mod sandbox;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use didit::{NewStatus, Node, SessionId};

use crate::exit;
use values::{seconds, whole};

const ENVIRONMENT: &str = "\
Credentials come from the environment. No option takes a secret.

Environment:
  DIDIT_API_KEY                         an API key, or
  DIDIT_CLIENT_ID, DIDIT_CLIENT_SECRET  client credentials
  DIDIT_API_KEY_FILE,                   files that hold the key or the secret
  DIDIT_CLIENT_SECRET_FILE              instead of the variable
  DIDIT_API_VERSION                     v1, v2 or v3 (default: v3 with an API
                                        key, v1 with client credentials)
  DIDIT_BASE_URL                        the base URL, for sessions
                                        (https://verification.didit.me)
  DIDIT_AUTH_URL                        the auth URL, for access tokens
                                        (https://apx.didit.me)
  DIDIT_TIMEOUT                         seconds for one request (30)
  DIDIT_DEADLINE                        seconds for one call with all its
                                        attempts (120; no limit in batches)
  DIDIT_MAX_RETRIES                     retries for one call (2); batches have
                                        their own limit of ten
  DIDIT_TOKEN_FILE                      a file that caches the access token for
                                        the next run
  DIDIT_CA_FILE                         the certificates to trust, in PEM
                                        format, instead of the default ones
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY,   an HTTP proxy and its exceptions
  NO_PROXY";

const BATCH: &str = "\
FILE is CSV with a header line, or NDJSON with the same names. Commas,
semicolons or tabs separate the columns of a CSV.

Columns, in any order:
  session_id, new_status   required
  comment                  a comment for the review
  nodes                    the steps the person must repeat: NODE_ID:FEATURE,
                           separated by spaces, commas or semicolons; in
                           NDJSON a list of {\"node_id\": ..., \"feature\": ...}
  email, email_language    where to email the person, and in which language

A row that was certainly not applied is as if it had never been sent. A row that
may have been applied (in doubt) is read before anything else happens to it.

The batch checks the whole input before it sends anything. A journal records
each attempt and its result. After a crash or a kill, the same command resumes
the batch. Standard output lists the rows that are refused, left alone, unknown,
not applied or already Resubmitted. With --json, one line for each row, then a
summary.";

const SEE_ENVIRONMENT: &str = "Credentials come from the environment: see 'didit --help'.";

const EXAMPLES: &str = "\
Examples:
  didit sandbox -- didit update 4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10 declined
  didit batch decisions.csv --dry-run";

const UPDATE_EXAMPLES: &str = "\
Examples:
  didit update 4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10 declined \\
    --comment 'Duplicated user'
  didit update 4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10 resubmitted \\
    --node feature_ocr_1:OCR";

const STATUS_EXAMPLE: &str = "\
Examples:
  didit status 4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";

const BATCH_EXAMPLES: &str = "\
Examples:
  didit batch decisions.csv --dry-run
  didit batch decisions.csv";

const AUTH_EXAMPLE: &str = "\
Examples:
  didit auth && didit batch decisions.csv";

const COMPLETIONS_EXAMPLE: &str = "\
Examples:
  didit completions bash > ~/.local/share/bash-completion/completions/didit";

const MAN_EXAMPLE: &str = "\
Examples:
  didit man batch | man -l -";

/// Approve, decline or resubmit Didit identity-verification sessions
#[derive(Debug, Parser)]
#[command(name = "didit", bin_name = "didit", version)]
#[command(
    args_override_self = true,
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND"
)]
#[command(after_help = format!("{ENVIRONMENT}\n\n{}\n  A batch has others: see 'didit batch --help'.\n\n{EXAMPLES}", exit::help_for_update()))]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Approve, decline or resubmit one session
    #[command(after_help = format!("{SEE_ENVIRONMENT}\n\n{}\n\n{UPDATE_EXAMPLES}", exit::help_for_update()))]
    Update(Update),

    /// Print the status of one session
    #[command(after_help = format!("{SEE_ENVIRONMENT}\n\n{}\n\n{STATUS_EXAMPLE}", exit::help_for_status_and_auth()))]
    Status {
        /// The session to read
        #[arg(value_name = "SESSION_ID")]
        id: SessionId,
    },

    /// Approve, decline or resubmit many sessions from a CSV or NDJSON file
    #[command(after_help = format!("{BATCH}\n\n{SEE_ENVIRONMENT}\n\n{}\n\n{BATCH_EXAMPLES}", exit::help_for_batch()))]
    Batch(Batch),

    /// Check that Didit accepts the credentials, without changing anything
    #[command(after_help = format!("{SEE_ENVIRONMENT}\n\n{}\n\n{AUTH_EXAMPLE}", exit::help_for_status_and_auth()))]
    Auth,

    /// Run a command or a shell against a local mock of Didit
    #[command(after_help = sandbox::HELP)]
    Sandbox(sandbox::Options),

    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLE)]
    Completions {
        /// The shell that uses the script
        shell: clap_complete::Shell,
    },

    /// Print a manual page
    #[command(after_help = MAN_EXAMPLE)]
    Man {
        /// The command that the page describes; by default didit itself
        #[arg(value_parser = PossibleValuesParser::new(COMMANDS))]
        command: Option<String>,
    },
}

const COMMANDS: [&str; 7] = ["update", "status", "batch", "auth", "sandbox", "completions", "man"];

/// The options that control how results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::Args)]
pub struct Output {
    /// Print each result as a JSON object, one per line
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,

    /// Print no progress, summary or hints
    #[arg(short, long, global = true, display_order = 901)]
    pub quiet: bool,

    /// Log each request to standard error, without secrets
    #[arg(short, long, global = true, display_order = 902)]
    pub verbose: bool,
}

#[derive(Debug, PartialEq, clap::Args)]
pub struct Update {
    /// The session to update
    #[arg(value_name = "SESSION_ID", value_parser = session_id)]
    pub id: SessionId,

    /// The status to set; letter case is ignored
    #[arg(ignore_case = true, value_parser = PossibleValuesParser::new(STATUSES).try_map(|name| name.parse::<NewStatus>()))]
    pub status: NewStatus,

    /// A comment for the review
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub comment: Option<String>,

    /// A verification step that the person must repeat, such as feature_ocr_1:OCR; only with resubmitted, can be given several times (API v3)
    #[arg(long = "node", value_name = "NODE_ID:FEATURE")]
    pub nodes: Vec<Node>,

    /// Send the person an email at this address (API v3)
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,

    /// The language of the email, such as en or pt-BR
    #[arg(long, value_name = "CODE", requires = "email")]
    pub email_language: Option<String>,

    /// Read the session first, and send nothing if it already has the status
    #[arg(long)]
    pub ensure: bool,

    /// Read the session first, and do not change one that is already Approved, Declined or Resubmitted (exit status 1); implies --ensure
    #[arg(long)]
    pub unless_decided: bool,
}

const STATUSES: [&str; 3] = ["approved", "declined", "resubmitted"];

#[derive(Debug, PartialEq, clap::Args)]
pub struct Batch {
    /// The file with the rows; - reads standard input
    // `None` is standard input. The full path of `Option` makes clap require the argument.
    #[arg(value_parser = PathBufValueParser::new().map(|file| (file != Path::new("-")).then_some(file)))]
    pub file: std::option::Option<PathBuf>,

    /// The format of FILE [default: ndjson for names in .ndjson or .jsonl, otherwise csv]
    #[arg(long = "format", value_name = "FORMAT")]
    given_format: Option<Format>,

    #[arg(skip = Format::Csv)]
    pub format: Format,

    /// Ignore columns or fields that are not listed below, and print their names
    #[arg(long)]
    pub ignore_unknown_columns: bool,

    /// The file that records each attempt and its result [default: FILE.journal, in a sandbox FILE.sandbox.journal]
    // `None` only in a dry run.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Leave sessions alone that are already Approved, Declined or Resubmitted; without this option, a batch overwrites other decisions, as its input says
    #[arg(long)]
    pub unless_decided: bool,

    /// At most this many updates, and as many reads, per minute; leave room if others use the same key
    #[arg(long, value_name = "PER_MINUTE", default_value = "300", value_parser = |text: &str| whole(text, MAX_RATE))]
    #[arg(allow_negative_numbers = true)]
    pub rate: u32,

    /// Send at most this many requests at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = |text: &str| whole(text, MAX_JOBS))]
    #[arg(allow_negative_numbers = true)]
    pub jobs: u32,

    /// Check the input without sending anything
    #[arg(long)]
    pub dry_run: bool,

    /// unknown: also resend unknown rows whose sessions still have another status; refused: also resend rows that Didit refused; can be given several times
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    pub retry: Vec<Retry>,

    /// Give up when requests keep failing for SECONDS after the first pause
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    #[arg(allow_negative_numbers = true)]
    pub max_outage: Duration,
}

const MAX_RATE: u32 = 10_000_000;
const MAX_JOBS: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    Csv,
    Ndjson,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Retry {
    Unknown,
    Refused,
}

/// Parses the arguments, of which the first is the program's name.
///
/// # Errors
/// Returns what to print: a mistake, or the help or version that was asked for. It never repeats a secret.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let variable = |arg: &OsString| Some(arg.to_str()?.split_once('=')?.0.to_owned());
    let mut own = args.iter().take_while(|arg| *arg != "--").filter_map(variable);
    if let Some(name) = own.find(|name| name.starts_with("DIDIT_")) {
        let problem = format!("{name} is an environment variable: set it before `didit`, as in {name}=... didit auth");
        return Err(Args::command().error(ErrorKind::UnknownArgument, problem));
    }
    let mut args = Args::try_parse_from(args).map_err(hide_secrets)?;
    let (command, checked) = match &mut args.command {
        Command::Update(update) => ("update", update.check()),
        Command::Batch(batch) => ("batch", batch.set_defaults()),
        _ => return Ok(args),
    };
    checked.map(|()| args).map_err(|problem| mistake(command, problem))
}

/// Returns a mistake in the arguments of a command, with its usage.
fn mistake(command: &str, problem: &str) -> clap::Error {
    let mut didit = Args::command();
    didit.build();
    let command = didit.find_subcommand_mut(command).expect("one of our own commands");
    command.error(ErrorKind::ValueValidation, problem)
}

impl Update {
    fn check(&self) -> Result<(), &'static str> {
        match (self.status, self.nodes.is_empty()) {
            (NewStatus::Resubmitted, true) => Err("resubmitted requires at least one --node NODE_ID:FEATURE"),
            (NewStatus::Resubmitted, false) | (_, true) => Ok(()),
            (_, false) => Err("--node is only valid with resubmitted"),
        }
    }
}

impl Batch {
    /// Sets the defaults that depend on the file.
    fn set_defaults(&mut self) -> Result<(), &'static str> {
        let extension = self.file.as_ref().and_then(|file| file.extension()?.to_str());
        self.format = self.given_format.unwrap_or(match extension {
            Some("ndjson" | "jsonl") => Format::Ndjson,
            _ => Format::Csv,
        });
        let default = self.file.as_deref().filter(|file| has_default_journal(file));
        if let (None, Some(file)) = (&self.journal, default) {
            // Two names of one input must share a journal. With two journals, every row would be sent twice.
            let target = file.canonicalize().ok().filter(|_| file.is_symlink());
            let mut name = target.unwrap_or(file.into()).into_os_string();
            // Rows of the sandbox say nothing about Didit's sessions.
            name.push(if sandbox::is_inside() {
                ".sandbox.journal"
            } else {
                ".journal"
            });
            self.journal = Some(name.into());
        }
        if self.journal.is_none() && !self.dry_run {
            return Err("reading from standard input or a pipe requires --journal FILE, so that the batch can resume");
        }
        Ok(())
    }
}

/// Returns false for a pipe or a device, and for `/dev/stdin` even if it is a regular file. A missing file is reported later,
/// when it is opened.
fn has_default_journal(file: &Path) -> bool {
    let special = ["/dev", "/proc"].iter().any(|root| file.starts_with(root));
    !special && file.metadata().map_or(true, |file| file.is_file() || file.is_dir())
}

/// Parses a session id. A status in its place means that the arguments are in the wrong order.
fn session_id(text: &str) -> Result<SessionId, String> {
    match text.parse::<NewStatus>() {
        Ok(_) => Err("the session id comes first".into()),
        Err(_) => text.parse().map_err(|error: didit::Error| error.to_string()),
    }
}

/// Removes credentials from an error message, and adds where they belong.
fn hide_secrets(mut error: clap::Error) -> clap::Error {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(arg))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return error;
    };
    let suggested = error.get(ContextKind::SuggestedArg);
    if suggested.is_some_and(|suggested| suggested.to_string() == "--credentials") {
        return error;
    }
    if arg.starts_with('-') {
        let arg = arg.to_ascii_lowercase();
        let words = ["key", "secret", "token", "password", "client", "credential"];
        if !words.iter().any(|word| arg.contains(word)) {
            return error;
        }
    } else {
        // An argument of `auth` can only be a credential.
        let usage = error.get(ContextKind::Usage).map_or(String::new(), ToString::to_string);
        if !usage.contains("didit auth") {
            return error;
        }
        error.insert(ContextKind::InvalidArg, ContextValue::String("[hidden]".into()));
    }
    error.remove(ContextKind::SuggestedArg);
    let hint = "credentials come from the environment: set DIDIT_API_KEY, or DIDIT_CLIENT_ID and DIDIT_CLIENT_SECRET";
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Args, clap::Error> {
        parse(["didit"].into_iter().chain(line.split_whitespace()).map(OsString::from))
    }

    fn update(line: &str) -> Update {
        match run(line).map(|args| args.command) {
            Ok(Command::Update(update)) => update,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn batch(line: &str) -> Batch {
        match run(line).map(|args| args.command) {
            Ok(Command::Batch(batch)) => batch,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_valid_and_every_command_has_a_manual_page() {
        let mut didit = Args::command();
        didit.build();
        didit.clone().debug_assert();
        let names = didit.get_subcommands().map(|command| command.get_name());
        assert_eq!(names.filter(|name| *name != "help").collect::<Vec<_>>(), COMMANDS);
    }

    #[test]
    fn help_texts_fit_into_80_columns() {
        let didit = Args::command();
        for command in didit.get_subcommands().chain([&didit]) {
            let help = command.get_after_help().map_or(String::new(), ToString::to_string);
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{}: {long:?}", command.get_name());
        }
    }

    #[test]
    fn options_are_accepted_in_any_order_and_the_last_value_counts() {
        let expected = update("update abc declined --comment two");
        assert_eq!(expected.comment.as_deref(), Some("two"));
        for line in [
            "update --comment=two abc declined",
            "update abc DECLINED --comment two",
            "update abc --comment one declined --comment two",
        ] {
            assert_eq!(update(line), expected, "{line}");
        }
        let batch = batch("batch a.csv --rate 1 --jobs 1 --rate 2 --jobs 2 --dry-run --dry-run");
        assert_eq!((batch.rate, batch.jobs), (2, 2));
    }

    #[test]
    fn a_variable_among_the_arguments_is_never_repeated() {
        for line in [
            "DIDIT_API_KEY=hunter2 auth",
            "auth DIDIT_API_KEY=hunter2",
            "status DIDIT_CLIENT_SECRET=hunter2",
            "batch DIDIT_API_KEY=hunter2",
        ] {
            let text = run(line).unwrap_err().to_string();
            assert!(
                text.contains("is an environment variable") && !text.contains("hunter2"),
                "{text}"
            );
        }
        assert!(run("sandbox -- env DIDIT_API_KEY=hunter2 didit auth").is_ok());
    }

    #[test]
    fn a_comment_may_start_with_a_hyphen() {
        assert_eq!(
            update("update abc declined --comment -v").comment.as_deref(),
            Some("-v")
        );
        assert_eq!(
            update("update abc declined --comment --ensure").comment.as_deref(),
            Some("--ensure")
        );
        // For other options, a value that looks like an option means that the value is missing.
        assert!(run("batch a.csv --journal --dry-run").is_err());
        assert_eq!(batch("batch a.csv --journal=-x").journal, Some("-x".into()));
        assert!(matches!(run("status -- -abc").unwrap().command, Command::Status { id } if id.as_ref() == "-abc"));
    }

    #[test]
    fn everything_after_two_hyphens_is_the_command_of_the_sandbox() {
        let parse = |line: &str| match run(line).map(|args| args.command) {
            Ok(Command::Sandbox(sandbox)) => sandbox,
            other => panic!("{line}: {other:?}"),
        };
        let expected = sandbox::Options {
            port: None,
            fail_rate: 0.0,
            rate_limit: None,
            credentials: sandbox::SandboxCredentials::Key,
            show_requests: false,
            command: Vec::new(),
        };
        assert_eq!(parse("sandbox"), expected);
        let command = ["a", "--port", "2", "--", "--help"].map(OsString::from).to_vec();
        assert_eq!(
            parse("sandbox --port 1 --fail-rate 0.5 --rate-limit 20/1.5 -- a --port 2 -- --help"),
            sandbox::Options {
                port: Some(1),
                fail_rate: 0.5,
                rate_limit: Some(sandbox::RateLimit {
                    updates: 20,
                    window: Duration::from_millis(1500)
                }),
                command,
                ..expected
            }
        );
        let ports = ["sandbox", "sandbox -- a", "sandbox --port 1", "sandbox --port 1 -- a"];
        assert_eq!(ports.map(|line| parse(line).port()), [13434, 0, 1, 1]);
        let limit = parse("sandbox --rate-limit 300").rate_limit.unwrap();
        assert_eq!((limit.updates, limit.window), (300, Duration::from_secs(60)));
        for line in [
            "sandbox a",
            "sandbox --port 65536",
            "sandbox --fail-rate 1.1",
            "sandbox --fail-rate nan",
            "sandbox --fail-rate -1",
            "sandbox --rate-limit 1/",
            "sandbox --rate-limit 1/0",
            "sandbox --rate-limit -1",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_batch_uses_defaults() {
        let expected = Batch {
            file: Some("a.csv".into()),
            given_format: None,
            format: Format::Csv,
            ignore_unknown_columns: false,
            unless_decided: false,
            journal: Some("a.csv.journal".into()),
            rate: 300,
            jobs: 4,
            dry_run: false,
            retry: Vec::new(),
            max_outage: Duration::from_secs(60),
        };
        assert_eq!(batch("batch a.csv"), expected);
    }

    #[test]
    fn the_name_of_the_input_selects_the_default_format() {
        for (line, format) in [
            ("batch a.ndjson", Format::Ndjson),
            ("batch a.jsonl", Format::Ndjson),
            ("batch a.txt", Format::Csv),
            ("batch a", Format::Csv),
            ("batch a.ndjson --format csv", Format::Csv),
            ("batch - --journal j --format ndjson", Format::Ndjson),
        ] {
            assert_eq!(batch(line).format, format, "{line}");
        }
    }

    #[test]
    fn retry_can_be_repeated_or_take_a_list() {
        assert_eq!(batch("batch a.csv --retry unknown").retry, [Retry::Unknown]);
        let both = [Retry::Unknown, Retry::Refused];
        assert_eq!(batch("batch a.csv --retry unknown,refused").retry, both);
        assert_eq!(batch("batch a.csv --retry unknown --retry refused").retry, both);
        for line in [
            "batch a.csv --retry",
            "batch a.csv --retry sent",
            "batch a.csv --retry=",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }

    #[test]
    fn numbers_outside_their_limits_are_rejected() {
        assert_eq!(
            batch("batch a.csv --max-outage 2.5").max_outage,
            Duration::from_millis(2500)
        );
        assert_eq!(batch("batch a.csv --max-outage 0").max_outage, Duration::ZERO);
        assert_eq!(batch("batch a.csv --jobs 64 --rate 10000000").jobs, 64);
        for option in [
            "--max-outage nan",
            "--max-outage inf",
            "--max-outage -1",
            "--max-outage 1e10",
            "--max-outage soon",
            "--jobs 0",
            "--jobs 65",
            "--jobs -1",
            "--rate 0",
            "--rate 10000001",
            "--rate 1.5",
        ] {
            let problem = run(&format!("batch a.csv {option}")).unwrap_err().to_string();
            assert!(problem.contains("must be a"), "{option}: {problem}");
        }
    }

    #[test]
    fn only_a_regular_file_has_a_journal_next_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        std::fs::write(&file, "").unwrap();
        let journal = batch(&format!("batch {}", file.display())).journal.unwrap();
        assert_eq!(journal, dir.path().join("a.csv.journal"));
        let special = ["-", "/dev/stdin", "/dev/null", "/dev/fd/0", "/proc/self/fd/0"].map(String::from);
        #[cfg(unix)]
        let special = {
            let socket = dir.path().join("socket");
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
            [&special[..], &[socket.display().to_string()]].concat()
        };
        for input in special {
            let problem = run(&format!("batch {input}")).unwrap_err().to_string();
            assert!(problem.contains("requires --journal FILE"), "{input}: {problem}");
            assert_eq!(batch(&format!("batch {input} --dry-run")).journal, None, "{input}");
            assert_eq!(
                batch(&format!("batch {input} --journal j")).journal,
                Some("j".into()),
                "{input}"
            );
        }
    }
}
