//! What a delivery costs, counted.
