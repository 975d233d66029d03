//! Who may do what: rules of channels, tokens and what they grant, what the application is asked and says, and the one
//! judge of it all.
//!
//! Whatever gives a right ends up as the same thing, a [`Grant`]: patterns of channels to subscribe and to publish to,
//! and when it ends. The [`Rules`] say for which channels one is needed. All of it is computed from values: files were
//! read by `cli`, and the time comes as an argument.

mod grant;
mod question;
mod revocations;
mod rules;
pub mod tokens;
mod word;

pub use grant::Grant;
pub use question::{Action, Asker, Question};
pub use revocations::{Left, Revocation, Revocations, Whose};
pub use rules::{Bearer, Rules, Verdict};
pub use tokens::guests::Guest;
pub use tokens::{Bad, Draft, MercureGrant, MercureTokens, Role, Tokens, claims_to_be_access_token};
pub use word::Word;
