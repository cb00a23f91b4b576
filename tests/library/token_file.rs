//! The token file saves the next process a token request. A file that is invalid, unsafe or unwritable is ignored and causes
//! no error.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use didit::{Client, ClientBuilder, Credentials, ErrorKind, RetryPolicy, StatusUpdate};
use serde_json::{Value, json};

use crate::support::capture;
use crate::support::directory::Directory;
use crate::support::process::{assert_passed, filter_arguments};
use crate::support::{CLIENT_ID, CLIENT_SECRET, Server, answer, confirmed, session_id, token};

const FILE: &str = "token.json";

fn builder(server: &Server, file: impl AsRef<Path>) -> ClientBuilder {
    server
        .builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
        .token_file(file)
}

/// Makes an update with a new client, as the next process would.
fn update(server: &Server, file: impl AsRef<Path>) {
    let client = builder(server, file).build().unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
}

fn content(file: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Sets the mode of a file. Windows has none.
fn set_mode(file: impl AsRef<Path>, mode: u32) {
    #[cfg(unix)]
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    #[cfg(not(unix))]
    let _ = (file, mode);
}

/// Fails unless only the owner can read and write the file.
fn assert_private(metadata: &fs::Metadata) {
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(metadata) & 0o7777, 0o600);
    #[cfg(not(unix))]
    let _ = metadata;
}

fn write_private(file: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::write(&file, text).unwrap();
    set_mode(file, 0o600);
}

/// A server that issues `token-1`, `token-2` and so on, and accepts every token.
fn counting() -> Server {
    let tokens = AtomicUsize::new(0);
    Server::start(move |request| match request.is_token_request() {
        true => token(&format!("token-{}", tokens.fetch_add(1, SeqCst) + 1)),
        false => confirmed(),
    })
}

fn bearers(server: &Server) -> Vec<String> {
    server
        .session_requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect()
}

#[test]
fn the_next_client_loads_the_token_from_the_file() {
    let (server, directory) = (counting(), Directory::new());
    for _ in 0..3 {
        update(&server, directory.path(FILE));
    }
    assert_eq!(bearers(&server), ["Bearer token-1"; 3]);
    assert_eq!(server.token_requests().len(), 1);
    assert_eq!(directory.names(), ["token.json"], "no temporary file is left");
}

#[test]
fn authenticate_replaces_the_token_in_the_file() {
    let (server, directory) = (counting(), Directory::new());
    update(&server, directory.path(FILE));
    let client = builder(&server, directory.path(FILE)).build().unwrap();
    // Its read of a session fails, but only the token request matters here.
    let _ = client.authenticate();
    assert_eq!(server.token_requests().len(), 2);
    assert_eq!(content(directory.path(FILE))["access_token"], "token-2");
    update(&server, directory.path(FILE));
    assert_eq!(server.token_requests().len(), 2);
}

#[test]
fn the_file_is_private_and_contains_no_other_secret() {
    let (server, directory) = (counting(), Directory::new());
    update(&server, directory.path(FILE));
    assert_private(&fs::symlink_metadata(directory.path(FILE)).unwrap());
    let text = fs::read_to_string(directory.path(FILE)).unwrap();
    assert!(!text.contains(CLIENT_SECRET), "{text}");
    assert!(!text.contains("dGhlLWNsaWVudC1pZDp0aGUtY2xpZW50LXNlY3JldA"), "{text}");
    let content = content(directory.path(FILE));
    assert_eq!(content["access_token"], "token-1");
    assert_eq!(content["client_id"], CLIENT_ID);
    let lifetime = content["expires_at"].as_u64().unwrap() - content["fetched_at"].as_u64().unwrap();
    assert_eq!(lifetime, 86400);
}

