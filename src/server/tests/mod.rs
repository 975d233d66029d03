//! The whole server on a virtual clock with simulated sockets.
//!
//! `world` is what surrounds the server, `client` speaks HTTP to it, `oracle` knows what a subscriber must
//! get, `trace` what a run was, `sim` lets a seed decide what happens, `sockets` speaks through WebSockets in it
//! and `bayeux_client` Bayeux, whose `ledger` knows what must come while subscriptions change, `bench` is what most of the others begin with, `delivery` counts what a delivery costs,
//! `budgets` asks for more than is given, `limits` goes to each limit and one beyond, `memory` takes all there is,
//! `beginning` asks for the last messages of several channels, `door` publishes in every language, `proxied` comes by a proxy, `market` lets a seed publish prices, `access` asks for what rules and tokens do not
//! give, `hook` is the application that is asked, `asked_anew` by the next server, `presence` looks who is here, `fdajax`, `bayeux` and `mercure` let a seed
//! speak these protocols, `handover` puts another server in the place of one.

mod access;
mod asked_anew;
mod bayeux;
mod bayeux_client;
mod beginning;
mod bench;
mod budgets;
mod chains;
mod client;
mod delivery;
mod disk;
mod door;
mod drain;
mod early;
mod fdajax;
mod grace;
mod guests;
mod handover;
mod hook;
mod ledger;
mod limits;
mod market;
mod memory;
mod mercure;
mod oracle;
mod presence;
mod proxied;
mod returning;
mod shared;
mod sim;
mod sockets;
mod store;
mod trace;
mod world;
