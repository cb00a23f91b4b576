//! The server of the sandbox: it accepts connections until the process ends.

use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use didit::text::system_message;

use super::http::{self, Delivery, Request};
use super::service::{Service, is_about_the_sandbox};
use crate::args::sandbox::Options;
use crate::exit::Exit;

/// How long the server waits after it could not accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const NO_THREAD: &str = "the system could not start a thread, so the sandbox did not start; retry later, or allow more processes (ulimit -u)";

/// Listens on the port, and serves requests until the process ends.
///
/// # Errors
/// Says why it cannot, and what to do next.
pub fn start(options: &Options) -> Result<SocketAddr, (Exit, String)> {
    let port = options.port();
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| (Exit::Usage, cannot_listen(port, &error)))?;
    let service = Arc::new(Service::new(options.fail_rate, options.rate_limit));
    let show = options.show_requests;
    let started = thread::Builder::new().spawn(move || accept(&listener, &service, show));
    started.map(|_| address).map_err(|_| (Exit::NotDone, NO_THREAD.into()))
}

fn cannot_listen(port: u16, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("port {port} is in use, perhaps by another sandbox; use --port 0 for a free port")
        }
        _ => {
            let problem = system_message(error);
            format!("cannot listen on port {port}: {problem}; use --port 0 for a free port")
        }
    }
}

fn accept(listener: &TcpListener, service: &Arc<Service>, show: bool) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Without a free file descriptor, every attempt fails at once until a connection ends.
            thread::sleep(ACCEPT_AGAIN);
            continue;
        };
        let service = service.clone();
        // Errors are ignored: the client notices a broken connection, and one that gets no thread.
        let _ = thread::Builder::new().spawn(move || serve(&stream, &service, show));
    }
}

fn serve(stream: &TcpStream, service: &Service, show: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let request = Request::read(&mut reader)?;
        let delivery = service.respond(&request);
        if show && !is_about_the_sandbox(&request) {
            let _ = io::stderr().write_all(http::transcript(&request, &delivery).as_bytes());
        }
        writer.write_all(&delivery.bytes())?;
        let closing = request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closing || !matches!(delivery, Delivery::Whole(_)) {
            return Ok(());
        }
    }
}
