//! `threads COUNT UPDATES`: makes `UPDATES` updates in each of `COUNT` threads that share one client, and prints the nanoseconds.

use std::thread;
use std::time::Instant;

use didit::{Client, StatusUpdate};

fn main() -> didit::Result<()> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let (threads, updates) = (arguments[0], arguments[1]);
    let client = Client::from_env()?;
    let id = common::SESSION.parse()?;
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..updates {
                    client
                        .update_status(&id, &StatusUpdate::declined().comment("Duplicated user"))
                        .unwrap();
                }
            });
        }
    });
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}
