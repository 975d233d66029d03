//! State as bytes: what a process hands over to the one that takes its place.
//!
//! A value is written field by field, in the order in which its `carry!` names them: numbers as LEB128, lengths before
//! what they count, what is shared once. No layout of memory goes over, and the macro takes each value apart without
//! `..`, so that nobody adds a field without saying here what becomes of it.
//!
//! Two programs understand each other if they would write the same things in the same order. That is not left to a
//! number somebody has to remember to raise: each value tells its [`Shape`], the names of all that is in it, and the
//! digest of the whole is compared before anything is sent.
//!
//! - [`Carry`]: a value that consists of nothing but state.
//! - [`Resume`]: one that is made from the settings first, and then given its state.

mod types;

use siphasher::sip128::{Hasher128, SipHasher24};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::rc::Rc;

/// The bytes are not what was expected, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const SHORT: Damaged = Damaged("the state ends too early");
const NUMBER: Damaged = Damaged("a number does not fit");
const KIND: Damaged = Damaged("a kind is not known");
const TEXT: Damaged = Damaged("a text is not UTF-8");
const SHARED: Damaged = Damaged("something shared is not there");

/// What consists of what: the names of fields and kinds in the order in which they are written.
#[derive(Debug, Default)]
pub struct Shape(String);

impl Shape {
    /// Adds a word.
    #[inline(never)]
    pub fn add(&mut self, word: &str) {
        self.0.push_str(word);
        self.0.push(' ');
    }

    /// Adds a field, of which only the type is of interest.
    pub fn field<S, T: Carry>(&mut self, name: &str, _: impl Fn(&S) -> &T) {
        self.add(name);
        T::shape(self);
    }

    /// The same of a field that is resumed.
    pub fn resumed<S, T: Resume>(&mut self, name: &str, _: impl Fn(&S) -> &T) {
        self.add(name);
        T::shape(self);
    }

    /// A number that stands for all of it.
    pub fn digest(&self) -> u128 {
        let mut hasher = SipHasher24::new();
        hasher.write(self.0.as_bytes());
        hasher.finish128().as_u128()
    }
}

/// State that is being written.
#[derive(Debug, Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    /// What has been written that others share, by its address, and its number.
    shared: BTreeMap<usize, u64>,
}

impl Parcel {
    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    #[inline(never)]
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// Writes how many bytes a text has, and the text.
    fn text(&mut self, text: &str) {
        self.all(text.as_bytes());
    }

    /// Writes how many there are, and all of them.
    fn all<T: Carry>(&mut self, all: &[T]) {
        self.number(all.len() as u64);
        T::pack_all(all, self);
    }

    /// The same of what does not lie side by side.
    fn each<'a, T: Carry + 'a>(&mut self, all: impl ExactSizeIterator<Item = &'a T>) {
        self.number(all.len() as u64);
        all.for_each(|one| one.pack(self));
    }

    /// Writes something shared: all of it the first time, then its number.
    fn share(&mut self, address: usize, write: impl FnOnce(&mut Self)) {
        if let Some(&number) = self.shared.get(&address) {
            return self.number(number + 1);
        }
        self.number(0);
        write(self);
        let number = self.shared.len() as u64;
        self.shared.insert(address, number);
    }
}

/// State that is being read.
pub struct Unpack<'a> {
    rest: &'a [u8],
    shared: Vec<Rc<dyn Any>>,
}

