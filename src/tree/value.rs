//! From the bytes of a write to one value: one line of printable ASCII.

use std::collections::BTreeSet;

use super::VALUE_MAX_BYTES;
use crate::core::{
    intent::Place,
    names::BoxName,
    refusal::{Errno, Refusal, quote},
    wish::Or,
};

/// Bytes of a bad input that are looked at for a sentence: more than it quotes.
const QUOTE_MAX_BYTES: usize = 320;

/// EINVAL with that sentence.
pub fn invalid(text: String) -> Refusal {
    Refusal::new(Errno::Invalid, text)
}

/// The value in one write(2): surrounding blanks and one newline at the end do not belong to it.
pub fn value(bytes: &[u8], offset: u64) -> Result<&str, Refusal> {
    let lossy = || quote(&String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTE_MAX_BYTES)]));
    if offset != 0 {
        return Err(invalid(format!(
            "{} was written at offset {offset}: a value is one write at the beginning; use > and not >>, and one line",
            lossy()
        )));
    }
    if bytes.len() > VALUE_MAX_BYTES {
        return Err(invalid(format!(
            "{} has {} bytes, a value has at most {VALUE_MAX_BYTES}",
            lossy(),
            bytes.len()
        )));
    }
    // Newlines are no blanks: of those only the one at the end is meant by nothing.
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let begin = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !blank(byte)).map_or(begin, |at| at + 1);
    let inner = &line[begin..end];
    if inner.contains(&b'\n') {
        return Err(invalid(format!("{} has more than one line: write one line at a time", lossy())));
    }
    if inner.is_empty() {
        return Err(invalid(format!("{} is empty: write a value, see README for this file's", lossy())));
    }
    if !inner.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err(invalid(format!("{} is not plain ASCII text: write letters, digits and signs", lossy())));
    }
    std::str::from_utf8(inner).map_err(|_| invalid(format!("{} is not plain ASCII text", lossy())))
}

/// `default`, or what `parse` makes of the value.
pub fn or_default<'a, T>(
    value: &'a str,
    parse: impl Fn(&'a str) -> Result<T, Refusal>,
) -> Result<Or<T>, Refusal> {
    if value == "default" { Ok(Or::Default) } else { parse(value).map(Or::Set) }
}

/// How many copies: from 1 up. How many there can be is for the kernels to say.
pub fn replicas(value: &str) -> Result<u8, Refusal> {
    let refuse =
        |why| invalid(format!("{} is not a number of replicas: {why}; write it like 2", quote(value)));
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse("it has to be a whole number"));
    }
    match value.parse::<u8>() {
        Ok(0) => Err(refuse("a volume has at least one; to remove it, rmdir it")),
        Ok(number) => Ok(number),
        Err(_) => Err(refuse("that is more than DRBD can")),
    }
}

/// `auto`, or boxes with blanks or commas between them, each once.
pub fn place(value: &str) -> Result<Place, Refusal> {
    if value == "auto" {
        return Ok(Place::Auto);
    }
    let mut boxes = BTreeSet::new();
    for word in value.split([' ', ',']).filter(|word| !word.is_empty()) {
        if word == "auto" {
            return Err(invalid(format!("{} names boxes and auto: write one or the other", quote(value))));
        }
        let name = BoxName::new(word).map_err(|refusal| {
            invalid(format!(
                "{} is not a place: {}; write auto, or boxes like box1 box2",
                quote(value),
                refusal.text
            ))
        })?;
        if !boxes.insert(name) {
            return Err(invalid(format!(
                "{} names {word} twice: a box has one copy at most, name each once",
                quote(value)
            )));
        }
    }
    if boxes.is_empty() {
        return Err(invalid(format!("{} names no box: write auto, or boxes like box1 box2", quote(value))));
    }
    Ok(Place::Boxes(boxes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_and_surrounding_blanks_do_not_count() {
        for bytes in [&b"20G"[..], b"20G\n", b"  20G \n", b"\t20G\t", b"20G\r\n"] {
            assert_eq!(value(bytes, 0).unwrap(), "20G");
        }
        assert_eq!(value(b"box1  box2\n", 0).unwrap(), "box1  box2");
    }

    #[test]
    fn what_is_not_one_line_of_ascii_is_refused_and_quoted() {
        for bytes in [
            &b""[..],
            b"\n",
            b"  \n",
            b"20G\n\n",
            b"20G\n30G\n",
            b"\n20G",
            b"20\0G",
            b"20\x1bG",
            b"20\tG",
            b"\xff\xfe",
            "2\u{e4}".as_bytes(),
            &[b'x'; VALUE_MAX_BYTES + 1],
        ] {
            let refusal = value(bytes, 0).unwrap_err();
            assert_eq!(refusal.errno, Errno::Invalid, "{bytes:?}");
            assert!(refusal.text.starts_with('"') && refusal.text.len() < 600, "{}", refusal.text);
        }
        assert!(value(&[b'x'; VALUE_MAX_BYTES], 0).is_ok());
        assert!(value(b"20G", 1).unwrap_err().text.contains("offset 1"));
    }
}
