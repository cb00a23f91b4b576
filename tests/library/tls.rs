//! Nothing of a request is sent before the server has proven its identity, and nothing falls back to plain HTTP.

use std::io::{self, BufReader, ErrorKind as Io, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use didit::{Client, ClientBuilder, Credentials, ErrorKind, Node, RetryPolicy, StatusUpdate, Verdict};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions, WantsServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::support::directory::Directory;
use crate::support::process::{is_child, run_in_child};
use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, LONG, Request, SESSION, Server, Step, Stream, answer, confirmed, in_turn, lock,
    read_request, session_id, wait_for,
};

/// Whether the client uses rustls. With several features, rustls wins.
const RUSTLS: bool = cfg!(any(feature = "rustls", feature = "rustls-no-provider"));

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A private certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Returns another authority, which this one has signed.
    fn intermediate(&self, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn certify(&self, host: &str) -> Arc<ServerConfig> {
        self.certify_as(CertificateParams::new([host.to_owned()]).unwrap())
    }

    fn certify_as(&self, params: CertificateParams) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        self.sign(params, builder.with_no_client_auth())
    }

    /// Returns the configuration of a server that requires client certificates.
    fn certify_for_clients(&self, host: &str, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        self.sign(params, builder.with_client_cert_verifier(verifier.build().unwrap()))
    }

    fn sign(
        &self,
        params: CertificateParams,
        config: ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_single_cert(vec![CertificateDer::from(certificate)], key);
        Arc::new(config.unwrap())
    }
}

/// A connection that records the bytes it receives, before they are decrypted.
struct Tapped {
    stream: TcpStream,
    wire: Wire,
}

type Wire = Arc<Mutex<Vec<u8>>>;

impl Read for Tapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        lock(&self.wire).extend(&buffer[..n]);
        Ok(n)
    }
}

impl Write for Tapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn encrypted(config: &Arc<ServerConfig>, stream: Tapped) -> Box<dyn Stream> {
    let connection = ServerConnection::new(config.clone()).unwrap();
    Box::new(StreamOwned::new(connection, stream))
}

/// A TLS server that answers each request with the next of `turns`.
fn tls_server(config: Arc<ServerConfig>, turns: Vec<Vec<Step>>) -> (Server, Wire) {
    let wire = Wire::default();
    let tap = wire.clone();
    let server = Server::start_wrapped(
        move |stream| {
            encrypted(
                &config,
                Tapped {
                    stream,
                    wire: tap.clone(),
                },
            )
        },
        in_turn(turns),
    );
    (server, wire)
}

