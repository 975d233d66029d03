//! What is in many places at once, a bit each: whether a text may be what a template was expanded to.
//!
//! Its places are those of the bytes that it takes, in order. One byte of the text moves all of them with a few
//! operations for each 64, so a text costs its length times that of the template divided by 64, whatever both are; there
//! is nothing to go back to. All that can be left out is left out forwards: from any place in a row of expressions to the
//! beginning of each later one, and behind the row. Such a row is left by one subtraction: it carries from the row's
//! beginning to the lowest place that is held, and what it does not touch is above.

/// A class of bytes that values have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Letters, digits, `-._~` and the comma.
    Plain,
    /// The same with `=`.
    Named,
    /// The same with all that RFC 3986 reserves.
    Reserved,
}

impl Class {
    /// Whether a byte is of the class.
    pub const fn has(self, byte: u8) -> bool {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b',');
        match self {
            Self::Plain => is_plain,
            Self::Named => is_plain || byte == b'=',
            Self::Reserved => {
                is_plain
                    || matches!(
                        byte,
                        b'!' | b'#' | b'$' | b'&'..=b'+' | b'/' | b':' | b';' | b'=' | b'?' | b'@'
                    )
                    || matches!(byte, b'[' | b']')
            }
        }
    }
}

/// What the bytes of a value are of: a class, and perhaps a separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set {
    class: Class,
    separator: Option<u8>,
}

impl Set {
    /// The bytes of a class.
    pub const fn of(class: Class) -> Self {
        Self { class, separator: None }
    }

    /// And that one.
    pub const fn with(self, separator: u8) -> Self {
        Self { separator: Some(separator), ..self }
    }

    fn has(self, byte: u8) -> bool {
        self.class.has(byte) || self.separator == Some(byte)
    }
}

/// A part of what a machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This byte.
    Byte(u8),
    /// An expression begins. All of it may be absent.
    Begin,
    /// Any number of bytes of this set, or of escaped ones.
    Value(Set),
    /// This byte between two values; the expression may end before it.
    Separator(u8),
    /// The expression ends.
    End,
}

/// A bit of one of the words, and others of the same word.
type Bits = (u32, u64);

/// A machine, made once.
#[derive(Debug, Default)]
pub struct Machine {
    /// The place behind the last byte.
    end: u32,
    /// Places that one byte leads on from, by that byte, sorted.
    bytes: Box<[(u8, Bits)]>,
    /// Places that a hexadecimal digit leads on from: the first of an escaped byte.
    first_digits: Box<[Bits]>,
    /// And the second, which leads back to the value.
    second_digits: Box<[Bits]>,
    /// Values, which stay where they are.
    values: Box<[(Set, Bits)]>,
    /// Values with a separator behind them.
    separated: Box<[Bits]>,
    /// By word.
    rows: Box<[Rows]>,
}

/// Rows of expressions, with nothing between them.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    /// The first place of each.
    first: u64,
    /// The place behind each.
    behind: u64,
    /// Places that the rest can be left out from.
    leaving: u64,
    /// Where one is then: beginnings of expressions, and places behind rows.
    reached: u64,
}

/// Bytes of an escaped byte: a value has so many places.
const ESCAPED: u32 = 3;
/// Machines of so many words need no memory of their own to run.
const SMALL: usize = 4;

/// A set of places while a machine is made, in order.
#[derive(Default)]
struct Places(Vec<Bits>);

impl Places {
    fn add(&mut self, place: u32) {
        let (word, bit) = (place / 64, 1 << (place % 64));
        match self.0.last_mut().filter(|(last, _)| *last == word) {
            Some((_, bits)) => *bits |= bit,
            None => self.0.push((word, bit)),
        }
    }
}

/// A machine in the making.
#[derive(Default)]
struct Builder {
    place: u32,
    bytes: std::collections::BTreeMap<u8, Places>,
    values: std::collections::BTreeMap<Set, Places>,
    first_digits: Places,
    second_digits: Places,
    separated: Places,
    rows: Vec<Rows>,
}

impl Builder {
    fn take(&mut self, byte: u8) {
        self.bytes.entry(byte).or_default().add(self.place);
        self.place += 1;
    }

    fn value(&mut self, set: Set) {
        self.values.entry(set).or_default().add(self.place);
        self.bytes.entry(b'%').or_default().add(self.place);
        self.first_digits.add(self.place + 1);
        self.second_digits.add(self.place + 2);
        self.place += ESCAPED;
    }

    /// Notes something of the rows at the place that comes next.
    fn note(&mut self, what: fn(&mut Rows) -> &mut u64) {
        let word = (self.place / 64) as usize;
        if self.rows.len() <= word {
            self.rows.resize(word + 1, Rows::default());
        }
        *what(&mut self.rows[word]) |= 1 << (self.place % 64);
    }

