//! Rights that were taken back, as rows: whose and for which channels is the name, until when the value.
//!
//! They lie among the facts of a history, so that a file of before has none, and one with some is no other format. A row
//! goes when the list that the broker keeps has no room for it: it is told what every token is refused by from then on.

use super::StoreError;
use crate::broker::access::{Revocation, Whose};
use crate::log::Record;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

/// What their names begin with.
const PREFIX: &str = "revoked ";
/// What no name that begins so is behind.
const END: &str = "revoked!";

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// A row.
#[derive(Debug)]
pub struct Revoked {
    /// Its name.
    pub name: Box<str>,
    /// Its value.
    pub value: Box<[u8]>,
}

impl Revoked {
    fn of(revocation: &Revocation) -> Self {
        let Revocation { before, lapses, .. } = *revocation;
        let nameless = Revocation { before: 0, lapses: 0, ..revocation.clone() };
        let value = [before.to_le_bytes(), lapses.to_le_bytes()];
        Self { name: format!("{PREFIX}{}", nameless.text()).into(), value: value.as_flattened().into() }
    }

    fn revocation(name: &str, value: &[u8]) -> Option<Revocation> {
        let (before, lapses) = value.split_first_chunk::<8>()?;
        let (before, lapses) = (u64::from_le_bytes(*before), u64::from_le_bytes(lapses.try_into().ok()?));
        Some(Revocation { before, lapses, ..Revocation::of_text(name.strip_prefix(PREFIX)?)? })
    }

    /// What it says, as the broker writes it.
    pub fn text(&self) -> Option<Box<str>> {
        Some(Self::revocation(&self.name, &self.value)?.text().into())
    }
}

/// Writes what of `records` is taken back. What came later says more.
pub fn write<'r>(
    transaction: &WriteTransaction,
    table: Table,
    records: impl Iterator<Item = &'r Record>,
) -> Result<(), redb::Error> {
    let texts = records.filter_map(|record| match record {
        Record::Revoked { text, .. } => Revocation::of_text(text),
        _ => None,
    });
    let mut texts = texts.peekable();
    if texts.peek().is_none() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for revocation in texts {
        if revocation.whose == Whose::Everybody {
            let Revocation { before, lapses, .. } = revocation;
            table.retain_in(PREFIX..END, |name, value| {
                let row = Revoked::revocation(name, value);
                row.is_some_and(|row| row.before > before && row.lapses > lapses)
            })?;
        }
        let row = Revoked::of(&revocation);
        let old = table.get(&*row.name)?.and_then(|old| Revoked::revocation(&row.name, old.value()));
        if old.is_none_or(|old| old.before <= revocation.before) {
            table.insert(&*row.name, &*row.value)?;
        }
    }
    Ok(())
}

/// All of them.
pub fn read(transaction: &ReadTransaction, table: Table) -> Result<Vec<Revoked>, StoreError> {
    let table = transaction.open_table(table).map_err(redb::Error::from)?;
    let mut found = Vec::new();
    for row in table.range(PREFIX..END).map_err(redb::Error::from)? {
        let (name, value) = row.map_err(redb::Error::from)?;
        found.push(Revoked { name: name.value().into(), value: value.value().into() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_taken_back() {
        for whose in [Whose::Subject("a \"b\" é".into()), Whose::Token("7".into()), Whose::Everybody] {
            let revocation =
                Revocation { whose, before: 1 << 40, channels: vec!["chat/**".into()], lapses: u64::MAX };
            let row = Revoked::of(&revocation);
            assert!(row.name.as_ref() >= PREFIX && row.name.as_ref() < END);
            assert_eq!(Revoked::revocation(&row.name, &row.value), Some(revocation));
        }
        assert!(Revoked::revocation("revoked {", &[0; 16]).is_none());
        assert!(Revoked::revocation("revoked {}", &[0; 15]).is_none());
    }
}
