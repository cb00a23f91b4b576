//! The lower bound: the same bytes over a bare socket, with rustls for TLS and a minimal parser.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use common::{FORM, GRANT, JSON, Task, bearer, body, check, run};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Url<'a> {
    secure: bool,
    host: &'a str,
    path: &'a str,
}

fn parse(url: &str) -> Url<'_> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let slash = rest.find('/').unwrap();
    Url {
        secure: scheme == "https",
        host: &rest[..slash],
        path: &rest[slash..],
    }
}

fn connect(url: &Url<'_>, ca: Option<&[u8]>) -> Box<dyn Stream> {
    let stream = TcpStream::connect(url.host).unwrap();
    stream.set_nodelay(true).unwrap();
    if !url.secure {
        return Box::new(stream);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.unwrap()).unwrap()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = url.host.rsplit_once(':').unwrap().0.to_owned();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    Box::new(StreamOwned::new(session, stream))
}

fn exchange(stream: &mut dyn Stream, request: &[u8], buffer: &mut [u8]) -> (u16, std::ops::Range<usize>) {
    stream.write_all(request).unwrap();
    stream.flush().unwrap();
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "closed");
        length += read;
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let size = text[..head]
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let end = head + 4 + size.unwrap().parse::<usize>().unwrap();
        if length >= end {
            return (text[9..12].parse().unwrap(), head + 4..end);
        }
    }
}

fn request(method: &str, url: &Url<'_>, kind: &str, authorization: &str, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(512);
    write!(
        request,
        "{method} {} HTTP/1.1\r\nhost: {}\r\nauthorization: {authorization}\r\ncontent-type: {kind}\r\n\
         accept: {JSON}\r\nuser-agent: socket\r\ncontent-length: {}\r\n\r\n",
        url.path,
        url.host,
        body.len()
    )
    .unwrap();
    request.extend_from_slice(body);
    request
}

fn main() {
    let task = Task::from_env();
    let mut buffer = [0; 8192];
    let url = parse(&task.token_url);
    let token = request("POST", &url, FORM, &task.basic, GRANT.as_bytes());
    let (_, answer) = exchange(&mut *connect(&url, task.ca.as_deref()), &token, &mut buffer);
    let bearer = bearer(&buffer[answer]);

    let url = parse(&task.update_url);
    let mut stream = connect(&url, task.ca.as_deref());
    run(|| {
        let request = request("PATCH", &url, JSON, &bearer, &body());
        let (status, answer) = exchange(&mut *stream, &request, &mut buffer);
        check(status, &buffer[answer])
    });
}
