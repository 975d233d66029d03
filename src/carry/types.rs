//! The types of the language and of its library, and those of crates, as they are carried.

use super::{Carry, Damaged, KIND, NUMBER, Parcel, SHORT, Shape, TEXT, Unpack};
use arrayvec::ArrayVec;
use slab::Slab;
use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::rc::Rc;

impl Carry for u8 {
    fn shape(shape: &mut Shape) {
        shape.add("byte");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.bytes.push(*self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Ok(from.take(1)?[0])
    }

    fn pack_all(all: &[Self], parcel: &mut Parcel) {
        parcel.bytes.extend_from_slice(all);
    }

    fn unpack_all(count: usize, from: &mut Unpack) -> Result<Vec<Self>, Damaged> {
        Ok(from.take(count)?.to_vec())
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl Carry for $type {
            fn shape(shape: &mut Shape) {
                shape.add(stringify!($type));
            }

            fn pack(&self, parcel: &mut Parcel) {
                parcel.number(*self as u64);
            }

            fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
                Self::try_from(from.number()?).map_err(|_| NUMBER)
            }
        })*
    };
}

numbers!(u16, u32, u64, usize);

impl Carry for i64 {
    fn shape(shape: &mut Shape) {
        shape.add("i64");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.number(self.cast_unsigned());
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Ok(from.number()?.cast_signed())
    }
}

impl Carry for u128 {
    fn shape(shape: &mut Shape) {
        shape.add("u128");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let bytes = from.take(size_of::<Self>())?;
        bytes.try_into().map(Self::from_le_bytes).map_err(|_| SHORT)
    }
}

impl Carry for bool {
    fn shape(shape: &mut Shape) {
        shape.add("flag");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.bytes.push(u8::from(*self));
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        match from.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(KIND),
        }
    }
}

impl Carry for NonZeroU16 {
    fn shape(shape: &mut Shape) {
        shape.add("positive");
    }

    fn pack(&self, parcel: &mut Parcel) {
        self.get().pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Self::new(u16::unpack(from)?).ok_or(NUMBER)
    }
}

impl Carry for IpAddr {
    fn shape(shape: &mut Shape) {
        shape.add("address");
    }

    fn pack(&self, parcel: &mut Parcel) {
        match self {
            Self::V4(address) => (4_u8, address.octets()).pack(parcel),
            Self::V6(address) => (6_u8, address.octets()).pack(parcel),
        }
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        match u8::unpack(from)? {
            4 => Ok(Ipv4Addr::from(<[u8; 4]>::unpack(from)?).into()),
            6 => Ok(Ipv6Addr::from(<[u8; 16]>::unpack(from)?).into()),
            _ => Err(KIND),
        }
    }
}

impl<T: Carry> Carry for Option<T> {
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

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        if bool::unpack(from)? { T::unpack(from).map(Some) } else { Ok(None) }
    }
}