/// Installs a provider, which this feature leaves to the program.
#[cfg(all(feature = "rustls-no-provider", not(feature = "rustls")))]
pub fn install_provider() {
    // Fails if another test has installed one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(not(all(feature = "rustls-no-provider", not(feature = "rustls"))))]
pub fn install_provider() {}

fn https(server: &Server, credentials: Credentials) -> ClientBuilder {
    install_provider();
    let url = server.url().replace("http://", "https://");
    server.builder(credentials).base_url(&url).auth_url(url)
}

fn trusting(server: &Server, pem: &str) -> Client {
    https(server, Credentials::api_key(API_KEY))
        .root_certificates(pem)
        .build()
        .unwrap()
}

/// Fails unless both an update and a token request end before anything of them is sent, with these words in the error. They
/// are `retried` only if a retry can help.
fn assert_nothing_is_sent(server: &Server, wire: &Wire, roots: Option<&str>, retried: bool, words: &[&str]) {
    let credentials = [
        Credentials::api_key(API_KEY),
        Credentials::client(CLIENT_ID, CLIENT_SECRET),
    ];
    for (calls, credentials) in (1..).zip(credentials) {
        let mut builder = https(server, credentials);
        if let Some(pem) = roots {
            builder = builder.root_certificates(pem);
        }
        let client = builder.build().unwrap();
        let error = client
            .update_status(&session_id(), &StatusUpdate::declined())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert_eq!(error.verdict(), Verdict::NotApplied, "{error}");
        let message = error.to_string();
        assert!(message.contains(&server.address().to_string()), "{message}");
        for words in words {
            assert!(message.contains(words), "{words}: {message}");
        }
        for internal in [
            "UnknownIssuer",
            "UNIX",
            "os error",
            "invalid peer",
            "SSL routines",
            "rustls",
            "native",
        ] {
            assert!(!message.contains(internal), "{message}");
        }
        assert_eq!(error.is_retryable(), retried, "{error}");
        assert!(std::error::Error::source(&error).is_none());
        assert_eq!(error.status(), None);
        assert_eq!(server.connections(), calls * if retried { 3 } else { 1 });
    }
    assert_eq!(server.requests().len(), 0);
    let wire = String::from_utf8_lossy(&lock(wire)).into_owned();
    assert!(!wire.is_empty(), "the client sent a ClientHello");
    for word in ["PATCH", "POST", "HTTP/1.1", API_KEY, "Basic "] {
        assert!(!wire.contains(word), "{word} was sent unencrypted");
    }
}

#[test]
fn a_server_with_an_untrusted_certificate_receives_nothing() {
    let config = Authority::new("unknown").certify("127.0.0.1");
    let (server, wire) = tls_server(config.clone(), vec![]);
    let words = ["the certificate of ", "is signed by an untrusted certificate authority"];
    assert_nothing_is_sent(
        &server,
        &wire,
        None,
        false,
        &[words[0], words[1], "if a proxy inspects TLS"],
    );

    let (server, wire) = tls_server(config, vec![]);
    let another = Authority::new("another").pem;
    let words = [words[0], words[1], "check root_certificates (DIDIT_CA_FILE)"];
    assert_nothing_is_sent(&server, &wire, Some(&another), false, &words);
}

#[test]
fn a_server_with_another_hosts_certificate_receives_nothing() {
    let authority = Authority::new("private");
    for host in ["elsewhere.test", "127.0.0.2"] {
        let (server, wire) = tls_server(authority.certify(host), vec![]);
        // Only rustls reports the names.
        let name = match RUSTLS {
            true => format!("is for {host}, not for this host"),
            false => "is for another host".into(),
        };
        let words = ["the certificate of ", &name, "check the host in the URL"];
        assert_nothing_is_sent(&server, &wire, Some(&authority.pem), false, &words);
    }
}

#[test]
fn a_server_with_an_expired_certificate_receives_nothing() {
    let authority = Authority::new("private");
    for (from, to, words) in [
        (2019, 2020, if RUSTLS { " days ago" } else { "has expired" }),
        (4000, 4001, if RUSTLS { " days from now" } else { "is not valid yet" }),
    ] {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let (server, wire) = tls_server(authority.certify_as(params), vec![]);
        let words = [words, "check this machine's clock"];
        assert_nothing_is_sent(&server, &wire, Some(&authority.pem), false, &words);
    }
}

/// A server that reads the client's first bytes, answers with `greeting`, and closes the connection.
fn raw_server(greeting: &'static [u8]) -> (Server, Wire) {
    let wire = Wire::default();
    let tap = wire.clone();
    let server = Server::start_wrapped(
        move |mut stream| {
            let mut hello = [0; 4096];
            let n = stream.read(&mut hello).unwrap();
            lock(&tap).extend(&hello[..n]);
            stream.write_all(greeting).unwrap();
            Box::new(io::empty())
        },
        |request| panic!("an unencrypted request: {request:?}"),
    );
    (server, wire)
}

#[test]
fn a_handshake_that_breaks_off_sends_nothing() {
    // Nothing at all, and the beginning of a record.
    for greeting in [&b""[..], &[22, 3, 3, 0, 122, 2, 0, 0]] {
        let (server, wire) = raw_server(greeting);
        assert_nothing_is_sent(&server, &wire, None, true, &["connecting to ", "retry"]);
    }
}

#[test]
fn a_server_with_plain_http_on_the_tls_port_receives_nothing() {
    let (server, wire) = raw_server(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    assert_nothing_is_sent(
        &server,
        &wire,
        None,
        false,
        &["does not speak TLS on this port", "check the port"],
    );
}

#[test]
fn a_server_that_refuses_the_handshake_receives_nothing_and_its_alert_is_named() {
    for (alert, words) in [
        (40, "refused the TLS handshake (TLS alert handshake_failure)"),
        (42, "wants a client certificate, which didit cannot send"),
        (49, "denies access to this machine (TLS alert access_denied)"),
        (70, "failed: no version or cipher suits both sides"),
        (112, "does not serve this host name (TLS alert unrecognized_name)"),
        (116, "wants a client certificate, which didit cannot send"),
    ] {
        let greeting = Vec::leak(vec![21, 3, 3, 0, 2, 2, alert]);
        let (server, wire) = raw_server(greeting);
        assert_nothing_is_sent(&server, &wire, None, false, &[words]);
    }
}

/// Keeps reading after a failed handshake, so that no reset destroys the alert.
struct ReadsAlert(StreamOwned<ServerConnection, Tapped>);

impl Read for ReadsAlert {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).inspect_err(|_| {
            let _ = io::copy(&mut self.0.sock, &mut io::sink());
        })
    }
}

