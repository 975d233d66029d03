//! The real binary, driven over loopback: what the HTTP contract promises is proven here from outside.
//!
//! Every test starts a server of its own on a port the kernel picks, so tests run side by side. Nothing sleeps to
//! let something happen: a test waits, with a deadline, until the server shows what it waits for (an answer, a line of
//! its log, a count in a channel's information). "Nothing came" is proven by order: what came next came first.
#![forbid(unsafe_code)]

mod access;
mod access_log;
mod admin;
mod batch;
mod bayeux;
mod client;
mod cluster;
mod cors;
mod csrf;
mod curl;
mod differential;
mod exhaustion;
mod faults;
mod fdajax;
mod fdajax_memory;
mod fdajax_messages;
mod fdajax_windows;
mod front;
mod fronts;
mod gap;
mod guests;
mod harness;
mod hook;
mod http;
mod iframe;
mod inert;
mod jsonp;
mod lifecycle;
mod limits;
mod logs;
mod market;
mod mercure;
mod mercure_v1;
mod multipart;
mod overload;
mod pages;
mod poll;
mod position;
mod publish;
mod readings;
mod recipes;
mod redis;
mod refusals;
mod reload;
mod siblings;
mod smuggling;
mod sse;
mod stalled;
mod store;
mod store_backup;
mod store_faults;
mod stream;
mod symfony;
mod syscalls;
mod systemd;
mod tls;
mod tunnel;
mod upgrade;
mod vanished;
mod websocket;
mod websocket_frames;
