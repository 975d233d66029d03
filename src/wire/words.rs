//! Short texts that every request has, looked at by the word instead of the byte.

/// A byte in each place of a word.
const fn everywhere(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each byte of `word` that is one of the `signs`; behind the first of them, of others, too.
#[inline(always)]
fn marked<const N: usize>(word: &[u8; 8], signs: [u8; N]) -> u64 {
    let word = u64::from_le_bytes(*word);
    let mark = |sign| {
        let differing = word ^ everywhere(sign);
        // Only a byte that is 0 borrows from the next.
        differing.wrapping_sub(everywhere(1)) & !differing
    };
    signs.into_iter().fold(0, |marks, sign| marks | mark(sign)) & everywhere(0x80)
}

/// Where the first of these signs stands. For long texts there is `memchr`, which takes longer to begin.
pub fn first_of<const N: usize>(text: &[u8], signs: [u8; N]) -> Option<usize> {
    let Some(last) = text.last_chunk() else { return text.iter().position(|byte| signs.contains(byte)) };
    let first_in = |word, at: usize| match marked(word, signs) {
        0 => None,
        marks => Some(at + marks.trailing_zeros() as usize / 8),
    };
    let mut words = text.as_chunks().0.iter().enumerate();
    // The last word may overlap the one before, in which there is none then.
    words.find_map(|(place, word)| first_in(word, 8 * place)).or_else(|| first_in(last, text.len() - 8))
}

/// Whether a field has that name, in any case. Two signs that may stand in a field's name and differ in that one bit are a
/// letter in both its cases, or are in none of the names that we know or that settings may have.
pub fn is_named(field: &[u8], name: &[u8]) -> bool {
    let is_same = |(field, name): (&[u8; 8], &[u8; 8])| {
        let differing = u64::from_le_bytes(*field) ^ u64::from_le_bytes(*name);
        differing | everywhere(0x20) == everywhere(0x20)
    };
    if field.len() != name.len() {
        return false;
    }
    match field.last_chunk().zip(name.last_chunk()) {
        // The last word may overlap the one before.
        Some(ends) => is_same(ends) && field.as_chunks().0.iter().zip(name.as_chunks().0).all(is_same),
        None => field.iter().zip(name).all(|(field, name)| (field ^ name) | 0x20 == 0x20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_is_found_wherever_it_stands() {
        let signs = *b"?#%";
        for length in 0..40 {
            for at in 0..length {
                for (first, second) in [(b'?', b'%'), (b'#', b'?'), (b'%', b'#'), (b'x', b'x'), (b'#', 0xff)]
                {
                    // What differs from a sign in one bit, or is one more or less.
                    for other in [b'x', b'>', b'@', b'"', b'$', b'&', 0xbf, 0xa3, 0, 0xff] {
                        let mut text = vec![other; length];
                        text[at] = first;
                        text[(at + 3) % length] = second;
                        let naive = text.iter().position(|byte| signs.contains(byte));
                        assert_eq!(first_of(&text, signs), naive, "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_of_fields_are_compared_in_any_case() {
        let names = [
            "te",
            "host",
            "x_user",
            "upgrade",
            "referer2",
            "content-length",
            "access-control-request-method",
        ];
        let tokens = (b'!'..=b'~').filter(|byte| !b"\"(),/:;<=>?@[\\]{}".contains(byte));
        let tokens: Vec<u8> = tokens.collect();
        for name in names {
            assert!(is_named(name.to_ascii_uppercase().as_bytes(), name.as_bytes()), "{name}");
            assert!(!is_named(&name.as_bytes()[1..], name.as_bytes()), "{name}");
            for place in 0..name.len() {
                for &byte in &tokens {
                    let mut other = name.as_bytes().to_vec();
                    other[place] = byte;
                    let is_same = other.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(is_named(&other, name.as_bytes()), is_same, "{name} and {other:?}");
                }
            }
        }
    }
}