impl Write for ReadsAlert {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn a_server_that_requires_a_client_certificate_means_not_applied() {
    // In TLS 1.3 the alert follows after the request was sent.
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new("private");
        let config = authority.certify_for_clients("127.0.0.1", version);
        let wire = Wire::default();
        let tap = wire.clone();
        let server = Server::start_wrapped(
            move |stream| {
                let wire = tap.clone();
                let connection = ServerConnection::new(config.clone()).unwrap();
                Box::new(ReadsAlert(StreamOwned::new(connection, Tapped { stream, wire })))
            },
            |request| panic!("a request without a client certificate: {request:?}"),
        );
        let words = [
            "wants a client certificate, which didit cannot send; ",
            "; a gateway in between may be asking for it",
        ];
        assert_nothing_is_sent(&server, &wire, Some(&authority.pem), false, &words);
        let error = trusting(&server, &authority.pem).session(&session_id()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert!(error.to_string().contains(words[0]), "{error}");
    }
}

#[test]
fn a_certificate_that_is_not_for_servers_is_rejected_with_the_reason() {
    let authority = Authority::new("private");
    let params = || CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let mut clients = params();
    clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (server, wire) = tls_server(authority.certify_as(clients), vec![]);
    let words = ["the certificate of ", "is not for servers (perhaps for clients)"];
    assert_nothing_is_sent(&server, &wire, Some(&authority.pem), false, &words);

    // OpenSSL accepts it.
    if RUSTLS {
        let mut issuers = params();
        issuers.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (server, wire) = tls_server(authority.certify_as(issuers), vec![]);
        let words = [
            "the certificate of ",
            "belongs to a certificate authority, not to a server",
        ];
        assert_nothing_is_sent(&server, &wire, Some(&authority.pem), false, &words);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

/// The reason why these certificates are rejected when the client is built.
fn rejected(certificates: impl AsRef<[u8]>) -> String {
    install_provider();
    let builder = Client::builder(Credentials::api_key(API_KEY))
        .proxy("")
        .root_certificates(certificates);
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let message = error.to_string();
    let problem = message.strip_prefix("root_certificates (DIDIT_CA_FILE): ");
    problem.unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[test]
fn a_damaged_root_certificate_is_a_configuration_error() {
    let whole = Authority::new("private").pem;
    let der = CertificateDer::from_pem_slice(whole.as_bytes()).unwrap();
    for junk in [
        &b"hello"[..],
        &[0x30, 3, 1, 2],
        &[0x30, 1, 1, 2],
        &[0x31, 2, 1, 2],
        &[0x30, 0x80, 0, 0],
        &[0x30, 2, 5, 0],
        &der[..der.len() - 1],
        &[&der[..], &[0]].concat(),
    ] {
        for mixed in [
            pem("CERTIFICATE", junk),
            format!("{whole}{}", pem("CERTIFICATE", junk)),
            format!("{}{whole}", pem("CERTIFICATE", junk)),
        ] {
            assert_eq!(rejected(mixed), "one of its certificates is invalid or damaged");
        }
    }
    for begin in [" -----BEGIN", "----- BEGIN", "-----BEGI", "----BEGIN"] {
        let damaged = whole.replace("-----BEGIN", begin);
        for mixed in [format!("{whole}{damaged}"), format!("{damaged}{whole}"), damaged] {
            assert_eq!(
                rejected(mixed),
                "one of its certificates is invalid or damaged",
                "{begin}"
            );
        }
    }
}

#[test]
fn root_certificates_in_another_format_are_rejected_with_the_command_that_converts_them() {
    let whole = Authority::new("private").pem;
    let der = CertificateDer::from_pem_slice(whole.as_bytes()).unwrap();
    // A SEQUENCE that begins with the OBJECT IDENTIFIER signedData.
    let pkcs7 = [0x30, 11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    for (certificates, name, command) in [
        (der.to_vec(), "DER", "`openssl x509 -inform DER -in FILE -out ca.pem`"),
        (
            pkcs7.to_vec(),
            "PKCS #7",
            "`openssl pkcs7 -inform DER -print_certs -in FILE -out ca.pem`",
        ),
        (
            pem("PKCS7", &pkcs7).into(),
            "PKCS #7",
            "`openssl pkcs7 -print_certs -in FILE -out ca.pem`",
        ),
        (
            format!("{whole}{}", pem("TRUSTED CERTIFICATE", &der)).into(),
            "TRUSTED CERTIFICATE",
            "`openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out ca.pem`",
        ),
        (
            format!("{whole}{}", pem("X509 CERTIFICATE", &der)).into(),
            "X509 CERTIFICATE",
            "openssl pkcs7 -print_certs -out ca.pem`",
        ),
    ] {
        let problem = rejected(certificates);
        assert!(problem.contains(name) && problem.ends_with(command), "{problem}");
    }
}

#[test]
fn the_connect_timeout_limits_a_handshake() {
    let server = Server::start_wrapped(
        |mut stream| {
            let _ = io::copy(&mut stream, &mut io::sink());
            Box::new(io::empty())
        },
        |request| panic!("an unencrypted request: {request:?}"),
    );
    let client = https(&server, Credentials::api_key(API_KEY))
        .connect_timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let error = client
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(error.verdict(), Verdict::NotApplied);
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_private_authority_from_the_caller_is_trusted() {
    let authority = Authority::new("private");
    let (server, wire) = tls_server(authority.certify("127.0.0.1"), vec![confirmed()]);
    let updated = trusting(&server, &authority.pem)
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap();
    assert_eq!(updated.session_id, session_id());
    let request = &server.requests()[0];
    assert_eq!(request.method, "PATCH");
    assert_eq!(request.header("x-api-key"), Some(API_KEY));
    assert_eq!(request.text(), r#"{"new_status":"Declined"}"#);
    assert!(!String::from_utf8_lossy(&lock(&wire)).contains("PATCH"));
}

#[test]
fn a_private_authority_from_the_environments_file_is_trusted() {
    let name = "a_private_authority_from_the_environments_file_is_trusted";
    if is_child() {
        install_provider();
        let client = ClientBuilder::from_env().unwrap().proxy("").build().unwrap();
        client.update_status(&session_id(), &StatusUpdate::declined()).unwrap();
        return;
    }
    let authority = Authority::new("private");
    let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![confirmed()]);
    let directory = Directory::new();
    let file = directory.file("ca.pem", &authority.pem);
    run_in_child(
        name,
        &[
            ("DIDIT_API_KEY", API_KEY),
            ("DIDIT_BASE_URL", &server.url().replace("http://", "https://")),
            ("DIDIT_CA_FILE", &file),
        ],
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_bundle_may_hold_other_authorities_keys_and_a_byte_order_mark() {
    let authority = Authority::new("private");
    let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![confirmed()]);
    let bundle = [
        "\u{feff}# two other authorities, a key, parameters, a revocation list, a request, and ours\n",
        &Authority::new("first").pem,
        &Authority::new("second").pem,
        &KeyPair::generate().unwrap().serialize_pem(),
        &pem("ENCRYPTED PRIVATE KEY", &[0x30, 0]),
        &pem("EC PARAMETERS", &[6, 0]),
        &pem("X509 CRL", &[0x30, 0]),
        &pem("CERTIFICATE REQUEST", &[0x30, 0]),
        &authority.pem,
    ];
    trusting(&server, &bundle.concat())
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn client_credentials_use_tls_for_both_hosts() {
    let authority = Authority::new("private");
    let (server, wire) = tls_server(
        authority.certify("127.0.0.1"),
        vec![crate::support::token("the-token"), confirmed()],
    );
    https(&server, Credentials::client(CLIENT_ID, CLIENT_SECRET))
        .root_certificates(&authority.pem)
        .build()
        .unwrap()
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap();
    assert_eq!(server.token_requests().len(), 1);
    let patch = &server.session_requests()[0];
    assert_eq!(patch.header("authorization"), Some("Bearer the-token"));
    assert!(!String::from_utf8_lossy(&lock(&wire)).contains("HTTP/1.1"));
}

#[test]
fn root_certificates_without_a_certificate_are_a_configuration_error() {
    let authority = Authority::new("private");
    let key = KeyPair::generate().unwrap().serialize_pem();
    for none in ["", "garbage", "\0\u{1}\u{2}", "0", &key] {
        assert_eq!(rejected(none), "contains no certificate");
    }
    let cut = &authority.pem[..authority.pem.len() / 2];
    let no_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    for broken in [cut, no_base64] {
        assert_eq!(rejected(broken), "not PEM");
    }
}

/// Without a provider, ureq would panic at the first call.
#[test]
#[cfg(all(feature = "rustls-no-provider", not(feature = "rustls")))]
fn without_a_provider_https_is_rejected_with_the_line_that_installs_one() {
    if !is_child() {
        return run_in_child(
            "without_a_provider_https_is_rejected_with_the_line_that_installs_one",
            &[],
        );
    }
    let key = || Client::builder(Credentials::api_key(API_KEY)).proxy("");
    let plain = key().base_url("http://127.0.0.1:1");
    for (builder, place) in [
        (key(), "base_url (DIDIT_BASE_URL): "),
        (
            plain.clone().auth_url("https://127.0.0.1:1"),
            "auth_url (DIDIT_AUTH_URL): ",
        ),
        (plain.clone().proxy("https://127.0.0.1:1"), "proxy: "),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let message = error.to_string();
        assert!(message.starts_with(place), "{message}");
        assert!(
            message.ends_with("rustls::crypto::aws_lc_rs::default_provider().install_default()"),
            "{message}"
        );
    }
    plain.build().unwrap();
    install_provider();
    key().build().unwrap();
}

#[test]
fn updates_over_tls_share_one_connection() {
    let authority = Authority::new("private");
    for deadline in [None, Some(LONG)] {
        let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![confirmed(); 5]);
        let mut builder = https(&server, Credentials::api_key(API_KEY)).root_certificates(&authority.pem);
        if let Some(deadline) = deadline {
            builder = builder.deadline(deadline);
        }
        let client = builder.build().unwrap();
        for _ in 0..5 {
            client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        }
        assert_eq!(server.requests().len(), 5);
        assert_eq!(server.connections(), 1, "deadline {deadline:?}");
    }
}

/// Counts the sessions of earlier connections that clients resume.
#[derive(Debug)]
struct CountedSessions {
    sessions: Arc<ServerSessionMemoryCache>,
    resumed: Arc<AtomicUsize>,
}

impl StoresServerSessions for CountedSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let session = self.sessions.take(key)?;
        self.resumed.fetch_add(1, SeqCst);
        Some(session)
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}

#[test]
fn a_new_connection_resumes_the_session_of_an_earlier_one() {
    let resubmitted = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]);
    // A limit of its own, or a new connection for each update, must not set TLS up anew.
    for (deadline, update) in [(2 * LONG, resubmitted), (LONG, StatusUpdate::approved())] {
        let authority = Authority::new("private");
        let mut config = authority.certify("127.0.0.1");
        let resumed = Arc::new(AtomicUsize::new(0));
        Arc::get_mut(&mut config).unwrap().session_storage = Arc::new(CountedSessions {
            sessions: ServerSessionMemoryCache::new(256),
            resumed: resumed.clone(),
        });
        let close = answer(
            200,
            &[("connection", "close")],
            format!(r#"{{"session_id":"{SESSION}"}}"#),
        );
        let (server, _wire) = tls_server(config, vec![close; 4]);
        let client = https(&server, Credentials::api_key(API_KEY))
            .root_certificates(&authority.pem)
            .timeout(2 * LONG)
            .deadline(deadline)
            .build()
            .unwrap();
        for _ in 0..4 {
            client.update_status(&session_id(), &update).unwrap();
        }
        assert_eq!(server.connections(), 4, "deadline {deadline:?}");
        if RUSTLS {
            // OpenSSL's clients keep sessions only if they are told to.
            assert_eq!(resumed.load(SeqCst), 3, "deadline {deadline:?}");
        }
    }
}

#[test]
fn a_reset_after_the_request_leaves_the_update_in_doubt() {
    let authority = Authority::new("private");
    let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![vec![Step::Reset]; 3]);
    let error = trusting(&server, &authority.pem)
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
    assert_eq!(server.methods(), "PATCH GET GET", "it is read before it is repeated");
}

/// How a connection ends, as the server sees it, after one update that was answered or not.
fn end_of_connection(answers: bool) -> Result<usize, Io> {
    let authority = Authority::new("private");
    let config = authority.certify("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let connection = ServerConnection::new(config).unwrap();
        let stream = StreamOwned::new(connection, socket.try_clone().unwrap());
        let mut stream = BufReader::new(stream);
        // TLS 1.3 sends its tickets here: the client has received something, but no response.
        read_request(&mut stream, 0, None).unwrap();
        if let (true, [Step::Send(answer)]) = (answers, &confirmed()[..]) {
            stream.get_mut().write_all(answer).unwrap();
        }
        socket.read(&mut [0]).map_err(|error| error.kind())
    });
    let client = Client::builder(Credentials::api_key(API_KEY))
        .base_url(url)
        .root_certificates(&authority.pem)
        .proxy("")
        .timeout(Duration::from_secs(2))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let result = client.update_status(&session_id(), &StatusUpdate::approved());
    assert_eq!(result.is_ok(), answers, "{result:?}");
    drop(client);
    server.join().unwrap()
}

#[test]
fn an_abandoned_request_resets_its_connection() {
    assert_eq!(end_of_connection(false), Err(Io::ConnectionReset));
    assert_eq!(end_of_connection(true), Ok(0));
}

#[test]
fn a_response_cut_off_without_close_notify_is_never_a_confirmation() {
    let authority = Authority::new("private");
    let cut = b"HTTP/1.1 200 OK\r\n\r\n{\"session_id\":\"".to_vec();
    let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![vec![Step::Send(cut), Step::Close]]);
    let error = trusting(&server, &authority.pem)
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{error}");
    assert_eq!(error.verdict(), Verdict::Unknown);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn after_an_idle_connection_was_closed_the_next_update_is_sent_once() {
    let authority = Authority::new("private");
    let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![confirmed(); 2]);
    let client = trusting(&server, &authority.pem);
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    server.close_connections();
    client.update_status(&session_id(), &StatusUpdate::declined()).unwrap();
    let bodies: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.text().to_owned())
        .collect();
    assert_eq!(bodies, [r#"{"new_status":"Approved"}"#, r#"{"new_status":"Declined"}"#]);
    assert_eq!(server.connections(), 2);
}

/// Sends a close_notify when it is dropped, and then a message over the channel.
struct Closing {
    stream: StreamOwned<ServerConnection, TcpStream>,
    closed: Sender<()>,
}

impl Read for Closing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        let _ = self.closed.send(());
    }
}

#[test]
fn after_a_close_notify_the_next_update_is_sent_once() {
    let authority = Authority::new("private");
    let config = authority.certify("127.0.0.1");
    let (closed, is_closed) = mpsc::channel();
    let mut then_close = confirmed();
    then_close.push(Step::Close);
    let server = Server::start_wrapped(
        move |stream| {
            let stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            let closed = closed.clone();
            Box::new(Closing { stream, closed })
        },
        in_turn(vec![then_close, confirmed()]),
    );
    let client = trusting(&server, &authority.pem);
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    is_closed.recv_timeout(LONG).unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    assert_eq!(server.requests().len(), 2);
    assert_eq!(server.connections(), 2);
}

/// The message of an update of `https://sessions.test` through this proxy, which fails before anything of it is sent.
fn through_proxy(proxy: String, roots: Option<&str>) -> String {
    install_provider();
    let builder = Client::builder(Credentials::api_key(API_KEY)).base_url("https://sessions.test");
    let mut builder = builder.proxy(proxy).retry(RetryPolicy::none());
    if let Some(pem) = roots {
        builder = builder.root_certificates(pem);
    }
    let client = builder.build().unwrap();
    let error = client
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Network, Verdict::NotApplied),
        "{error}"
    );
    error.to_string()
}

