//! The texts of `--help`.

pub const DIDIT: &str = "\
Sets the status of Didit identity-verification sessions, and says what became of it.

usage: didit update SESSION_ID approved|declined|resubmitted [OPTION]...
       didit status SESSION_ID
       didit batch FILE|- [OPTION]...
       didit auth

  update   set the status of one session
  status   read the status of one session back
  batch    set the statuses of many sessions, from a CSV or NDJSON file
  auth     check the credentials

  --json           results as JSON objects on standard output, one a line
  -q, --quiet      only results that were asked for, and errors
  -v, --verbose    tell each request on standard error, never a secret
  -h, --help       this text; after a command, that command's
  -V, --version    the version

environment (there is no option that takes a secret):
  DIDIT_CLIENT_ID, DIDIT_CLIENT_SECRET   client credentials, or
  DIDIT_API_KEY                          an API key
  DIDIT_API_VERSION                      v1, v2 or v3 (v1 for client credentials, v3 for an API key)
  DIDIT_BASE_URL, DIDIT_AUTH_URL         where sessions are, and where tokens are fetched
  DIDIT_TIMEOUT                          seconds for one request (30)
  DIDIT_MAX_RETRIES                      for one session; a batch repeats on its own (2)
  DIDIT_TOKEN_FILE                       keeps the token for the next run
  DIDIT_CA_FILE                          the certificates to trust, PEM
  ALL_PROXY, HTTPS_PROXY, HTTP_PROXY, NO_PROXY

exit status:
  0  done
  1  a batch ended with rows that were refused
  2  a mistake in the command line, the configuration or the input; nothing was sent
  3  the credentials were refused
  4  refused by Didit; nothing was changed
  5  unknown whether it was applied: read the session back
  6  not sent, or not now; nothing was changed: try again
";

pub const UPDATE: &str = "\
Sets the status of one session.

usage: didit update SESSION_ID approved|declined|resubmitted [OPTION]...

  --comment TEXT           a comment for the review
  --node NODE_ID:FEATURE   a step to repeat, such as feature_ocr_1:OCR; goes with resubmitted, may be repeated (v3)
  --email ADDRESS          email the person (v3)
  --email-language CODE    the email's language, such as en or pt-BR
  --ensure                 read the session first, and update it only if it has another status

  --json, --quiet, --verbose, --help, --version, the environment and the exit status: see `didit --help`
";

pub const STATUS: &str = "\
Reads the status of one session back.

usage: didit status SESSION_ID

  --json, --quiet, --verbose, --help, --version, the environment and the exit status: see `didit --help`
";

pub const BATCH: &str = "\
Sets the statuses of many sessions.

usage: didit batch FILE|- [OPTION]...

FILE is CSV with a header, or NDJSON with the same names; - is standard input. The columns, in any order:
  session_id, new_status   required
  comment                  a comment for the review
  nodes                    steps to repeat: NODE_ID:FEATURE, separated by spaces or semicolons; in NDJSON a list of
                           {\"node_id\": ..., \"feature\": ...}
  email, email_language    email the person

The whole input is checked before anything is sent. What is done is kept in a journal: after a crash or a kill, the
same command goes on where it stopped, and settles what was in doubt by reading the session back. Results are told one
a line: the rows that were not applied, or every row with --json.

  --format csv|ndjson   by default by the name: .ndjson and .jsonl are NDJSON, all else is CSV
  --journal FILE        by default beside the input: FILE.journal
  --rate PER_MINUTE     send at most this many requests a minute (300), less when the server asks for it
  --jobs N              how many requests may be under way at once (4)
  --dry-run             check the input and send nothing

  --json, --quiet, --verbose, --help, --version, the environment and the exit status: see `didit --help`
  With several reasons, a batch ends with the first of: 3, 5, 1, 6.
";

pub const AUTH: &str = "\
Checks that Didit takes the credentials. Changes nothing.

usage: didit auth

  --json, --quiet, --verbose, --help, --version, the environment and the exit status: see `didit --help`
";
