//! Encke, a Comet server. The binary is the product; this library is how it is built and tested.
//!
//! The modules form floors; a file imports only from floors below its own:
//!
//! ```text
//! cli                            arguments, configuration files, logging; the only exit
//! reactor, demo                  mio, sockets, signals, the clock, the mailbox: the only I/O; sample data
//! server                         the sans-IO whole: connections + hub + timers
//! dialect                        what clients speak: a request becomes a command
//! conn                           one client's HTTP/1.1 state
//! transport  |  broker           how a message looks on the wire  |  who may do what
//! log                            what is accepted, in order, and how it lies on disk
//! hub   |   wire                 channels, rings, cursors  |  HTTP bytes <-> values
//! time, id, config, stats, merge plain values
//! table                          tables whose keys have types
//! carry                          state as bytes
//! ```
#![deny(unsafe_code)]

pub mod broker;
pub mod carry;
pub mod cli;
pub mod config;
pub mod conn;
pub mod demo;
pub mod dialect;
pub mod hub;
pub mod id;
pub mod log;
pub mod merge;
pub mod reactor;
pub mod server;
pub mod stats;
pub mod table;
pub mod time;
pub mod transport;
pub mod wire;