impl<'a> Unpack<'a> {
    /// Reads `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, shared: Vec::new() }
    }

    /// Ends: nothing may be left over.
    pub fn end(self) -> Result<(), Damaged> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damaged("the state goes on where it should end")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(never)]
    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            let digit = u64::from(byte & 0x7f);
            if digit << shift >> shift != digit {
                return Err(NUMBER);
            }
            number |= digit << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(NUMBER)
    }

    /// How many there are of something, each of which takes a byte at least.
    fn count(&mut self) -> Result<usize, Damaged> {
        let count = usize::try_from(self.number()?).map_err(|_| NUMBER)?;
        if count > self.rest.len() { Err(SHORT) } else { Ok(count) }
    }

    fn share<T: 'static>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
        keep: impl FnOnce(&T) -> Rc<dyn Any>,
        again: impl FnOnce(&Rc<dyn Any>) -> Option<T>,
    ) -> Result<T, Damaged> {
        match self.number()? {
            0 => {
                let value = read(self)?;
                self.shared.push(keep(&value));
                Ok(value)
            }
            number => {
                let place = usize::try_from(number - 1).map_err(|_| NUMBER)?;
                self.shared.get(place).and_then(again).ok_or(SHARED)
            }
        }
    }
}

/// A value that consists of nothing but state.
pub trait Carry: Sized {
    /// Tells what it consists of.
    fn shape(shape: &mut Shape);
    /// Writes it.
    fn pack(&self, parcel: &mut Parcel);
    /// Reads it.
    fn unpack(from: &mut Unpack) -> Result<Self, Damaged>;

    /// Writes several, without their number.
    fn pack_all(all: &[Self], parcel: &mut Parcel) {
        all.iter().for_each(|one| one.pack(parcel));
    }

    /// Reads so many.
    fn unpack_all(count: usize, from: &mut Unpack) -> Result<Vec<Self>, Damaged> {
        (0..count).map(|_| Self::unpack(from)).collect()
    }
}

/// A value that is made from the settings, and then given its state.
pub trait Resume {
    /// Tells what its state consists of.
    fn shape(shape: &mut Shape);
    /// Writes its state.
    fn pack(&self, parcel: &mut Parcel);
    /// Reads its state.
    fn resume(&mut self, from: &mut Unpack) -> Result<(), Damaged>;
}

impl<T: Resume> Resume for Option<T> {
    fn shape(shape: &mut Shape) {
        shape.add("perhaps");
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        self.is_some().pack(parcel);
        if let Some(value) = self {
            value.pack(parcel);
        }
    }

    fn resume(&mut self, from: &mut Unpack) -> Result<(), Damaged> {
        match (bool::unpack(from)?, self) {
            (true, Some(value)) => value.resume(from),
            (true, None) => Err(Damaged("something is in use that the settings switch off")),
            (false, _) => Ok(()),
        }
    }
}

impl<T: Resume> Resume for Box<T> {
    fn shape(shape: &mut Shape) {
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        T::pack(self, parcel);
    }

    fn resume(&mut self, from: &mut Unpack) -> Result<(), Damaged> {
        T::resume(self, from)
    }
}

