//! The command line: arguments in, plain data out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use didit::{NewStatus, Node, SessionId};

const ENVIRONMENT: &str = "\
No option takes a secret: credentials come from the environment.

Environment:
  DIDIT_CLIENT_ID, DIDIT_CLIENT_SECRET   client credentials, or
  DIDIT_API_KEY                          an API key
  DIDIT_CLIENT_SECRET_FILE,              files that hold the secret or the key
  DIDIT_API_KEY_FILE
  DIDIT_API_VERSION                      v1, v2 or v3 (by default v1 with client
                                         credentials and v3 with an API key)
  DIDIT_BASE_URL, DIDIT_AUTH_URL         where sessions are, and where tokens
                                         are fetched
  DIDIT_TIMEOUT                          seconds for one request (30)
  DIDIT_DEADLINE                         seconds for one session, with all its
                                         requests and waits (no limit)
  DIDIT_MAX_RETRIES                      retries for one session (2); a batch
                                         repeats on its own
  DIDIT_TOKEN_FILE                       keeps the token for the next run
  DIDIT_CA_FILE                          the certificates to trust, PEM
  ALL_PROXY, HTTPS_PROXY, HTTP_PROXY, NO_PROXY";

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  a batch ended with rows that were refused
  2  a mistake in the command line, the configuration or the input; nothing
     was sent
  3  Didit refused the credentials
  4  refused by Didit; nothing was changed
  5  unknown whether it was applied: read the session back
  6  not done, nothing was changed; the message says whether trying again can
     help";

const BATCH: &str = "\
FILE is CSV with a header, or NDJSON with the same names. A CSV is separated by
commas, semicolons or tabs.

Columns, in any order:
  session_id, new_status   required
  comment                  a comment for the review
  nodes                    nodes to repeat: NODE_ID:FEATURE, separated by spaces
                           or semicolons; in NDJSON a list of
                           {\"node_id\": ..., \"feature\": ...}
  email, email_language    email the person

The whole input is checked before anything is sent. What was done is kept in a
journal: after a crash or a kill, the same command goes on where it stopped, and
settles what was in doubt by reading the session back. Results are printed one a
line: the rows that were not applied, or every row with --json.";

const SANDBOX: &str = "\
The sandbox answers on 127.0.0.1 as Didit would, to both of its hosts. COMMAND
gets DIDIT_BASE_URL, DIDIT_AUTH_URL and credentials for it. All other DIDIT_*
variables and the proxy variables are unset, and the folder of this didit comes
first in PATH. The sandbox ends with COMMAND and forgets its sessions.

Every session exists and is In Review, and all credentials are accepted, except
those listed below. --fail-rate breaks a share of all requests: the connection
closes or the answer is a 502, before or after the update is applied, or the
answer breaks off. Each sandbox breaks the same requests.

Session ids that cause failures:
  unknown-*      does not exist: 404
  forbidden-*    cannot be read or updated: 403
  unfinished-*   is In Progress, so that updates are rejected: 400
  throttled-*    exceeds the rate limit once: 429, Retry-After: 1
  readonly-*     can be read, but not be updated for 10 s: 503
  slow-*         is answered after 5 s
  lost-*         is updated, but the connection closes before the answer

Credentials that are rejected:
  wrong          as an API key or a client secret: 401

For tests, as JSON, one object a line:
  GET /__log        every request, and the status of its answer
  GET /__sessions   every session, its status, and how many times each status
                    was applied

Exit status:
  that of COMMAND, or 128 + N if signal N ended it, or
  2    a mistake in the command line, or the port is in use
  126  COMMAND cannot be run
  127  COMMAND was not found";

const BATCH_EXIT_STATUS: &str = "  If several apply to a batch, the first of 3, 5, 6, 1 counts.";
const SEE_ENVIRONMENT: &str = "The credentials come from the environment: see 'didit --help'.";

/// Set the status of Didit identity-verification sessions, and say what became of it
#[derive(Debug, Parser)]
#[command(name = "didit", bin_name = "didit", version, propagate_version = true)]
#[command(
    args_override_self = true,
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND"
)]
#[command(after_help = format!("{ENVIRONMENT}\n\n{EXIT_STATUS}"))]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set the status of one session
    #[command(after_help = format!("{SEE_ENVIRONMENT}\n\n{EXIT_STATUS}"))]
    Update(Update),

    /// Read the status of one session back
    #[command(after_help = format!("{SEE_ENVIRONMENT}\n\n{EXIT_STATUS}"))]
    Status {
        /// The session to read
        #[arg(value_name = "SESSION_ID")]
        id: SessionId,
    },

    /// Set the statuses of many sessions, from a CSV or NDJSON file
    #[command(after_help = format!("{BATCH}\n\n{SEE_ENVIRONMENT}\n\n{EXIT_STATUS}\n{BATCH_EXIT_STATUS}"))]
    Batch(Batch),

    /// Check that Didit accepts the credentials; changes nothing
    #[command(after_help = format!("{SEE_ENVIRONMENT}\n\n{EXIT_STATUS}"))]
    Auth,

    /// Run a command, or a shell, against a stand-in for Didit on this machine
    #[command(after_help = SANDBOX)]
    Sandbox(Sandbox),

    /// Print a script that completes this command in a shell
    Completions {
        /// The shell that will read the script
        shell: clap_complete::Shell,
    },

    /// Print the manual page, to be read with 'man -l -'
    Man {
        /// The command whose page to print; without one, that of didit itself
        #[arg(value_parser = PossibleValuesParser::new(COMMANDS))]
        command: Option<String>,
    },
}

