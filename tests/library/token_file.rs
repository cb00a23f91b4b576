//! The token file: the next process need not authenticate, and nothing that could be wrong with the file is trusted or
//! does any harm.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use didit::{Client, ClientBuilder, Credentials, ErrorKind, StatusUpdate};
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

/// What a process does that has nothing but the file: a client of its own makes an update.
fn update(server: &Server, file: impl AsRef<Path>) {
    let client = builder(server, file).build().unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
}

fn content(file: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn mode(file: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(file).unwrap().mode() & 0o7777
}

fn write_private(file: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::write(&file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

/// A server that gives out `token-1`, `token-2` and so on, and takes any.
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
fn the_next_client_takes_the_token_from_the_file() {
    let (server, directory) = (counting(), Directory::new());
    for _ in 0..3 {
        update(&server, directory.path(FILE));
    }
    assert_eq!(bearers(&server), ["Bearer token-1"; 3]);
    assert_eq!(server.token_requests().len(), 1);
    assert_eq!(directory.names(), ["token.json"], "nothing temporary is left");
}

#[test]
fn authenticating_asks_whatever_the_file_holds_and_is_enough_for_the_next_client() {
    let (server, directory) = (counting(), Directory::new());
    update(&server, directory.path(FILE));
    let client = builder(&server, directory.path(FILE)).build().unwrap();
    // The server knows no sessions to read, which matters to this test only in that a token was fetched.
    let _ = client.authenticate();
    assert_eq!(server.token_requests().len(), 2);
    assert_eq!(content(directory.path(FILE))["access_token"], "token-2");
    update(&server, directory.path(FILE));
    assert_eq!(server.token_requests().len(), 2);
}

#[test]
fn the_file_is_its_owners_alone_and_holds_no_other_secret() {
    let (server, directory) = (counting(), Directory::new());
    update(&server, directory.path(FILE));
    assert_eq!(mode(directory.path(FILE)), 0o600);
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
fn replacing_leaves_an_open_file_as_it_was() {
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
        "a new file in the place of the old one"
    );
    assert_eq!(content(directory.path(FILE))["access_token"], "token-2");
    assert_ne!(fs::read_to_string(directory.path(FILE)).unwrap(), old);
    assert_eq!(directory.names(), ["token.json"]);
}

/// What is found at the path is not used: the update succeeds with a fresh token. If it is a file, that is `replaced`, and
/// the next client takes the token from there; anything else is left as it is.
fn not_trusted(what: &str, replaced: bool, prepare: impl Fn(&Directory, &Server)) {
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
        assert_eq!(mode(directory.path(FILE)), 0o600, "{what}");
        assert_eq!(content(directory.path(FILE))["access_token"], "token-1", "{what}");
    }
    let temporary = directory.names().into_iter().filter(|name| name.ends_with(".tmp"));
    assert_eq!(temporary.count(), 0, "{what}");
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A file that would be trusted.
fn good(server: &Server) -> Value {
    json!({
        "auth_url": format!("{}/auth/v2/token/", server.url()),
        "client_id": CLIENT_ID,
        "access_token": "planted",
        "fetched_at": now() - 10,
        "expires_at": now() + 1000,
    })
}

#[test]
fn a_good_file_is_trusted_or_the_following_would_prove_nothing() {
    let (server, directory) = (counting(), Directory::new());
    write_private(directory.path(FILE), good(&server).to_string());
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted"]);
    assert_eq!(server.token_requests().len(), 0);
}

#[test]
fn a_file_that_others_can_read_or_write_is_not_trusted() {
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o660, 0o666, 0o777, 0o601] {
        not_trusted(&format!("mode {mode:o}"), true, |directory, server| {
            write_private(directory.path(FILE), good(server).to_string());
            fs::set_permissions(directory.path(FILE), Permissions::from_mode(mode)).unwrap();
        });
    }
}

#[test]
fn a_symlink_is_neither_followed_nor_written_through() {
    not_trusted("a link to a good file", false, |directory, server| {
        let target = directory.path("target");
        write_private(&target, good(server).to_string());
        symlink(target, directory.path(FILE)).unwrap();
    });
    not_trusted("a link to itself", false, |directory, _| {
        symlink(directory.path(FILE), directory.path(FILE)).unwrap();
    });
    let (server, directory) = (counting(), Directory::new());
    symlink(directory.path("target"), directory.path(FILE)).unwrap();
    update(&server, directory.path(FILE));
    assert_eq!(directory.names(), ["token.json"], "nothing is made where it points");
}

#[test]
fn what_belongs_to_another_user_is_not_trusted() {
    let directory = Directory::new();
    write_private(directory.path(FILE), "");
    if lchown(directory.path(FILE), Some(12345), None).is_err() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }
    not_trusted("another user's file", true, |directory, server| {
        write_private(directory.path(FILE), good(server).to_string());
        lchown(directory.path(FILE), Some(12345), None).unwrap();
    });
    not_trusted("another user's link to our own file", false, |directory, server| {
        let target = directory.path("target");
        write_private(&target, good(server).to_string());
        symlink(&target, directory.path(FILE)).unwrap();
        lchown(directory.path(FILE), Some(12345), None).unwrap();
    });
    not_trusted("our link to another user's file", false, |directory, server| {
        let target = directory.path("target");
        write_private(&target, good(server).to_string());
        lchown(&target, Some(12345), None).unwrap();
        symlink(&target, directory.path(FILE)).unwrap();
    });
}

#[test]
fn what_is_no_file_is_not_trusted_and_no_failure() {
    not_trusted("a directory", false, |directory, _| {
        fs::create_dir(directory.path(FILE)).unwrap();
    });
    not_trusted("a directory with something in it", false, |directory, _| {
        fs::create_dir(directory.path(FILE)).unwrap();
        fs::write(directory.path("token.json/something"), "").unwrap();
    });
    not_trusted("a pipe, which nobody writes to", false, |directory, _| {
        let made = Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(directory.path(FILE))
            .status();
        assert!(made.unwrap().success());
    });
    not_trusted("a socket", false, |directory, _| {
        std::os::unix::net::UnixListener::bind(directory.path(FILE)).unwrap();
    });
}

#[test]
fn garbage_is_not_trusted() {
    for garbage in ["", "\0", "garbage", "{", "{}", "null", "[]", "\u{feff}{}", "token"] {
        not_trusted(&format!("{garbage:?}"), true, |directory, _| {
            write_private(directory.path(FILE), garbage);
        });
    }
    not_trusted("invalid UTF-8", true, |directory, _| {
        write_private(directory.path(FILE), b"{\"access_token\":\"\xff\"}");
    });
    not_trusted("half a file", true, |directory, server| {
        let text = good(server).to_string();
        write_private(directory.path(FILE), &text[..text.len() - 3]);
    });
    for size in [64 * 1024 + 1, 100 << 20] {
        not_trusted(&format!("{size} bytes"), true, |directory, server| {
            let text = good(server).to_string();
            write_private(directory.path(FILE), format!("{text}{}", " ".repeat(64 * 1024)));
            File::options()
                .write(true)
                .open(directory.path(FILE))
                .unwrap()
                .set_len(size)
                .unwrap();
        });
    }
}

#[test]
fn a_file_that_holds_something_else_is_left_alone() {
    for something in [
        "session_id,new_status\n4c5c7f3a,Approved\n",
        "#!/bin/sh\necho\n",
        r#"{"new_status":"Approved"}"#,
    ] {
        let (server, directory) = (counting(), Directory::new());
        write_private(directory.path(FILE), something);
        update(&server, directory.path(FILE));
        assert_eq!(fs::read_to_string(directory.path(FILE)).unwrap(), something);
        assert_eq!(directory.names(), ["token.json"]);
    }
}

#[test]
fn what_a_killed_process_left_behind_is_cleared_away_but_not_what_another_is_writing() {
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
    assert_eq!(mode(directory.path(FILE)), 0o600);
}

#[test]
fn a_token_of_another_client_host_or_time_is_not_trusted() {
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
        not_trusted(&change.to_string(), true, |directory, server| {
            let mut content = good(server);
            for (key, value) in change.as_object().unwrap() {
                content[key] = value.clone();
            }
            write_private(directory.path(FILE), content.to_string());
        });
    }
}

