//! Tables whose keys have types of their own.
//!
//! Channels, subscribers, connections, sessions: each lies in a slab, and many things refer to it by its key there.
//! A key is four bytes, and a type for each table, so that one cannot be taken for another.

use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack};
use slab::Slab;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// Where something lies in a table.
pub trait TableKey: Copy {
    /// The key with that index.
    fn at(index: usize) -> Self;

    /// Its index, for arrays that lie beside the table.
    fn index(self) -> usize;
}

impl TableKey for usize {
    fn at(index: usize) -> Self {
        index
    }

    fn index(self) -> usize {
        self
    }
}

/// Defines the type of a table's keys.
macro_rules! table_key {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// No key: nothing will ever lie there.
            pub const NONE: Self = Self(u32::MAX);

            /// The key of that number.
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

        impl $crate::table::TableKey for $name {
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
pub(crate) use table_key;

/// A slab whose keys are a type of their own.
#[derive(Debug)]
pub struct Table<K, T> {
    slab: Slab<T>,
    of: PhantomData<K>,
}

impl<K: TableKey, T> Default for Table<K, T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<K: TableKey, T> Table<K, T> {
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
    pub fn get(&self, key: K) -> Option<&T> {
        self.slab.get(key.index())
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.slab.get_mut(key.index())
    }

    /// Whether anything lies there.
    pub fn contains(&self, key: K) -> bool {
        self.slab.contains(key.index())
    }

    /// Adds something; its key may have been somebody else's before.
    #[inline]
    pub fn insert(&mut self, value: T) -> K {
        K::at(self.slab.insert(value))
    }

    /// The key that [`Table::insert`] gives next.
    pub fn vacant(&self) -> K {
        K::at(self.slab.vacant_key())
    }

    /// Takes out what lies there, which must be something.
    #[inline]
    pub fn remove(&mut self, key: K) -> T {
        self.slab.remove(key.index())
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slab.iter().map(|(index, value)| (K::at(index), value))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.slab.iter_mut().map(|(index, value)| (K::at(index), value))
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

impl<K: TableKey, T: Carry> Carry for Table<K, T> {
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

impl<K: TableKey, T> Index<K> for Table<K, T> {
    type Output = T;

    #[inline]
    fn index(&self, key: K) -> &T {
        &self.slab[key.index()]
    }
}

impl<K: TableKey, T> IndexMut<K> for Table<K, T> {
    #[inline]
    fn index_mut(&mut self, key: K) -> &mut T {
        &mut self.slab[key.index()]
    }
}
