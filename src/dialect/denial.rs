//! Why somebody is refused, and what there is of the application's word.

use super::Unheard;
use crate::broker::access::{Bad, Word};
use crate::wire::response::Response;
use std::borrow::Cow;
use std::rc::Rc;

/// What there is of the application's word.
#[derive(Debug)]
pub enum Heard {
    /// This.
    Word(Rc<Word>),
    /// It is being asked: what wants to know waits.
    Waits,
    /// Nothing, and it is not asked.
    Denied(Denial),
}

/// Why somebody is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// What is shown contradicts itself.
    Contradiction(&'static str),
    /// The token is bad.
    BadToken(Bad),
    /// Too many bad tokens come from that address.
    TooManyBad,
    /// A token is needed, for this.
    NoToken(String),
    /// Nobody has granted this.
    Forbidden(String),
    /// The application has to be asked first.
    Unheard(Box<Unheard>),
    /// The application says no: 401 or 403, what was asked for, and why.
    Refused {
        /// Its status.
        status: u16,
        /// What was asked for.
        what: String,
        /// Why, in the application's words.
        reason: Option<Box<str>>,
    },
    /// The application has said nothing, or too many wait for its word.
    Unanswered,
    /// Too many of that address wait for the application's word.
    TooManyAsking,
    /// The application is not asked for a page that is none of ours.
    OtherPage,
}

impl Denial {
    /// Its status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Contradiction(_) => 400,
            Self::BadToken(_) | Self::NoToken(_) => 401,
            Self::TooManyBad | Self::TooManyAsking => 429,
            Self::Forbidden(_) | Self::OtherPage => 403,
            Self::Refused { status, .. } => *status,
            Self::Unheard(_) | Self::Unanswered => 503,
        }
    }

    /// What went wrong, as RFC 6750 calls it; none where no token was shown.
    const fn error(&self) -> Option<&'static str> {
        match self {
            Self::Contradiction(_) => Some("invalid_request"),
            Self::BadToken(_) => Some("invalid_token"),
            Self::Forbidden(_) => Some("insufficient_scope"),
            Self::NoToken(_)
            | Self::TooManyBad
            | Self::Unheard(_)
            | Self::Refused { .. }
            | Self::Unanswered
            | Self::TooManyAsking
            | Self::OtherPage => None,
        }
    }

    /// A sentence for who is refused.
    pub fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::Contradiction(detail) => Cow::Borrowed(detail),
            Self::BadToken(Bad(detail)) => Cow::Borrowed(detail),
            Self::TooManyBad => {
                "too many bad tokens come from this address (limits.tokens_refused_per_second)".into()
            }
            Self::NoToken(what) => {
                format!("{what} needs a token: send `Authorization: Bearer <token>`").into()
            }
            Self::Forbidden(what) => format!("{what} is not granted").into(),
            Self::Refused { reason: Some(reason), .. } => Cow::Borrowed(reason),
            Self::Refused { what, reason: None, .. } => {
                format!("the application does not allow {what}").into()
            }
            Self::Unheard(_) | Self::Unanswered => "the application has not answered; try again later".into(),
            Self::TooManyAsking => {
                "too many requests of this address wait for the application (limits.judged_waiting)".into()
            }
            Self::OtherPage => {
                "the application is asked for pages of this server and of origins in cors.origins only: with \
                 cookies, send the Origin of such a page"
                    .into()
            }
        }
    }

    /// The answer (RFC 6750, section 3). Nothing of the token or of rules is in it.
    pub fn response(&self, as_text: bool) -> Response {
        let response = Response::problem_of(self.status(), self.error(), &self.detail(), as_text);
        let challenge = match (self, self.error()) {
            (Self::TooManyBad | Self::TooManyAsking | Self::Unheard(_) | Self::Unanswered, _) => {
                return response.with("Retry-After", 1);
            }
            (Self::OtherPage | Self::Refused { status: 403, .. }, _) => return response,
            (Self::BadToken(Bad(why)) | Self::Contradiction(why), Some(error)) => {
                format!("Bearer error=\"{error}\", error_description=\"{why}\"")
            }
            (_, Some(error)) => format!("Bearer error=\"{error}\""),
            (_, None) => "Bearer".into(),
        };
        response.with("WWW-Authenticate", challenge)
    }
}
