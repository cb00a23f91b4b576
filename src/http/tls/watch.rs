//! A layer above TLS, which watches three things: that the handshake has ended, whether the server refuses it afterwards, and
//! whether TLS may hold more data back.

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time};
use ureq::{Proxy, ProxyProtocol};

use crate::http::current::Current;

/// The error of a handshake if the server sent only the alert `certificate_required`.
pub(in crate::http) const CERTIFICATE_REQUIRED: &str = "alert: CertificateRequired";

/// Puts the layer above TLS.
#[derive(Debug)]
pub(in crate::http) struct WatchTls;

impl<In: Transport> Connector<In> for WatchTls {
    type Out = Watched<In>;

    fn connect(&self, details: &ConnectionDetails, connected: Option<In>) -> Result<Option<Watched<In>>, ureq::Error> {
        if connected.as_ref().is_some_and(Transport::is_tls) {
            Current::note_tls_handshake();
        }
        Ok(connected.map(|transport| Watched::new(transport, details.config.proxy())))
    }
}

#[derive(Debug)]
pub(in crate::http) struct Watched<In> {
    transport: In,
    /// Whether the alert `certificate_required` can no longer refuse the handshake: the server has answered, or the alert
    /// could be about another handshake. In TLS 1.3, the server sends it after the client's part of the handshake, so the
    /// client may have sent the request already.
    alert_is_ruled_out: bool,
    /// Whether the last data filled the buffer. The TLS library may then hold more of it.
    was_full: bool,
}

impl<In: Transport> Watched<In> {
    fn new(transport: In, proxy: Option<&Proxy>) -> Watched<In> {
        // The alert could come from the TLS of the proxy, which has already answered.
        let is_nested = proxy.is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        Watched {
            alert_is_ruled_out: is_nested || !transport.is_tls(),
            was_full: false,
            transport,
        }
    }
}

impl<In: Transport> Transport for Watched<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let buffers = self.transport.buffers();
        let capacity = buffers.input().len() + buffers.input_append_buf().len();
        let mut received = self.transport.await_input(timeout);
        if !self.alert_is_ruled_out && received.as_ref().is_err_and(requires_certificate) {
            // rustls reports an alert before it returns data that it decrypted earlier.
            timeout.after = time::Duration::from_millis(1);
            received = match self.transport.await_input(timeout) {
                Ok(true) => Ok(true),
                _ => Err(ureq::Error::Tls(CERTIFICATE_REQUIRED)),
            };
        }
        self.alert_is_ruled_out |= matches!(received, Ok(true));
        self.was_full = self.transport.buffers().input().len() == capacity;
        received
    }

    fn is_open(&mut self) -> bool {
        // What is left here was decrypted together with the last response.
        !self.was_full && self.transport.buffers().input().is_empty() && self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

fn requires_certificate(error: &ureq::Error) -> bool {
    let text = error.to_string();
    text.ends_with(CERTIFICATE_REQUIRED) || text.contains("alert certificate required")
}

#[cfg(test)]
mod tests {
    use std::io;

    use ureq::Timeout;
    use ureq::unversioned::transport::LazyBuffers;

    use super::*;

    /// A connection that receives these results, the last one first.
    #[derive(Debug)]
    struct Scripted {
        results: Vec<Result<bool, &'static str>>,
        buffers: LazyBuffers,
    }

    impl Transport for Scripted {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
            Ok(())
        }

        fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
            let received = self.results.pop().unwrap_or(Err("nothing more"));
            received.map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text).into())
        }

        fn is_open(&mut self) -> bool {
            true
        }

        fn is_tls(&self) -> bool {
            true
        }
    }

    #[test]
    fn certificate_required_is_a_refusal_only_before_any_other_data() {
        let rustls = Err("received fatal alert: CertificateRequired");
        let openssl =
            Err("error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:SSL alert 116");
        let another = Err("received fatal alert: CertificateUnknown");
        let timeout = NextTimeout {
            after: time::Duration::from_secs(20),
            reason: Timeout::Global,
            per_read: None,
            per_write: None,
        };
        for (received, required) in [
            (vec![rustls], true),
            (vec![openssl], true),
            (vec![rustls, rustls], true),
            (vec![rustls, Ok(false)], true),
            (vec![another], false),
            (vec![Err("received fatal alert: HandshakeFailure")], false),
            (vec![Ok(true), rustls], false),
            (vec![Ok(true), Ok(true), openssl], false),
            // Data that was decrypted before the alert, but returned after it.
            (vec![rustls, Ok(true), rustls], false),
        ] {
            for (proxy, is_nested) in [(None, false), (Some("http://a"), false), (Some("https://a"), true)] {
                let script = received.iter().rev().copied().collect();
                let proxy = proxy.map(|proxy| Proxy::new(proxy).unwrap());
                let script = Scripted {
                    results: script,
                    buffers: LazyBuffers::new(1, 1),
                };
                let mut connection = Watched::new(script, proxy.as_ref());
                let error = loop {
                    if let Err(error) = connection.await_input(timeout) {
                        break error;
                    }
                };
                let is_refusal = matches!(error, ureq::Error::Tls(CERTIFICATE_REQUIRED));
                assert_eq!(is_refusal, required && !is_nested, "{received:?} {proxy:?}");
            }
        }
    }
}