#[test]
#[cfg(unix)]
fn the_file_is_replaced_atomically() {
    use std::os::unix::fs::MetadataExt;

    let (server, directory) = (counting(), Directory::new());
    update(&server, directory.path(FILE));
    let before = File::open(directory.path(FILE)).unwrap();
    let old = fs::read_to_string(directory.path(FILE)).unwrap();
    let mut expired = content(directory.path(FILE));
    expired["expires_at"] = json!(1);
    write_private(directory.path(FILE), expired.to_string());

    update(&server, directory.path(FILE));
    assert_ne!(
        before.metadata().unwrap().ino(),
        fs::metadata(directory.path(FILE)).unwrap().ino(),
        "a new file replaces the old one"
    );
    assert_eq!(content(directory.path(FILE))["access_token"], "token-2");
    assert_ne!(fs::read_to_string(directory.path(FILE)).unwrap(), old);
    assert_eq!(directory.names(), ["token.json"]);
}

/// Fails unless an update ignores what is at the path, and succeeds with a new token. If it is `replaced`, the next client
/// loads that token from the file. Otherwise it is left unchanged.
fn assert_not_trusted(what: &str, replaced: bool, prepare: impl Fn(&Directory, &Server)) {
    let (server, directory) = (counting(), Directory::new());
    prepare(&directory, &server);
    let kind = || fs::symlink_metadata(directory.path(FILE)).unwrap().file_type();
    let found = kind();
    update(&server, directory.path(FILE));
    assert_eq!(kind(), found, "{what}");
    assert_eq!(bearers(&server), ["Bearer token-1"], "{what}");
    update(&server, directory.path(FILE));
    assert_eq!(server.token_requests().len(), if replaced { 1 } else { 2 }, "{what}");
    if replaced {
        assert_private(&fs::symlink_metadata(directory.path(FILE)).unwrap());
        assert_eq!(content(directory.path(FILE))["access_token"], "token-1", "{what}");
    }
    let temporary = directory.names().into_iter().filter(|name| name.ends_with(".tmp"));
    assert_eq!(temporary.count(), 0, "{what}");
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The content of a file that is trusted.
fn valid_content(server: &Server) -> Value {
    content_for(&server.url())
}

fn content_for(url: &str) -> Value {
    json!({
        "auth_url": format!("{url}/auth/v2/token/"),
        "client_id": CLIENT_ID,
        "access_token": "planted",
        "fetched_at": now() - 10,
        "expires_at": now() + 1000,
    })
}

#[test]
fn a_valid_file_is_trusted() {
    let (server, directory) = (counting(), Directory::new());
    write_private(directory.path(FILE), valid_content(&server).to_string());
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted"]);
    assert_eq!(server.token_requests().len(), 0);
}

#[test]
#[cfg(unix)]
fn a_file_with_permissions_for_others_is_not_trusted() {
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o660, 0o666, 0o777, 0o601] {
        assert_not_trusted(&format!("mode {mode:o}"), true, |directory, server| {
            write_private(directory.path(FILE), valid_content(server).to_string());
            set_mode(directory.path(FILE), mode);
        });
    }
}

#[test]
#[cfg(unix)]
fn symlinks_are_never_followed() {
    use std::os::unix::fs::symlink;

    assert_not_trusted("a link to a valid_content file", false, |directory, server| {
        let target = directory.path("target");
        write_private(&target, valid_content(server).to_string());
        symlink(target, directory.path(FILE)).unwrap();
    });
    assert_not_trusted("a link to itself", false, |directory, _| {
        symlink(directory.path(FILE), directory.path(FILE)).unwrap();
    });
    let (server, directory) = (counting(), Directory::new());
    symlink(directory.path("target"), directory.path(FILE)).unwrap();
    update(&server, directory.path(FILE));
    assert_eq!(directory.names(), ["token.json"], "the target is not created");
}

#[test]
#[cfg(unix)]
fn files_of_another_user_are_not_trusted() {
    use std::os::unix::fs::{lchown, symlink};

    let directory = Directory::new();
    write_private(directory.path(FILE), "");
    if lchown(directory.path(FILE), Some(12345), None).is_err() {
        eprintln!("skipped: only root can change the owner of a file");
        return;
    }
    assert_not_trusted("another user's file", true, |directory, server| {
        write_private(directory.path(FILE), valid_content(server).to_string());
        lchown(directory.path(FILE), Some(12345), None).unwrap();
    });
    assert_not_trusted("another user's link to our own file", false, |directory, server| {
        let target = directory.path("target");
        write_private(&target, valid_content(server).to_string());
        symlink(&target, directory.path(FILE)).unwrap();
        lchown(directory.path(FILE), Some(12345), None).unwrap();
    });
    assert_not_trusted("our link to another user's file", false, |directory, server| {
        let target = directory.path("target");
        write_private(&target, valid_content(server).to_string());
        lchown(&target, Some(12345), None).unwrap();
        symlink(&target, directory.path(FILE)).unwrap();
    });
}