    fn write(&mut self, steps: &[Step]) {
        let mut is_in_row = false;
        for (at, &step) in steps.iter().enumerate() {
            match step {
                Step::Byte(byte) => {
                    // Of an expression, if that has just begun.
                    if at > 0 && steps[at - 1] == Step::Begin {
                        self.note(|rows| &mut rows.leaving);
                    }
                    self.take(byte);
                }
                Step::Begin => match std::mem::replace(&mut is_in_row, true) {
                    false => self.note(|rows| &mut rows.first),
                    true => self.note(|rows| &mut rows.reached),
                },
                Step::Value(set) => {
                    self.note(|rows| &mut rows.leaving);
                    if matches!(steps.get(at + 1), Some(Step::Separator(_))) {
                        self.separated.add(self.place);
                    }
                    self.value(set);
                }
                Step::Separator(byte) => {
                    self.note(|rows| &mut rows.leaving);
                    self.take(byte);
                }
                Step::End if steps.get(at + 1) == Some(&Step::Begin) => {}
                Step::End => {
                    is_in_row = false;
                    self.note(|rows| &mut rows.behind);
                    self.note(|rows| &mut rows.reached);
                }
            }
        }
    }
}

impl Machine {
    /// The machine that takes these.
    pub fn new(steps: &[Step]) -> Self {
        let mut of = Builder::default();
        of.write(steps);
        of.rows.resize((of.place / 64) as usize + 1, Rows::default());
        fn sorted<T: Copy>(map: std::collections::BTreeMap<T, Places>) -> Box<[(T, Bits)]> {
            let all = map.into_iter();
            all.flat_map(|(of, places)| places.0.into_iter().map(move |bits| (of, bits))).collect()
        }
        Self {
            end: of.place,
            bytes: sorted(of.bytes),
            first_digits: of.first_digits.0.into(),
            second_digits: of.second_digits.0.into(),
            values: sorted(of.values),
            separated: of.separated.0.into(),
            rows: of.rows.into(),
        }
    }

    /// Words of 64 places.
    pub const fn words(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that it takes beside itself.
    pub fn bytes(&self) -> usize {
        let bits = self.first_digits.len() + self.second_digits.len() + self.separated.len();
        size_of_val(&*self.bytes)
            + size_of_val(&*self.values)
            + size_of_val(&*self.rows)
            + bits * size_of::<Bits>()
    }

    /// Whether it takes all of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self.words() {
            1 => self.run(text, &mut [0], &mut [0]),
            words @ 2..=SMALL => self.run(text, &mut [0; SMALL][..words], &mut [0; SMALL][..words]),
            words => self.run(text, &mut vec![0; words], &mut vec![0; words]),
        }
    }

    /// The same, with memory for the places that are held and for those of the next turn.
    fn run<'m>(&self, text: &[u8], mut held: &'m mut [u64], mut next: &'m mut [u64]) -> bool {
        held[0] = 1;
        self.leave_out(held);
        for &byte in text {
            if !self.take(byte, held, next) {
                return false;
            }
            std::mem::swap(&mut held, &mut next);
            self.leave_out(held);
        }
        held[(self.end / 64) as usize] >> (self.end % 64) & 1 == 1
    }

    /// Takes a byte. Returns whether a place is held then.
    fn take(&self, byte: u8, held: &[u64], next: &mut [u64]) -> bool {
        next.fill(0);
        let mut any = 0;
        let from = self.bytes.partition_point(|(other, _)| *other < byte);
        let onward = self.bytes[from..].iter().take_while(|(other, _)| *other == byte).map(|(_, bits)| bits);
        let digits = self.first_digits.iter().take(if byte.is_ascii_hexdigit() { usize::MAX } else { 0 });
        for &(word, bits) in onward.chain(digits) {
            let bits = held[word as usize] & bits;
            any |= bits;
            up(next, word, bits, 1);
        }
        if byte.is_ascii_hexdigit() {
            for &(word, bits) in &self.second_digits {
                let bits = held[word as usize] & bits;
                any |= bits;
                next[word as usize] |= bits >> (ESCAPED - 1);
                if word > 0 {
                    next[word as usize - 1] |= bits << (64 - (ESCAPED - 1));
                }
            }
        }
        for &(set, (word, bits)) in &self.values {
            if set.has(byte) {
                let bits = held[word as usize] & bits;
                any |= bits;
                next[word as usize] |= bits;
            }
        }
        any != 0
    }

    /// Holds all places, too, that are reached by leaving something out.
    fn leave_out(&self, held: &mut [u64]) {
        let mut borrow = false;
        for (held, rows) in held.iter_mut().zip(&self.rows) {
            let from = *held & rows.leaving | rows.behind;
            let (less, first) = from.overflowing_sub(rows.first);
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            borrow = first || second;
            // What is above the lowest place of its row that is held.
            *held |= (!less ^ from) & rows.reached;
        }
        for &(word, bits) in &self.separated {
            let bits = held[word as usize] & bits;
            up(held, word, bits, ESCAPED);
        }
    }
}

/// Sets `bits` of a word so many places higher.
fn up(words: &mut [u64], word: u32, bits: u64, by: u32) {
    words[word as usize] |= bits << by;
    if let Some(above) = words.get_mut(word as usize + 1) {
        *above |= bits >> (64 - by);
    }
}
