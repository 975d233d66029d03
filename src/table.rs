//! Tables whose places have names of their own kind.
//!
//! Channels, subscribers, connections, sessions: each lies in a slab, and many things refer to it by its place there.
//! A place is four bytes, and a type for each table, so that one cannot be taken for another.

use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};
use slab::Slab;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A place in a table.
pub trait Place: Copy {
    /// The place with that index.
    fn at(index: usize) -> Self;

    /// Its index, for arrays that lie beside the table.
    fn index(self) -> usize;
}

impl Place for usize {
    fn at(index: usize) -> Self {
        index
    }

    fn index(self) -> usize {
        self
    }
}

/// Defines the type of a table's places.
macro_rules! place {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// No place: nothing will ever lie there.
            pub const NONE: Self = Self(u32::MAX);

            /// The place of that number.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// Its number.
            pub const fn number(self) -> u32 {
                self.0
            }

            /// Its index, for arrays that lie beside the table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        $crate::carry::carry! {
            struct $name(_)
        }

        impl $crate::table::Place for $name {
            #[inline]
            fn at(index: usize) -> Self {
                Self(index as u32)
            }

            #[inline]
            fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
pub(crate) use place;

/// A slab whose places are a type of their own.
#[derive(Debug)]
pub struct Table<P, T> {
    slab: Slab<T>,
    of: PhantomData<P>,
}

impl<P: Place, T> Default for Table<P, T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<P: Place, T> Table<P, T> {
    /// An empty one with room for so many.
    pub fn with_capacity(room: usize) -> Self {
        Self { slab: Slab::with_capacity(room), of: PhantomData }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// What lies there, if anything does.
    #[inline]
    pub fn get(&self, place: P) -> Option<&T> {
        self.slab.get(place.index())
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, place: P) -> Option<&mut T> {
        self.slab.get_mut(place.index())
    }

    /// Whether anything lies there.
    pub fn contains(&self, place: P) -> bool {
        self.slab.contains(place.index())
    }

    /// Adds something; its place is free, and may have been somebody else's before.
    #[inline]
    pub fn insert(&mut self, value: T) -> P {
        P::at(self.slab.insert(value))
    }

    /// The place that [`Table::insert`] gives next.
    pub fn vacant(&self) -> P {
        P::at(self.slab.vacant_key())
    }

    /// Takes out what lies there, which must be something.
    #[inline]
    pub fn remove(&mut self, place: P) -> T {
        self.slab.remove(place.index())
    }

    /// All, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (P, &T)> {
        self.slab.iter().map(|(index, value)| (P::at(index), value))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (P, &mut T)> {
        self.slab.iter_mut().map(|(index, value)| (P::at(index), value))
    }

    /// A number that none of the places reaches.
    pub fn end(&self) -> u32 {
        self.slab.capacity() as u32
    }

    /// For how many there is room.
    pub fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// Makes room for so many in all.
    pub fn reserve(&mut self, room: usize) {
        self.slab.reserve(room.saturating_sub(self.slab.len()));
    }

    /// Gives back the room behind the last.
    pub fn shrink_to_fit(&mut self) {
        self.slab.shrink_to_fit();
    }
}

impl<P: Place, T: Carry> Carry for Table<P, T> {
    fn shape(shape: &mut Shape) {
        Slab::<T>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        self.slab.pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Ok(Self { slab: Slab::unpack(from)?, of: PhantomData })
    }
}

impl<P: Place, T> Index<P> for Table<P, T> {
    type Output = T;

    #[inline]
    fn index(&self, place: P) -> &T {
        &self.slab[place.index()]
    }
}

impl<P: Place, T> IndexMut<P> for Table<P, T> {
    #[inline]
    fn index_mut(&mut self, place: P) -> &mut T {
        &mut self.slab[place.index()]
    }
}
