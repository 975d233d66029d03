//! The `encke` binary: nothing but a door to [`encke::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    encke::cli::main()
}
