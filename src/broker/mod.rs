//! Between the hub and those who speak to clients: who may do what.

pub mod access;
