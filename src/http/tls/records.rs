//! A layer between TCP and TLS that knows where a TLS record ends.
//!
//! A TLS library keeps the part of a record that has arrived, where nothing else can see it. Its rest would be taken for the
//! response to the next request. So a connection is idle only at a record boundary.

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

#[derive(Debug)]
pub(in crate::http) struct TrackRecords;

impl<In: Transport> Connector<In> for TrackRecords {
    type Out = Tracked<In>;

    fn connect(&self, details: &ConnectionDetails, connected: Option<In>) -> Result<Option<Tracked<In>>, ureq::Error> {
        Ok(connected.map(|transport| Tracked {
            transport,
            record: details.needs_tls().then(Record::default),
        }))
    }
}

/// A connection whose data consists of TLS records, unless `record` is `None`.
#[derive(Debug)]
pub(in crate::http) struct Tracked<In> {
    transport: In,
    record: Option<Record>,
}

/// How much of a record has arrived. A record has a header of 5 bytes, whose last two are the length of the rest (RFC 8446
/// §5.1).
#[derive(Debug, Default)]
struct Record {
    /// How many bytes of the header have arrived. Zero after the whole header.
    header: u8,
    /// How many bytes are missing after the header.
    missing: usize,
}

impl Record {
    fn arrived(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.header == 0 && self.missing > 0 {
                let amount = self.missing.min(bytes.len());
                self.missing -= amount;
                bytes = &bytes[amount..];
                continue;
            }
            match self.header {
                3 => self.missing = usize::from(first) << 8,
                4 => self.missing |= usize::from(first),
                _ => {}
            }
            self.header = (self.header + 1) % 5;
            bytes = rest;
        }
    }

    fn is_complete(&self) -> bool {
        self.header == 0 && self.missing == 0
    }
}

impl<In: Transport> Transport for Tracked<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let known = self.transport.buffers().input().len();
        let received = self.transport.await_input(timeout)?;
        if let Some(record) = &mut self.record {
            record.arrived(&self.transport.buffers().input()[known..]);
        }
        Ok(received)
    }

    fn is_open(&mut self) -> bool {
        self.record.as_ref().is_none_or(Record::is_complete) && self.transport.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_complete_only_after_its_last_byte_however_it_arrives() {
        let record = |length: u16| {
            let [high, low] = length.to_be_bytes();
            [&[23, 3, 3, high, low][..], &vec![0xff; length.into()]].concat()
        };
        let records = [record(1), record(0), record(300), record(0x4000)];
        let all = records.concat();
        let mut ends: Vec<usize> = Vec::new();
        for record in &records {
            ends.push(ends.last().unwrap_or(&0) + record.len());
        }
        for size in [1, 2, 3, 4, 5, 6, 7, 299, 300, 5000, all.len()] {
            let (mut state, mut arrived) = (Record::default(), 0);
            assert!(state.is_complete());
            for part in all.chunks(size) {
                state.arrived(part);
                arrived += part.len();
                assert_eq!(state.is_complete(), ends.contains(&arrived), "{size}: {arrived}");
            }
        }
    }
}
