//! Writes what a package has beside the program: manual pages, and completions for shells. `make deb` runs it.
//!
//! An example, so that the program itself does not carry the crates that make them.

use std::io;
use std::path::Path;

use clap_complete::{Shell, generate_to};

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: manual DIRECTORY"));
    };
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let command = encke::cli::command();
    clap_mangen::generate_to(command.clone(), directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), "encke", directory)?;
    }
    Ok(())
}
