//! Updates a session over rustls with aws-lc-rs: adding didit must not make `ClientConfig::builder()` panic.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use didit::{Client, Credentials, ErrorKind, StatusUpdate};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const SESSION: &str = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";

fn main() {
    let too_early = Client::new(Credentials::api_key("a-key")).unwrap_err();
    assert_eq!(too_early.kind(), ErrorKind::Config, "{too_early}");
    assert!(too_early.to_string().contains(".install_default()"), "{too_early}");

    // It installs the only provider there is, and panics if there are two.
    let config = ClientConfig::builder();
    config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();

    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(
        config
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || serve_once(&listener, config));

    let client = Client::builder(Credentials::api_key("a-key")).base_url(url).proxy("");
    let client = client.root_certificates(certified.cert.pem()).build().unwrap();
    let updated = client
        .update_status(&SESSION.parse().unwrap(), &StatusUpdate::approved())
        .unwrap();
    assert_eq!(updated.session_id.as_str(), SESSION);
    assert!(server.join().unwrap().starts_with("PATCH /v3/session/"));
    println!("updated a session over rustls with aws-lc-rs");
}

/// Confirms one update, and returns the first line of its request.
fn serve_once(listener: &TcpListener, config: Arc<ServerConfig>) -> String {
    let (stream, _) = listener.accept().unwrap();
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push(line);
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    let body = format!(r#"{{"session_id":"{SESSION}"}}"#);
    let length = body.len();
    write!(
        stream.get_mut(),
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    head.swap_remove(0)
}
