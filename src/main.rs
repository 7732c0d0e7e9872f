//! The command `drift-agent`.

fn main() {}