#[test]
fn a_token_from_the_file_that_the_api_refuses_is_replaced_there_too() {
    let directory = Directory::new();
    let server = Server::start(|request| match request.header("authorization") {
        _ if request.is_token_request() => token("fresh"),
        Some("Bearer fresh") => confirmed(),
        _ => answer(401, &[], ""),
    });
    write_private(directory.path(FILE), good(&server).to_string());
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted", "Bearer fresh"]);
    assert_eq!(content(directory.path(FILE))["access_token"], "fresh");
    update(&server, directory.path(FILE));
    assert_eq!(server.token_requests().len(), 1);
}

#[test]
fn a_refused_token_that_another_process_replaced_is_taken_from_the_file() {
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
    write_private(directory.path(FILE), good(&server).to_string());
    update(&server, directory.path(FILE));
    assert_eq!(bearers(&server), ["Bearer planted", "Bearer by-another"]);
    assert_eq!(server.token_requests().len(), 0);
}

#[test]
fn a_refused_token_is_not_taken_again_from_a_file_that_cannot_be_written() {
    let (directory, tokens) = (Directory::new(), AtomicUsize::new(0));
    let revoked = Arc::new(Mutex::new(vec!["Bearer planted".to_owned()]));
    let known = revoked.clone();
    let server = Server::start(move |request| match request.header("authorization") {
        _ if request.is_token_request() => token(&format!("token-{}", tokens.fetch_add(1, SeqCst) + 1)),
        Some(bearer) if known.lock().unwrap().iter().any(|known| known == bearer) => answer(401, &[], ""),
        _ => confirmed(),
    });
    write_private(directory.path(FILE), good(&server).to_string());
    // So that the file is not written: another process does.
    directory.file("token.json.tmp", "half a tok");
    let client = builder(&server, directory.path(FILE)).build().unwrap();
    let approve = || client.update_status(&session_id(), &StatusUpdate::approved());
    approve().unwrap();
    revoked.lock().unwrap().push("Bearer token-1".to_owned());
    let result = approve();
    let told = bearers(&server);
    assert_eq!(
        told,
        ["Bearer planted", "Bearer token-1", "Bearer token-1", "Bearer token-2"]
    );
    result.unwrap();
}