const COMMANDS: [&str; 7] = ["update", "status", "batch", "auth", "sandbox", "completions", "man"];

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::Args)]
pub struct Output {
    /// Print results as JSON objects, one a line
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,

    /// Print only results that were asked for, and errors
    #[arg(short, long, global = true, display_order = 901)]
    pub quiet: bool,

    /// Report each request on standard error, without secrets
    #[arg(short, long, global = true, display_order = 902)]
    pub verbose: bool,
}

#[derive(Debug, PartialEq, clap::Args)]
pub struct Update {
    /// The session to update
    #[arg(value_name = "SESSION_ID")]
    pub id: SessionId,

    /// The status to set, in any letter case
    #[arg(ignore_case = true, value_parser = PossibleValuesParser::new(STATUSES).try_map(|name| name.parse::<NewStatus>()))]
    pub status: NewStatus,

    /// A comment for the review
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub comment: Option<String>,

    /// A node to repeat, such as feature_ocr_1:OCR; goes with resubmitted, may be repeated (v3)
    #[arg(long = "node", value_name = "NODE_ID:FEATURE")]
    pub nodes: Vec<Node>,

    /// Email the person at this address (v3)
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,

    /// The language of the email, such as en or pt-BR
    #[arg(long, value_name = "CODE", requires = "email")]
    pub email_language: Option<String>,

    /// Read the session first, and update it only if it has another status
    #[arg(long)]
    pub ensure: bool,

    /// With --ensure: leave a session alone that somebody has decided otherwise (exit status 6)
    #[arg(long, requires = "ensure")]
    pub unless_decided: bool,
}

const STATUSES: [&str; 3] = ["approved", "declined", "resubmitted"];

#[derive(Debug, PartialEq, clap::Args)]
pub struct Batch {
    /// The rows to send; - is standard input
    // `None` is standard input. Spelled out, so that clap does not take the argument for optional.
    #[arg(value_parser = PathBufValueParser::new().map(|file| (file != Path::new("-")).then_some(file)))]
    pub file: std::option::Option<PathBuf>,

    /// The format of FILE; by default its name decides: .ndjson and .jsonl are NDJSON, all else is CSV
    #[arg(long = "format", value_name = "FORMAT")]
    given_format: Option<Format>,

    #[arg(skip = Format::Csv)]
    pub format: Format,

    /// Skip columns of a CSV that are not listed below, and name them on standard error
    #[arg(long)]
    pub ignore_unknown_columns: bool,

    /// Where to keep what was done [default: FILE.journal, beside the input]
    // `None` only on a dry run.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Requests a minute, at most; fewer when the server asks
    #[arg(long, value_name = "PER_MINUTE", default_value = "300", value_parser = |text: &str| whole(text, MAX_RATE))]
    #[arg(allow_negative_numbers = true)]
    pub rate: u32,

    /// How many requests may be in flight at once
    #[arg(long, value_name = "N", default_value = "4", value_parser = |text: &str| whole(text, MAX_JOBS))]
    #[arg(allow_negative_numbers = true)]
    pub jobs: u32,

    /// Check the input and send nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Also send rows again that an earlier run told as this; may be repeated
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    pub retry: Vec<Retry>,

