//! What tokens of Mercure's draft 08 grant: authorization details (RFC 9396).

use super::Bad;
use super::json::Json;
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};
use crate::hub::Selector;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Topics in the details of one token.
pub const DETAILS_MAX: usize = 100;
/// Bytes of what matches topics.
const MATCH_BYTES_MAX: usize = 4096;
/// The type of details that are for hubs.
pub const TYPE: &str = "https://mercure.rocks/authorization-detail";
const CLAIM: &str = "authorization_details";

/// What is told of who subscribes to some topics.
#[derive(Debug)]
pub struct Detail {
    topics: Vec<Selector>,
    /// As JSON.
    pub payload: Option<Box<str>>,
}

impl Carry for Detail {
    fn shape(shape: &mut Shape) {
        shape.add("Detail");
        shape.field("topics", |it: &Self| &it.topics);
        shape.field("payload", |it: &Self| &it.payload);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { topics, payload } = self;
        topics.pack(parcel);
        payload.pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Ok(Self { topics: Carry::unpack(from)?, payload: Carry::unpack(from)? })
    }
}

impl Detail {
    /// Whether it is about who subscribes to that, taken as a topic.
    pub fn matches(&self, selector: &str) -> bool {
        self.topics.iter().any(|topic| topic.matches(selector))
    }
}

/// What may be published, what of private updates may be seen, and the details of that.
type Rights = (Vec<Selector>, Vec<Selector>, Vec<Detail>);

/// Reads the claim. What is relative is below the URL `base`.
pub fn read(claims: &BTreeMap<String, Json>, payload: &[u8], base: &Rc<str>) -> Result<Rights, Bad> {
    const NO_LIST: Bad = Bad("the token's authorization_details are not a list of objects");
    let mut rights = Rights::default();
    let all = match claims.get(CLAIM) {
        None => return Ok(rights),
        Some(Json::Array(all)) => all,
        Some(_) => return Err(NO_LIST),
    };
    // Read anew, as text that is passed on as it came.
    let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(payload).map_err(|_| NO_LIST)?;
    let raw: Vec<&RawValue> =
        raw.get(CLAIM).and_then(|list| serde_json::from_str(list.get()).ok()).ok_or(NO_LIST)?;
    let mut count = 0;
    for (detail, raw) in all.iter().zip(raw) {
        let Json::Object(detail) = detail else { return Err(NO_LIST) };
        match detail.get("type").map(Json::as_text) {
            Some(Some(TYPE)) => {}
            Some(Some(_)) => continue,
            _ => return Err(Bad("one of the token's authorization_details has no type")),
        }
        let actions = actions(detail)?;
        let topics = topics(detail, base)?;
        count += topics.len();
        if count > DETAILS_MAX {
            return Err(Bad("the token's authorization_details have more than 100 topics"));
        }
        if actions.contains(&"publish") {
            rights.0.extend(topics.iter().cloned());
        }
        if actions.contains(&"subscribe") {
            rights.1.extend(topics.iter().cloned());
            rights.2.push(Detail { topics, payload: payload_of(detail, raw)? });
        } else {
            payload_of(detail, raw)?;
        }
    }
    Ok(rights)
}

fn actions(detail: &BTreeMap<String, Json>) -> Result<Vec<&str>, Bad> {
    const WRONG: Bad = Bad("actions of the token's authorization_details are not a list of texts");
    let Some(Json::Array(all)) = detail.get("actions").filter(|all| **all != Json::Array(Vec::new())) else {
        return Err(WRONG);
    };
    all.iter().map(|one| one.as_text().ok_or(WRONG)).collect()
}

fn topics(detail: &BTreeMap<String, Json>, base: &Rc<str>) -> Result<Vec<Selector>, Bad> {
    const WRONG: Bad = Bad("topics of the token's authorization_details are not a list of what matches");
    let Some(Json::Array(all)) = detail.get("topics").filter(|all| **all != Json::Array(Vec::new())) else {
        return Err(WRONG);
    };
    let read = |one: &Json| {
        let Json::Object(members) = one else { return None };
        let text = members.get("match").and_then(Json::as_text)?;
        if text.is_empty() || text.len() > MATCH_BYTES_MAX || text.chars().any(crate::hub::is_unseen) {
            return None;
        }
        match members.get("match_type").map(Json::as_text) {
            None | Some(Some("exact")) => Some(Selector::exact(text)),
            Some(Some("urlpattern")) => Selector::url_pattern(text, base),
            Some(_) => None,
        }
    };
    all.iter().map(|one| read(one).ok_or(WRONG)).collect()
}

/// What is told of the subscriber, as it came.
fn payload_of(detail: &BTreeMap<String, Json>, raw: &RawValue) -> Result<Option<Box<str>>, Bad> {
    const WRONG: Bad = Bad("a payload of the token's authorization_details is not an object");
    match detail.get("payload") {
        None => return Ok(None),
        Some(Json::Object(_)) => {}
        Some(_) => return Err(WRONG),
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(|_| WRONG)?;
    Ok(members.get("payload").map(|payload| payload.get().into()))
}