#[test]
fn directories_are_ignored() {
    assert_not_trusted("a directory", false, |directory, _| {
        fs::create_dir(directory.path(FILE)).unwrap();
    });
    assert_not_trusted("a directory with a file in it", false, |directory, _| {
        fs::create_dir(directory.path(FILE)).unwrap();
        fs::write(directory.path("token.json/something"), "").unwrap();
    });
}

#[test]
#[cfg(unix)]
fn pipes_and_sockets_are_ignored() {
    assert_not_trusted("a pipe without a writer", false, |directory, _| {
        let made = Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(directory.path(FILE))
            .status();
        assert!(made.unwrap().success());
    });
    assert_not_trusted("a socket", false, |directory, _| {
        std::os::unix::net::UnixListener::bind(directory.path(FILE)).unwrap();
    });
}

#[test]
fn a_damaged_token_file_is_replaced() {
    assert_not_trusted("an empty file", true, |directory, _| {
        write_private(directory.path(FILE), "")
    });
    assert_not_trusted("only the beginning", true, |directory, _| {
        write_private(directory.path(FILE), "{\"access_token\"");
    });
    assert_not_trusted("invalid UTF-8", true, |directory, _| {
        write_private(directory.path(FILE), b"{\"access_token\":\"\xff\"}");
    });
    assert_not_trusted("half a file", true, |directory, server| {
        let text = token_file(server);
        write_private(directory.path(FILE), &text[..text.len() - 3]);
    });
    for size in [64 * 1024 + 1, 100 << 20] {
        assert_not_trusted(&format!("{size} bytes"), true, |directory, server| {
            write_private(directory.path(FILE), token_file(server) + &" ".repeat(64 * 1024));
            File::options()
                .write(true)
                .open(directory.path(FILE))
                .unwrap()
                .set_len(size)
                .unwrap();
        });
    }
}

/// A valid token file, with its keys in the order in which the library writes them.
fn token_file(server: &Server) -> String {
    token_file_for(&server.url())
}

fn token_file_for(url: &str) -> String {
    let content = content_for(url);
    let keys = ["access_token", "auth_url", "client_id", "expires_at", "fetched_at"];
    let fields = keys.map(|key| format!("{key:?}:{}", content[key]));
    format!("{{{}}}", fields.join(","))
}

#[test]
fn a_file_with_other_content_is_never_overwritten() {
    for something in [
        "hunter2",
        "hunter2\n",
        "\0",
        "{",
        "{}",
        "null",
        "\u{feff}{}",
        "session_id,new_status\n4c5c7f3a,Approved\n",
        "#!/bin/sh\necho\n",
        r#"{"new_status":"Approved"}"#,
        r#"{ "access_token":"of another program"}"#,
        r#"{"access_tokens":{}}"#,
    ] {
        let (server, directory) = (counting(), Directory::new());
        write_private(directory.path(FILE), something);
        update(&server, directory.path(FILE));
        assert_eq!(fs::read_to_string(directory.path(FILE)).unwrap(), something);
        assert_eq!(directory.names(), ["token.json"]);
    }
}

#[test]
fn an_abandoned_temporary_file_is_removed_but_a_recent_one_is_kept() {
    let (server, directory) = (counting(), Directory::new());
    let temporary = directory.file("token.json.tmp", "half a tok");
    update(&server, directory.path(FILE));
    assert_eq!(directory.names(), ["token.json.tmp"], "another process is writing it");
    let a_minute_ago = SystemTime::now() - Duration::from_secs(60);
    File::options()
        .write(true)
        .open(&temporary)
        .unwrap()
        .set_modified(a_minute_ago)
        .unwrap();
    update(&server, directory.path(FILE));
    assert_eq!(directory.names(), ["token.json"]);
    assert_private(&fs::symlink_metadata(directory.path(FILE)).unwrap());
}