    /// Stop once Didit has been out of reach for this long
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

#[derive(Debug, PartialEq, clap::Args)]
pub struct Sandbox {
    /// The port to listen on, on 127.0.0.1; 0 picks a free one
    #[arg(long, value_name = "N", default_value = "13434")]
    pub port: u16,

    /// The share of requests that fail, from 0 to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = share, allow_negative_numbers = true)]
    pub fail_rate: f64,

    /// Accept N updates and twice as many reads in any SECONDS (60); Didit's limit is 300
    #[arg(long, value_name = "N[/SECONDS]", value_parser = rate_limit)]
    pub rate_limit: Option<RateLimit>,

    /// The credentials that COMMAND gets: an API key for v3, or client credentials for v1
    #[arg(long, value_name = "KIND", default_value = "key")]
    pub credentials: CredentialKind,

    /// Print each request and its answer on standard error, without secrets
    #[arg(long)]
    pub show_requests: bool,

    /// The command to run; without one, a shell
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum CredentialKind {
    Key,
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    pub updates: usize,
    pub window: Duration,
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What to print: a mistake; or help or the version, which were asked for. A secret that was given as an option is not
/// repeated.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let mut args = Args::try_parse_from(args).map_err(hide_secrets)?;
    let (command, checked) = match &mut args.command {
        Command::Update(update) => ("update", update.check()),
        Command::Batch(batch) => ("batch", batch.complete()),
        _ => return Ok(args),
    };
    match checked {
        Ok(()) => Ok(args),
        Err(problem) => Err(mistake(command, problem)),
    }
}

/// A mistake in the arguments of a command, with its usage.
fn mistake(command: &str, problem: &str) -> clap::Error {
    let mut didit = Args::command();
    didit.build();
    let command = didit.find_subcommand_mut(command).expect("one of our own commands");
    command.error(ErrorKind::ValueValidation, problem)
}

impl Update {
    fn check(&self) -> Result<(), &'static str> {
        match (self.status, self.nodes.is_empty()) {
            (NewStatus::Resubmitted, true) => Err("resubmitted needs a node to repeat: --node NODE_ID:FEATURE"),
            (NewStatus::Resubmitted, false) | (_, true) => Ok(()),
            (_, false) => Err("--node goes with resubmitted only"),
        }
    }
}

impl Batch {
    /// Fills in what depends on the file.
    fn complete(&mut self) -> Result<(), &'static str> {
        let extension = self.file.as_ref().and_then(|file| file.extension()?.to_str());
        self.format = self.given_format.unwrap_or(match extension {
            Some("ndjson" | "jsonl") => Format::Ndjson,
            _ => Format::Csv,
        });
        if self.ignore_unknown_columns && self.format == Format::Ndjson {
            return Err("--ignore-unknown-columns goes with CSV only");
        }
        let beside = self.file.as_deref().filter(|file| can_have_a_journal_beside_it(file));
        if let (None, Some(file)) = (&self.journal, beside) {
            // Two names of one input must not have two journals: all its rows would be sent twice.
            let target = file.canonicalize().ok().filter(|_| file.is_symlink());
            let mut name = target.unwrap_or(file.into()).into_os_string();
            name.push(".journal");
            self.journal = Some(name.into());
        }
        if self.journal.is_none() && !self.dry_run {
            return Err(
                "--journal FILE is needed when the rows do not come from a regular file: the batch goes on from it \
                 after a stop",
            );
        }
        Ok(())
    }
}

/// A pipe or a device cannot, nor can `/dev/stdin`, even where a regular file is behind it. A file that does not exist
/// is left to be found missing when it is opened.
fn can_have_a_journal_beside_it(file: &Path) -> bool {
    let special = ["/dev", "/proc"].iter().any(|root| file.starts_with(root));
    !special && file.metadata().map_or(true, |file| file.is_file() || file.is_dir())
}

fn whole(text: &str, max: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("it has to be a whole number from 1 to {max}"))
}

/// At most 30 years: times that far off can still be added to any clock.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=1e9).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it has to be a number of seconds, such as 60 or 2.5".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it has to be a number from 0 to 1, such as 0.1".into())
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let (updates, window) = text.split_once('/').unwrap_or((text, "60"));
    Ok(RateLimit {
        updates: updates
            .parse()
            .map_err(|_| "it has to be a whole number, such as 300, or 20/1 for 20 in a second")?,
        window: seconds(window)?,
    })
}