/// Implements [`Carry`]: `struct Name { field, … }`, `struct Name(_)`, or `enum Name { 0 => Kind, 1 => Kind(a: A), 2 =>
/// Kind { a: A }, … }`. All of it is cold: what is done once in the life of a process shall be small.
macro_rules! carry {
    (struct $name:ident $(<$life:lifetime>)? { $($(#[$meta:meta])* $field:ident),* $(,)? }) => {
        impl $crate::carry::Carry for $name $(<$life>)? {
            #[cold]
            fn shape(shape: &mut $crate::carry::Shape) {
                shape.add(stringify!($name));
                $($(#[$meta])* shape.field(stringify!($field), |it: &Self| &it.$field);)*
            }

            #[cold]
            fn pack(&self, parcel: &mut $crate::carry::Parcel) {
                let Self { $($(#[$meta])* $field),* } = self;
                $($(#[$meta])* $crate::carry::Carry::pack($field, parcel);)*
            }

            #[cold]
            fn unpack(from: &mut $crate::carry::Unpack) -> Result<Self, $crate::carry::Damaged> {
                Ok(Self { $($(#[$meta])* $field: $crate::carry::Carry::unpack(from)?),* })
            }
        }
    };
    (struct $name:ident(_)) => {
        impl $crate::carry::Carry for $name {
            #[cold]
            fn shape(shape: &mut $crate::carry::Shape) {
                shape.field(stringify!($name), |it: &Self| &it.0);
            }

            #[cold]
            fn pack(&self, parcel: &mut $crate::carry::Parcel) {
                let Self(value) = self;
                $crate::carry::Carry::pack(value, parcel);
            }

            #[cold]
            fn unpack(from: &mut $crate::carry::Unpack) -> Result<Self, $crate::carry::Damaged> {
                Ok(Self($crate::carry::Carry::unpack(from)?))
            }
        }
    };
    (enum $name:ident { $($tag:literal => $kind:ident $(($($part:ident: $part_type:ty),*))? $({ $($field:ident: $type:ty),* })?),* $(,)? }) => {
        impl $crate::carry::Carry for $name {
            #[cold]
            fn shape(shape: &mut $crate::carry::Shape) {
                shape.add(stringify!($name));
                $(
                    shape.add(stringify!($tag));
                    shape.add(stringify!($kind));
                    $($(<$part_type as $crate::carry::Carry>::shape(shape);)*)?
                    $($(
                        shape.add(stringify!($field));
                        <$type as $crate::carry::Carry>::shape(shape);
                    )*)?
                )*
            }

            #[cold]
            fn pack(&self, parcel: &mut $crate::carry::Parcel) {
                match self {
                    $(
                        Self::$kind $(($($part),*))? $({ $($field),* })? => {
                            $crate::carry::Carry::pack(&($tag as u8), parcel);
                            $($($crate::carry::Carry::pack($part, parcel);)*)?
                            $($($crate::carry::Carry::pack($field, parcel);)*)?
                        }
                    )*
                }
            }

            #[cold]
            fn unpack(from: &mut $crate::carry::Unpack) -> Result<Self, $crate::carry::Damaged> {
                Ok(match <u8 as $crate::carry::Carry>::unpack(from)? {
                    $(
                        $tag => Self::$kind
                            $(($(<$part_type as $crate::carry::Carry>::unpack(from)?),*))?
                            $({ $($field: <$type as $crate::carry::Carry>::unpack(from)?),* })?,
                    )*
                    _ => return Err($crate::carry::Damaged(concat!(stringify!($name), " of no known kind"))),
                })
            }
        }
    };
}
pub(crate) use carry;

/// Implements [`Resume`] for `Name { carried: …; resumed: …; given: … }`: fields that are state, those that have some,
/// and those that the settings, or the first use, give.
macro_rules! resume {
    ($name:ident {
        carried: $($carried:ident),* $(,)?;
        resumed: $($resumed:ident),* $(,)?;
        given: $($(#[$meta:meta])* $given:ident),* $(,)?
    }) => {
        impl $crate::carry::Resume for $name {
            #[cold]
            fn shape(shape: &mut $crate::carry::Shape) {
                shape.add(stringify!($name));
                $(shape.field(stringify!($carried), |it: &Self| &it.$carried);)*
                $(shape.resumed(stringify!($resumed), |it: &Self| &it.$resumed);)*
            }

            #[cold]
            fn pack(&self, parcel: &mut $crate::carry::Parcel) {
                let Self { $($carried,)* $($resumed,)* $($(#[$meta])* $given: _,)* } = self;
                $($crate::carry::Carry::pack($carried, parcel);)*
                $($crate::carry::Resume::pack($resumed, parcel);)*
                // Some have nothing to write.
                let _ = parcel;
            }

            #[cold]
            fn resume(&mut self, from: &mut $crate::carry::Unpack) -> Result<(), $crate::carry::Damaged> {
                let Self { $($carried,)* $($resumed,)* $($(#[$meta])* $given: _,)* } = self;
                $(*$carried = $crate::carry::Carry::unpack(from)?;)*
                $($crate::carry::Resume::resume($resumed, from)?;)*
                let _ = from;
                Ok(())
            }
        }
    };
}
pub(crate) use resume;
