//! One or more of something, the first without an allocation of its own: nearly every publication is one message.

use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};

/// One or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Several<T> {
    /// The first.
    pub first: T,
    /// The others, in order.
    pub others: Vec<T>,
}

impl<T: Carry> Carry for Several<T> {
    fn shape(shape: &mut Shape) {
        Vec::<T>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { first, others } = self;
        first.pack(parcel);
        others.pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let (first, others) = Carry::unpack(from)?;
        Ok(Self { first, others })
    }
}

impl<T> Several<T> {
    /// One.
    pub const fn one(first: T) -> Self {
        Self { first, others: Vec::new() }
    }

    /// All of these, if there is any.
    pub fn from_vec(mut all: Vec<T>) -> Option<Self> {
        let first = (!all.is_empty()).then(|| all.remove(0))?;
        Some(Self { first, others: all })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// Never.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// What `f` makes of each, in order.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Several<U> {
        let first = f(self.first);
        // Nearly always there are none, and looking at nothing costs something, too.
        let others =
            if self.others.is_empty() { Vec::new() } else { self.others.into_iter().map(f).collect() };
        Several { first, others }
    }
}
