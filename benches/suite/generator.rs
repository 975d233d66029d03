//! Load generators: one per server, kept connected while they take turns.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::report::Report;
use crate::server::Server;

/// How to start generators.
pub struct Generators {
    pub program: PathBuf,
    pub cpu: usize,
}

/// One that is connected and measures when told.
pub struct Generator {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What gathering the subscribers gave.
    pub gathered: Report,
}

impl Generators {
    /// Starts one against `server` and waits until everybody is subscribed.
    pub fn start(&self, server: &Server, arguments: &str) -> io::Result<Generator> {
        let mut child = Command::new(&self.program)
            .args(["--rounds", "--server", &server.address.to_string(), "--dialect", server.dialect])
            .args(["--pid", &server.pid().to_string(), "--cpu", &self.cpu.to_string()])
            .args(server.tls.iter().flat_map(|address| ["--tls".to_owned(), address.to_string()]))
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes to the generator"));
        };
        let mut output = BufReader::new(output);
        match read(&mut output) {
            Ok(gathered) => Ok(Generator { name: server.name, child, input: Some(input), output, gathered }),
            Err(error) => {
                _ = child.wait();
                Err(io::Error::other(format!("against {}: {error}", server.name)))
            }
        }
    }
}

impl Generator {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Measures one round.
    pub fn round(&mut self) -> io::Result<Report> {
        if let Some(input) = &mut self.input {
            input.write_all(b"go\n")?;
        }
        read(&mut self.output).map_err(|error| io::Error::other(format!("against {}: {error}", self.name)))
    }
}

impl Drop for Generator {
    /// The end of its input ends it.
    fn drop(&mut self) {
        self.input = None;
        _ = self.child.wait();
    }
}

fn read(output: &mut BufReader<ChildStdout>) -> io::Result<Report> {
    let mut line = String::new();
    if output.read_line(&mut line)? == 0 {
        return Err(io::Error::other("the generator gave up (its reason is above)"));
    }
    serde_json::from_str(&line).map_err(io::Error::other)
}
