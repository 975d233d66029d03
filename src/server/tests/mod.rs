//! The whole server on a virtual clock with simulated sockets.
//!
//! `world` is what surrounds the server, `client` speaks HTTP to it, `oracle` knows what a subscriber must
//! get, `sim` lets a seed decide what happens, `delivery` counts what a delivery costs.

mod client;
mod delivery;
mod oracle;
mod sim;
mod world;