impl<T: Carry> Carry for Box<T> {
    fn shape(shape: &mut Shape) {
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        T::pack(self, parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        T::unpack(from).map(Self::new)
    }
}

impl<T: Carry> Carry for Vec<T> {
    fn shape(shape: &mut Shape) {
        shape.add("several");
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.all(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let count = from.count()?;
        T::unpack_all(count, from)
    }
}

impl<T: Carry> Carry for Box<[T]> {
    fn shape(shape: &mut Shape) {
        Vec::<T>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.all(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Vec::unpack(from).map(Self::from)
    }
}

impl<T: Carry> Carry for VecDeque<T> {
    fn shape(shape: &mut Shape) {
        Vec::<T>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.each(self.iter());
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Vec::unpack(from).map(Self::from)
    }
}

impl<T: Carry, const N: usize> Carry for ArrayVec<T, N> {
    fn shape(shape: &mut Shape) {
        Vec::<T>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.all(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let all: Vec<T> = Vec::unpack(from)?;
        if all.len() > N { Err(NUMBER) } else { Ok(all.into_iter().collect()) }
    }
}

impl<T: Carry, const N: usize> Carry for [T; N] {
    fn shape(shape: &mut Shape) {
        shape.add(&N.to_string());
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        T::pack_all(self, parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        T::unpack_all(N, from)?.try_into().map_err(|_| SHORT)
    }
}

impl<K: Carry + Ord, V: Carry> Carry for BTreeMap<K, V> {
    fn shape(shape: &mut Shape) {
        shape.add("by");
        K::shape(shape);
        V::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.number(self.len() as u64);
        for (key, value) in self {
            key.pack(parcel);
            value.pack(parcel);
        }
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        // Collecting would sort what is in order, by some kilobytes of code for each type.
        let mut map = Self::new();
        map.extend(Vec::<(K, V)>::unpack(from)?);
        Ok(map)
    }
}

impl<T: Carry + Ord> Carry for BTreeSet<T> {
    fn shape(shape: &mut Shape) {
        Vec::<T>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.each(self.iter());
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let mut set = Self::new();
        set.extend(Vec::<T>::unpack(from)?);
        Ok(set)
    }
}

impl<T: Carry> Carry for Slab<T> {
    fn shape(shape: &mut Shape) {
        shape.add("places");
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.number(self.len() as u64);
        for (place, value) in self {
            place.pack(parcel);
            value.pack(parcel);
        }
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let all = Vec::<(usize, T)>::unpack(from)?;
        // A place far away would have all those before it made.
        let is_far = |&(place, _): &(usize, T)| place > u32::MAX as usize;
        if all.iter().any(is_far) { Err(NUMBER) } else { Ok(all.into_iter().collect()) }
    }
}

impl Carry for Box<str> {
    fn shape(shape: &mut Shape) {
        shape.add("text");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.text(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        String::unpack(from).map(Self::from)
    }
}

impl Carry for String {
    fn shape(shape: &mut Shape) {
        shape.add("text");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.text(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let count = from.count()?;
        std::str::from_utf8(from.take(count)?).map(Self::from).map_err(|_| TEXT)
    }
}

impl Carry for Cow<'static, str> {
    fn shape(shape: &mut Shape) {
        shape.add("text");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.text(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        String::unpack(from).map(Self::from)
    }
}

impl Carry for Cow<'static, [u8]> {
    fn shape(shape: &mut Shape) {
        Vec::<u8>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.all(self);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        Vec::unpack(from).map(Self::from)
    }
}

impl<T: Carry + 'static> Carry for Rc<T> {
    fn shape(shape: &mut Shape) {
        shape.add("shared");
        T::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.share(Self::as_ptr(self).addr(), |parcel| T::pack(self, parcel));
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        from.share(
            |from| T::unpack(from).map(Self::new),
            |value| Self::clone(value) as Rc<dyn Any>,
            |known| Rc::clone(known).downcast().ok(),
        )
    }
}

impl Carry for Rc<str> {
    fn shape(shape: &mut Shape) {
        shape.add("shared text");
    }

    fn pack(&self, parcel: &mut Parcel) {
        parcel.share(Self::as_ptr(self).addr(), |parcel| parcel.text(self));
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        from.share(
            |from| String::unpack(from).map(Self::from),
            |value| Rc::new(Self::clone(value)) as Rc<dyn Any>,
            |known| known.downcast_ref::<Self>().cloned(),
        )
    }
}

macro_rules! tuples {
    ($(($($type:ident $value:ident),*))*) => {
        $(impl<$($type: Carry),*> Carry for ($($type,)*) {
            fn shape(shape: &mut Shape) {
                $($type::shape(shape);)*
            }

            fn pack(&self, parcel: &mut Parcel) {
                let ($($value,)*) = self;
                $($value.pack(parcel);)*
            }

            fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
                Ok(($($type::unpack(from)?,)*))
            }
        })*
    };
}

tuples! {
    (A a, B b)
    (A a, B b, C c)
}