#[test]
fn an_expired_token_or_one_of_another_client_or_host_is_not_trusted() {
    let max = u64::MAX;
    for change in [
        json!({"client_id": "another"}),
        json!({"client_id": ""}),
        json!({"client_id": null}),
        json!({"auth_url": "https://apx.didit.me/auth/v2/token/"}),
        json!({"auth_url": ""}),
        json!({"access_token": ""}),
        json!({"access_token": "two words"}),
        json!({"access_token": "line\r\nx: y"}),
        json!({"access_token": "é"}),
        json!({"access_token": ["planted"]}),
        json!({"expires_at": now() - 1}),
        json!({"expires_at": now()}),
        json!({"fetched_at": now() - 1000, "expires_at": now() + 30}),
        json!({"expires_at": 0}),
        json!({"expires_at": -1}),
        json!({"expires_at": "never"}),
        json!({"fetched_at": now() + 3600, "expires_at": now() + 7200}),
        json!({"fetched_at": now() + 3600}),
        json!({"fetched_at": max, "expires_at": max}),
        json!({"fetched_at": max}),
        json!({"fetched_at": 0, "expires_at": max}),
        json!({"fetched_at": 1.5}),
    ] {
        assert_not_trusted(&change.to_string(), true, |directory, server| {
            let mut content = valid_content(server);
            for (key, value) in change.as_object().unwrap() {
                content[key] = value.clone();
            }
            write_private(directory.path(FILE), content.to_string());
        });
    }
}

#[test]
fn a_refused_token_is_replaced_in_the_file() {
    let directory = Directory::new();
    let server = Server::start(|request| match request.header("authorization") {
        _ if request.is_token_request() => token("fresh"),
        Some("Bearer fresh") => confirmed(),
        _ => answer(401, &[], ""),
    });
    write_private(directory.path(FILE), valid_content(&server).to_string());
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted", "Bearer fresh"]);
    assert_eq!(content(directory.path(FILE))["access_token"], "fresh");
    update(&server, directory.path(FILE));
    assert_eq!(server.token_requests().len(), 1);
}

