//! A limit on the time that a proxy may take to open a tunnel.
//!
//! ureq gives each read of the answer to CONNECT the whole connect timeout, so that a proxy that sends it byte by byte
//! would hold a call for ever. The connection to the proxy is made by the same connector, so it can be wrapped there.
//! Of `ureq::unversioned` this needs `Connector`, `Transport` and the types in their signatures.

use std::time::Instant;

use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport, time,
};

/// Connects as ureq does, and limits how long a proxy may take where `through_proxy` is set.
#[derive(Debug)]
pub(super) struct TunnelConnector {
    through_proxy: bool,
    connector: DefaultConnector,
}

impl TunnelConnector {
    pub(super) fn new(through_proxy: bool) -> TunnelConnector {
        TunnelConnector {
            through_proxy,
            connector: DefaultConnector::default(),
        }
    }

    /// Whether a connection is the one to the proxy itself, not the one that leads through it: ureq makes that without
    /// a proxy.
    fn is_to_proxy(&self, config: &Config) -> bool {
        self.through_proxy && config.proxy().is_none()
    }
}

impl Connector for TunnelConnector {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        let start = Instant::now();
        let transport = self.connector.connect(details, chained)?;
        if !self.is_to_proxy(details.config) {
            return Ok(transport);
        }
        let end = start.checked_add(*details.timeout.after);
        Ok(transport.map(|transport| {
            let awaited = false;
            Box::new(ToProxy {
                transport,
                end,
                awaited,
            }) as Box<dyn Transport>
        }))
    }
}

/// A connection to a proxy.
#[derive(Debug)]
struct ToProxy {
    transport: Box<dyn Transport>,
    /// When the answer to CONNECT must have come; none once the tunnel is open.
    end: Option<Instant>,
    /// Whether that answer was awaited: whatever is sent after it goes through the tunnel.
    awaited: bool,
}

impl Transport for ToProxy {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.awaited {
            self.end = None;
        }
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, Error> {
        self.awaited = true;
        if let Some(end) = self.end {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout(timeout.reason));
            }
            timeout.after = time::Duration::Exact(left.min(*timeout.after));
        }
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

#[cfg(test)]
mod tests {
    use ureq::{Agent, Proxy};

    use super::*;

    #[test]
    fn only_the_connection_to_the_proxy_itself_is_limited() {
        let proxy = Proxy::new("http://localhost").unwrap();
        let (direct, tunnelled) = (Config::default(), Agent::config_builder().proxy(Some(proxy)).build());
        for (through_proxy, config, is_limited) in [
            (true, &direct, true),
            (true, &tunnelled, false),
            (false, &direct, false),
        ] {
            assert_eq!(TunnelConnector::new(through_proxy).is_to_proxy(config), is_limited);
        }
    }
}