#[test]
fn two_clients_that_share_a_file_do_not_take_each_others_tokens() {
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
fn a_file_that_cannot_be_written_is_no_failure() {
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
fn a_failed_fetch_leaves_the_file_alone() {
    let directory = Directory::new();
    let server = Server::always(confirmed());
    let refusing = Server::start(|_| answer(401, &[], r#"{"error":"invalid_client"}"#));
    let mut expired = good(&refusing);
    expired["expires_at"] = json!(now() - 1);
    write_private(directory.path(FILE), expired.to_string());
    let client = builder(&server, directory.path(FILE)).auth_url(refusing.url());
    let error = client.build().unwrap().authenticate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(content(directory.path(FILE)), expired);
}

/// Starts one test of this file as a process of its own, which makes one update.
fn process(test: &str, server: &Server, file: impl AsRef<Path>) -> Child {
    // Nothing is masked for it: that others cannot read the file is the library's doing.
    Command::new("sh")
        .args(["-c", "umask 000 && exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(filter_arguments(test))
        .env("TEST_BASE_URL", server.url())
        .env("TEST_TOKEN_FILE", file.as_ref())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn succeeded(child: Child) {
    assert_passed(&child.wait_with_output().unwrap(), "");
}

/// In such a process: the update.
fn as_told() -> bool {
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
fn twenty_processes_at_once_and_two_hundred_after_them_share_one_file() {
    let name = "twenty_processes_at_once_and_two_hundred_after_them_share_one_file";
    if as_told() {
        return;
    }
    let (server, directory) = (counting(), Directory::new());
    let run = || {
        let children: Vec<_> = (0..20).map(|_| process(name, &server, directory.path(FILE))).collect();
        children.into_iter().for_each(succeeded);
        let fetched = server.token_requests().len();
        assert!((1..=20).contains(&fetched), "{fetched}");

        for _ in 0..200 {
            succeeded(process(name, &server, directory.path(FILE)));
        }
        assert_eq!(server.token_requests().len(), fetched, "no further one");
    };
    thread::scope(|scope| {
        let running = scope.spawn(run);
        // Whatever is there at any moment is whole, and nobody else's to read.
        let mut seen = 0;
        while !running.is_finished() {
            for name in directory.names() {
                // A temporary file may be gone by now.
                if let Ok(found) = fs::symlink_metadata(directory.path(&name)) {
                    assert_eq!(found.mode() & 0o7777, 0o600, "{name}");
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
    assert_eq!(mode(directory.path(FILE)), 0o600);
    assert_eq!(directory.names(), ["token.json"]);
}

#[test]
fn a_long_token_is_kept_as_well() {
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
fn a_file_that_cannot_be_written_is_logged_once_and_is_no_error() {
    capture::start();
    let (server, directory) = (counting(), Directory::new());
    let path = directory.path("missing/token.json");
    let client = builder(&server, &path).build().unwrap();
    for _ in 0..3 {
        let _ = client.authenticate();
    }
    assert_eq!(server.token_requests().len(), 3);
    let logged = capture::logged();
    let about_it: Vec<_> = logged.lines().filter(|line| line.contains(&*path)).collect();
    let [line] = about_it[..] else {
        panic!("{about_it:?}");
    };
    assert!(line.starts_with("WARN didit::token_file: token file "), "{line}");
    assert!(line.ends_with("; each process fetches its own access token"), "{line}");
}

#[test]
fn a_file_that_another_process_is_writing_is_no_warning() {
    capture::start();
    let (server, directory) = (counting(), Directory::new());
    directory.file("token.json.tmp", "half a tok");
    let client = builder(&server, directory.path(FILE)).build().unwrap();
    let _ = client.authenticate();
    let logged = capture::logged();
    let path = directory.path(FILE);
    assert!(!logged.contains(&*path), "{logged}");
}