#[test]
fn a_token_of_the_file_does_not_count_as_the_replacement_of_a_refused_one() {
    // Didit revokes the tokens of this process and of another one.
    let (directory, tokens, revoked) = (Directory::new(), AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let is_revoked = revoked.clone();
    let server = Server::start(move |request| match request.header("authorization") {
        _ if request.is_token_request() => token(&format!("token-{}", tokens.fetch_add(1, SeqCst) + 1)),
        Some("Bearer token-1" | "Bearer planted") if is_revoked.load(SeqCst) => answer(401, &[], ""),
        _ => confirmed(),
    });
    let client = builder(&server, directory.path(FILE))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let approve = || client.update_status(&session_id(), &StatusUpdate::approved());
    approve().unwrap();
    write_private(directory.path(FILE), token_file(&server));
    revoked.store(true, SeqCst);
    approve().unwrap();
    assert_eq!(
        bearers(&server),
        ["Bearer token-1", "Bearer token-1", "Bearer planted", "Bearer token-2"]
    );
}

#[test]
fn the_file_is_read_before_every_attempt_to_fetch_a_token() {
    let directory = Directory::new();
    let file = directory.path(FILE);
    let server = Server::start(move |request| {
        if request.is_token_request() {
            // Meanwhile, another process stores a token.
            let url = format!("http://{}", request.header("host").unwrap());
            write_private(&file, token_file_for(&url));
            return answer(429, &[("retry-after", "0")], "");
        }
        confirmed()
    });
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted"]);
    assert_eq!(server.token_requests().len(), 1);
}

#[test]
fn a_refused_token_that_another_process_replaced_is_loaded_from_the_file() {
    let directory = Directory::new();
    let file = directory.path(FILE);
    let server = Server::start(move |request| match request.header("authorization") {
        _ if request.is_token_request() => token("fresh"),
        Some("Bearer planted") => {
            let mut replaced = content(&file);
            replaced["access_token"] = json!("by-another");
            write_private(&file, replaced.to_string());
            answer(401, &[], "")
        }
        _ => confirmed(),
    });
    write_private(directory.path(FILE), valid_content(&server).to_string());
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted", "Bearer by-another"]);
    assert_eq!(server.token_requests().len(), 0);
}

#[test]
fn a_refused_token_is_never_loaded_again_if_the_file_cannot_be_written() {
    let (directory, tokens) = (Directory::new(), AtomicUsize::new(0));
    let revoked = Arc::new(Mutex::new(vec!["Bearer planted".to_owned()]));
    let known = revoked.clone();
    let server = Server::start(move |request| match request.header("authorization") {
        _ if request.is_token_request() => token(&format!("token-{}", tokens.fetch_add(1, SeqCst) + 1)),
        Some(bearer) if known.lock().unwrap().iter().any(|known| known == bearer) => answer(401, &[], ""),
        _ => confirmed(),
    });
    write_private(directory.path(FILE), valid_content(&server).to_string());
    // Another process seems to be writing the file, so this one does not.
    directory.file("token.json.tmp", "half a tok");
    let client = builder(&server, directory.path(FILE)).build().unwrap();
    let approve = || client.update_status(&session_id(), &StatusUpdate::approved());
    approve().unwrap();
    revoked.lock().unwrap().push("Bearer token-1".to_owned());
    let result = approve();
    let sent = bearers(&server);
    assert_eq!(
        sent,
        ["Bearer planted", "Bearer token-1", "Bearer token-1", "Bearer token-2"]
    );
    result.unwrap();
}

#[test]
fn clients_with_different_ids_never_share_a_token() {
    let (server, directory) = (counting(), Directory::new());
    for id in ["one", "other", "one"] {
        let credentials = Credentials::client(id, CLIENT_SECRET);
        let client = server.builder(credentials).token_file(directory.path(FILE));
        client
            .build()
            .unwrap()
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap();
    }
    assert_eq!(bearers(&server), ["Bearer token-1", "Bearer token-2", "Bearer token-3"]);
}

#[test]
fn an_unwritable_file_causes_no_error() {
    let directory = Directory::new();
    fs::write(directory.path("file"), "").unwrap();
    for path in [
        directory.path("missing/token.json"),
        directory.path("file/token.json"),
        directory.path(".."),
        directory.path(&"x".repeat(300)),
    ] {
        let server = counting();
        update(&server, &path);
        update(&server, &path);
        assert_eq!(server.token_requests().len(), 2, "{path:?}");
    }
    assert_eq!(directory.names(), ["file"]);
}

#[test]
fn a_failed_token_request_leaves_the_file_unchanged() {
    let directory = Directory::new();
    let server = Server::always(confirmed());
    let refusing = Server::start(|_| answer(401, &[], r#"{"error":"invalid_client"}"#));
    let mut expired = valid_content(&refusing);
    expired["expires_at"] = json!(now() - 1);
    write_private(directory.path(FILE), expired.to_string());
    let client = builder(&server, directory.path(FILE)).auth_url(refusing.url());
    let error = client.build().unwrap().authenticate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(content(directory.path(FILE)), expired);
}

/// Runs one test of this file in a process of its own, which makes one update.
fn spawn(test: &str, server: &Server, file: impl AsRef<Path>) -> Child {
    let program = env::current_exe().unwrap();
    let mut command = if cfg!(unix) {
        // With an empty umask, only the library keeps the file private.
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 000 && exec \"$0\" \"$@\""]).arg(program);
        shell
    } else {
        Command::new(program)
    };
    command
        .args(filter_arguments(test))
        .env("TEST_BASE_URL", server.url())
        .env("TEST_TOKEN_FILE", file.as_ref())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn assert_succeeded(child: Child) {
    assert_passed(&child.wait_with_output().unwrap(), "");
}

/// Makes the update if this is such a process, and returns whether it is.
fn update_in_child() -> bool {
    let (Ok(url), Ok(file)) = (env::var("TEST_BASE_URL"), env::var("TEST_TOKEN_FILE")) else {
        return false;
    };
    let client = Client::builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
        .base_url(&url)
        .auth_url(url)
        .proxy("")
        .token_file(file)
        .build()
        .unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    true
}

#[test]
fn many_processes_share_one_file() {
    let name = "many_processes_share_one_file";
    if update_in_child() {
        return;
    }
    let (server, directory) = (counting(), Directory::new());
    let run = || {
        let children: Vec<_> = (0..20).map(|_| spawn(name, &server, directory.path(FILE))).collect();
        children.into_iter().for_each(assert_succeeded);
        let fetched = server.token_requests().len();
        assert!((1..=20).contains(&fetched), "{fetched}");

        for _ in 0..200 {
            assert_succeeded(spawn(name, &server, directory.path(FILE)));
        }
        assert_eq!(
            server.token_requests().len(),
            fetched,
            "every later process loads the token"
        );
    };
    thread::scope(|scope| {
        let running = scope.spawn(run);
        // At any moment, the file is complete and private.
        let mut seen = 0;
        while !running.is_finished() {
            for name in directory.names() {
                // A temporary file may have been removed in the meantime.
                if let Ok(metadata) = fs::symlink_metadata(directory.path(&name)) {
                    assert_private(&metadata);
                }
            }
            if let Ok(text) = fs::read(directory.path(FILE)) {
                let content: Value = serde_json::from_slice(&text).unwrap();
                assert!(content["access_token"].as_str().unwrap().starts_with("token-"));
                seen += 1;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(seen > 0);
    });
    assert_eq!(server.session_requests().len(), 220);
    assert_private(&fs::symlink_metadata(directory.path(FILE)).unwrap());
    assert_eq!(directory.names(), ["token.json"]);
}

#[test]
fn a_long_token_is_cached_too() {
    let long = "t".repeat(8000);
    let server = Server::start(move |request| match request.is_token_request() {
        true => token(&long),
        false => confirmed(),
    });
    let directory = Directory::new();
    update(&server, directory.path(FILE));
    update(&server, directory.path(FILE));
    assert_eq!(server.token_requests().len(), 1);
}

#[test]
fn an_unwritable_file_is_logged_once() {
    capture::start();
    let (server, directory) = (counting(), Directory::new());
    let path = directory.path("missing/token.json");
    let client = builder(&server, &path).build().unwrap();
    for _ in 0..3 {
        let _ = client.authenticate();
    }
    assert_eq!(server.token_requests().len(), 3);
    let [line] = &logged_about(&path)[..] else {
        panic!("{:?}", logged_about(&path));
    };
    assert!(
        line.starts_with("WARN didit::token_file: cannot write the token file "),
        "{line}"
    );
    assert!(line.ends_with("; each process fetches its own access token"), "{line}");
}

/// The lines of the log that name this file.
fn logged_about(path: &str) -> Vec<String> {
    let logged = capture::logged();
    let lines = logged.lines().filter(|line| line.contains(path));
    lines.map(str::to_owned).collect()
}

#[test]
#[cfg(unix)]
fn a_file_that_others_can_read_is_reported_once() {
    capture::start();
    let (server, directory) = (counting(), Directory::new());
    let path = directory.path(FILE);
    write_private(&path, token_file(&server));
    set_mode(&path, 0o644);
    let client = builder(&server, &path).build().unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    let ignored = format!("WARN didit::token_file: ignoring the token file {path}: others can read or write it; ");
    let [line] = &logged_about(&path)[..] else {
        panic!("{:?}", logged_about(&path));
    };
    assert!(line.starts_with(&ignored), "{line}");
    assert!(line.ends_with("; this process fetches its own access token"), "{line}");
}

#[test]
fn the_first_run_logs_nothing_about_a_file_that_does_not_exist_yet() {
    capture::start();
    let (server, directory) = (counting(), Directory::new());
    let path = directory.path(FILE);
    update(&server, &path);
    assert_eq!(logged_about(&path), [""; 0]);
    assert!(!capture::logged().contains("ignoring the token file: No such file"));
}

#[test]
fn a_file_that_another_process_is_writing_causes_no_warning() {
    capture::start();
    let (server, directory) = (counting(), Directory::new());
    directory.file("token.json.tmp", "half a tok");
    let client = builder(&server, directory.path(FILE)).build().unwrap();
    let _ = client.authenticate();
    assert_eq!(logged_about(&directory.path(FILE)), [""; 0]);
}
