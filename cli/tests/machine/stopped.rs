//! A process that is stopped during a call, such as on a suspended laptop, still reads the response. `network.sh` runs this test.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::thread;

use crate::child::{self, TIMEOUT, signal};
use crate::support::{Step, confirmed, read_request};

#[test]
fn an_answer_that_arrives_while_the_process_is_stopped_is_read() {
    for parts in [1, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let child = child::start(&format!("http://{}", listener.local_addr().unwrap()), "approved");
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        read_request(&mut stream, 0, None).unwrap();
        let [Step::Send(answer)] = &confirmed()[..] else {
            unreachable!()
        };
        // If the response has two parts, the process waits for the second.
        let (first, second) = answer.split_at(if parts == 1 { 0 } else { answer.len() - 9 });
        stream.get_mut().write_all(first).unwrap();
        // The process now only waits for the response.
        thread::sleep(TIMEOUT / 4);
        signal(&child, "-STOP");
        stream.get_mut().write_all(second).unwrap();
        thread::sleep(TIMEOUT);
        signal(&child, "-CONT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(child::end(&output), "applied", "{parts} parts");
    }
}
