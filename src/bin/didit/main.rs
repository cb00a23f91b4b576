//! The command `didit`.

fn main() {}
