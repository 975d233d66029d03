//! Whole byte streams on several connections, in any pieces, while time passes: after each turn, connections, hub,
//! timers and what is kept for them agree.

use crate::mercure::hub;
use crate::script::Stage;

/// Plays a conversation.
pub fn check(data: &[u8]) {
    Stage::new(hub()).play(data);
}