/// Makes sure that an error message repeats no credentials, and says where they belong.
fn hide_secrets(mut error: clap::Error) -> clap::Error {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(arg))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return error;
    };
    if arg.starts_with('-') {
        let arg = arg.to_ascii_lowercase();
        let words = ["key", "secret", "token", "password", "client", "credential"];
        if !words.iter().any(|word| arg.contains(word)) {
            return error;
        }
    } else {
        // Nothing but credentials would be given to `auth`.
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
    fn the_definition_is_sound_and_every_command_has_a_page() {
        let mut didit = Args::command();
        didit.build();
        didit.clone().debug_assert();
        let names = didit.get_subcommands().map(|command| command.get_name());
        assert_eq!(names.filter(|name| *name != "help").collect::<Vec<_>>(), COMMANDS);
    }

    #[test]
    fn an_option_may_stand_anywhere_after_its_command_and_the_last_one_wins() {
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
    fn a_comment_may_begin_with_a_hyphen() {
        assert_eq!(
            update("update abc declined --comment -v").comment.as_deref(),
            Some("-v")
        );
        assert_eq!(
            update("update abc declined --comment --ensure").comment.as_deref(),
            Some("--ensure")
        );
        // Elsewhere a value that looks like an option is a forgotten value.
        assert!(run("batch a.csv --journal --dry-run").is_err());
        assert_eq!(batch("batch a.csv --journal=-x").journal, Some("-x".into()));
        assert!(matches!(run("status -- -abc").unwrap().command, Command::Status { id } if id.as_ref() == "-abc"));
    }

    #[test]
    fn whatever_follows_two_hyphens_is_the_command_of_the_sandbox() {
        let sandbox = |line: &str| match run(line).map(|args| args.command) {
            Ok(Command::Sandbox(sandbox)) => sandbox,
            other => panic!("{line}: {other:?}"),
        };
        let expected = Sandbox {
            port: 13434,
            fail_rate: 0.0,
            rate_limit: None,
            credentials: CredentialKind::Key,
            show_requests: false,
            command: Vec::new(),
        };
        assert_eq!(sandbox("sandbox"), expected);
        let command = ["a", "--port", "2", "--", "--help"].map(OsString::from).to_vec();
        assert_eq!(
            sandbox("sandbox --port 1 --fail-rate 0.5 --rate-limit 20/1.5 -- a --port 2 -- --help"),
            Sandbox {
                port: 1,
                fail_rate: 0.5,
                rate_limit: Some(RateLimit {
                    updates: 20,
                    window: Duration::from_millis(1500)
                }),
                command,
                ..expected
            }
        );
        let limit = sandbox("sandbox --rate-limit 300").rate_limit.unwrap();
        assert_eq!((limit.updates, limit.window), (300, Duration::from_secs(60)));
        for line in [
            "sandbox a",
            "sandbox --port 65536",
            "sandbox --fail-rate 1.1",
            "sandbox --fail-rate nan",
            "sandbox --fail-rate -1",
            "sandbox --rate-limit 1/",
            "sandbox --rate-limit -1",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_batch_has_defaults() {
        let expected = Batch {
            file: Some("a.csv".into()),
            given_format: None,
            format: Format::Csv,
            ignore_unknown_columns: false,
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
    fn the_name_of_the_input_decides_where_nothing_is_said() {
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
    fn rows_to_take_up_again_are_named_one_by_one_or_by_commas() {
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
    fn numbers_have_limits() {
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
            assert!(problem.contains("it has to be a"), "{option}: {problem}");
        }
    }

    #[test]
    fn only_a_regular_file_has_a_journal_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        std::fs::write(&file, "").unwrap();
        let journal = batch(&format!("batch {}", file.display())).journal.unwrap();
        assert_eq!(journal, dir.path().join("a.csv.journal"));
        let mut special = ["-", "/dev/stdin", "/dev/null", "/dev/fd/0", "/proc/self/fd/0"]
            .map(String::from)
            .to_vec();
        #[cfg(unix)]
        {
            let socket = dir.path().join("socket");
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
            special.push(socket.display().to_string());
        }
        for input in special {
            let problem = run(&format!("batch {input}")).unwrap_err().to_string();
            assert!(problem.contains("--journal FILE is needed"), "{input}: {problem}");
            assert_eq!(batch(&format!("batch {input} --dry-run")).journal, None, "{input}");
            assert_eq!(
                batch(&format!("batch {input} --journal j")).journal,
                Some("j".into()),
                "{input}"
            );
        }
    }
}