#[test]
fn a_proxy_that_does_not_speak_tls_is_blamed_and_not_the_host() {
    let (server, _) = raw_server(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let text = through_proxy(server.url().replace("http://", "https://"), None);
    let blamed = format!("the proxy {} does not speak TLS on this port", server.address());
    assert!(text.contains(&blamed), "{text}");
    assert!(text.contains("use http:// in the proxy's URL"), "{text}");
    assert!(!text.contains("sessions.test"), "{text}");

    // The reverse: a TLS server answers plain HTTP with an alert.
    let (server, _) = raw_server(&[21, 3, 3, 0, 2, 2, 70]);
    let text = through_proxy(server.url(), None);
    let words = "the proxy answered with something that is not HTTP; does it expect https:// in its URL?";
    assert!(text.contains(words), "{text}");
}

#[test]
fn a_failed_handshake_is_blamed_on_the_proxy_or_on_the_host_inside_its_tunnel() {
    // The certificate of the proxy.
    let authority = Authority::new("private");
    let (server, _) = tls_server(authority.certify("127.0.0.1"), vec![]);
    let text = through_proxy(server.url().replace("http://", "https://"), None);
    assert!(
        text.contains(&format!(
            "the certificate of the proxy {} is signed by",
            server.address()
        )),
        "{text}"
    );

    // The certificate of the host.
    let (proxy, host) = (authority.certify("127.0.0.1"), authority.certify("elsewhere.test"));
    let server = Server::start_wrapped(
        move |stream| {
            let connection = ServerConnection::new(proxy.clone()).unwrap();
            let mut tunnel = StreamOwned::new(connection, stream);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && tunnel.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            tunnel
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .unwrap();
            Box::new(StreamOwned::new(ServerConnection::new(host.clone()).unwrap(), tunnel))
        },
        |request| panic!("a request to another host: {request:?}"),
    );
    let text = through_proxy(server.url().replace("http://", "https://"), Some(&authority.pem));
    assert!(
        text.contains("the certificate of sessions.test, through the proxy 127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn an_incomplete_chain_and_a_certificate_without_a_host_are_explained() {
    // The server sends its own certificate, but not that of the authority that signed it.
    let root = Authority::new("root");
    let intermediate = root.intermediate("intermediate");
    let (server, wire) = tls_server(intermediate.certify("127.0.0.1"), vec![]);
    let words = [
        "or the server does not send the whole chain",
        "intermediate certificates",
    ];
    assert_nothing_is_sent(&server, &wire, Some(&root.pem), false, &words);

    // OpenSSL accepts the common name.
    if RUSTLS {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
        let (server, wire) = tls_server(root.certify_as(params), vec![]);
        let words = [
            "names no host: it has no subjectAltName",
            "needs a certificate with its host name",
        ];
        assert_nothing_is_sent(&server, &wire, Some(&root.pem), false, &words);
    }
}

#[test]
fn a_proxy_sees_only_the_name_of_the_host() {
    let authority = Authority::new("private");
    let config = authority.certify("sessions.test");
    let wire = Wire::default();
    let tap = wire.clone();
    let server = Server::start_wrapped(
        move |stream| {
            let mut stream = Tapped {
                stream,
                wire: tap.clone(),
            };
            let mut byte = [0];
            while !lock(&stream.wire).ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {}
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .unwrap();
            encrypted(&config, stream)
        },
        in_turn(vec![confirmed()]),
    );
    install_provider();
    Client::builder(Credentials::api_key(API_KEY))
        .base_url("https://sessions.test")
        .proxy(server.url())
        .root_certificates(&authority.pem)
        .build()
        .unwrap()
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap();
    assert_eq!(server.requests()[0].header("host"), Some("sessions.test"));
    let wire = String::from_utf8_lossy(&lock(&wire)).into_owned();
    assert!(wire.starts_with("CONNECT sessions.test:443 HTTP/1.1\r\n"), "{wire}");
    assert!(!wire.contains("PATCH") && !wire.contains(API_KEY), "{wire}");
}

#[test]
fn a_redirect_to_plain_http_is_not_followed() {
    let authority = Authority::new("private");
    let plain = Server::always(confirmed());
    let place = [("location", &*format!("{}/v3/session/x/update-status/", plain.url()))];
    let (server, _wire) = tls_server(authority.certify("127.0.0.1"), vec![answer(308, &place, "")]);
    let error = trusting(&server, &authority.pem)
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{error}");
    assert_eq!(error.verdict(), Verdict::NotApplied);
    assert_eq!(plain.connections(), 0);
}

/// Writes each response as TLS records of its own, and all of them in one segment. Holds back the end of the segment until
/// the client sends something more.
struct OneSegment {
    connection: ServerConnection,
    stream: TcpStream,
    hold: usize,
    held: Vec<u8>,
}

impl Read for OneSegment {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = rustls::Stream::new(&mut self.connection, &mut self.stream).read(buffer)?;
        self.stream.write_all(&std::mem::take(&mut self.held))?;
        Ok(amount)
    }
}

impl Write for OneSegment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let second = bytes.windows(5).skip(1).position(|start| start == b"HTTP/");
        let (first, rest) = bytes.split_at(second.map_or(bytes.len(), |index| index + 1));
        let mut segment = Vec::new();
        for answer in [first, rest] {
            self.connection.writer().write_all(answer)?;
            while self.connection.wants_write() {
                self.connection.write_tls(&mut segment)?;
            }
        }
        let hold = if rest.is_empty() { 0 } else { self.hold };
        self.held = segment.split_off(segment.len() - hold);
        self.stream.write_all(&segment)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A confirmation with a header of this length.
fn padded(padding: usize) -> Vec<u8> {
    let body = format!(r#"{{"session_id":"{SESSION}"}}"#);
    match answer(200, &[("x-padding", &"p".repeat(padding))], body).remove(0) {
        Step::Send(bytes) => bytes,
        step => panic!("{step:?} is not a whole response"),
    }
}

/// Approves a session, and gets these responses at once, but for the last bytes. Then declines it, which the server refuses.
fn assert_nothing_is_left(responses: Vec<u8>, hold: usize) {
    let authority = Authority::new("private");
    let config = authority.certify("127.0.0.1");
    let sent = responses.len();
    let answers = move |request: &Request| match request.text().contains("Declined") {
        true => answer(400, &[], r#"{"detail":"no"}"#),
        false => vec![Step::Send(responses.clone())],
    };
    let wrap = move |stream: TcpStream| -> Box<dyn Stream> {
        // Otherwise the system may hold the end back, too, until the client acknowledges the rest.
        stream.set_nodelay(true).unwrap();
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        connection.set_buffer_limit(None);
        Box::new(OneSegment {
            connection,
            stream,
            hold,
            held: Vec::new(),
        })
    };
    let server = Server::start_wrapped(wrap, answers);
    let client = trusting(&server, &authority.pem);
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    // What is still on its way during the next update cannot be told from its response.
    wait_for(|| server.bytes_written() == sent);
    let error = client
        .update_status(&session_id(), &StatusUpdate::declined())
        .expect_err("the server rejected it");
    assert_eq!(error.status(), Some(400), "hold {hold}: {error}");
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_second_response_never_answers_the_next_update() {
    for padding in [0, 3000, 6000, 15_000, 40_000] {
        assert_nothing_is_left([padded(0), padded(padding)].concat(), 0);
    }
}

#[test]
fn a_second_response_whose_record_arrived_in_part_never_answers_the_next_update() {
    // 16 bytes of the record are its authentication tag. A TLS library keeps the rest of the record until that arrives.
    for hold in [1, 15, 16, 17, 100] {
        assert_nothing_is_left([padded(0), padded(100)].concat(), hold);
    }
    // The first bytes of its header.
    let second = padded(0).len() + 5 + 1 + 16;
    for arrived in [1, 4, 5, 6] {
        assert_nothing_is_left([padded(0), padded(0)].concat(), second - arrived);
    }
}

#[test]
fn a_second_response_that_tls_has_decrypted_already_never_answers_the_next_update() {
    // The first response fills the client's buffer to the last byte, so the second one stays in the TLS library.
    let first = padded(64 * 1024 + 1 - padded(0).len());
    assert_eq!(first.len(), 64 * 1024 + 1);
    assert_nothing_is_left([first, padded(0)].concat(), 0);
}

#[test]
fn a_tls_error_after_the_request_was_read_leaves_the_update_in_doubt() {
    // A record that cannot be decrypted, and two alerts in the clear, of which TLS 1.3 allows none here.
    for garbage in [
        &[
            23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ][..],
        &[21, 3, 3, 0, 2, 2, 40],
        &[21, 3, 3, 0, 2, 2, 116],
        b"HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let authority = Authority::new("private");
        let config = authority.certify("127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = listener.accept().unwrap().0;
                let connection = ServerConnection::new(config).unwrap();
                let stream = StreamOwned::new(connection, socket.try_clone().unwrap());
                let request = read_request(&mut BufReader::new(stream), 0, None).unwrap();
                assert_eq!(request.method, "PATCH");
                socket.write_all(garbage).unwrap();
                let _ = socket.read(&mut [0; 64]);
            });
            install_provider();
            let builder = Client::builder(Credentials::api_key(API_KEY)).base_url(&url).proxy("");
            let client = builder.root_certificates(&authority.pem).retry(RetryPolicy::none());
            let client = client.timeout(LONG).build().unwrap();
            client
                .update_status(&session_id(), &StatusUpdate::approved())
                .unwrap_err()
        });
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Network, Verdict::Unknown),
            "{error}"
        );
    }
}
