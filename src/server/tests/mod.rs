//! The whole server on a virtual clock with simulated sockets.
//!
//! `world` is what surrounds the server, `client` speaks HTTP to it, `oracle` knows what a subscriber must
//! get, `sim` lets a seed decide what happens, `delivery` counts what a delivery costs,
//! `fdajax` lets a seed speak FDAjax.

mod client;
mod delivery;
mod fdajax;
mod oracle;
mod sim;
mod world;
