//! The subject of an authority's certificate, read so that it can be written as the issuer of others. Pure.

use rcgen::string::{Ia5String, PrintableString};
use rcgen::{DistinguishedName, DnType, DnValue};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

/// A value of DER (X.690): its tag, its content, and what follows it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    value(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

fn oid(content: &[u8]) -> Option<Vec<u64>> {
    let (mut numbers, mut number) = (Vec::new(), 0_u64);
    for byte in content {
        number = number.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let first = *numbers.first()?;
    let root = (first / 40).min(2);
    let mut all = vec![root, first - root * 40];
    all.extend_from_slice(numbers.get(1..)?);
    Some(all)
}

/// A distinguished name from its encoding without the outer tag; `None` where it is one that cannot be written the
/// same: several values at one place, or other sorts of text.
pub(crate) fn read(mut der: &[u8]) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    while !der.is_empty() {
        let (set, rest) = expect(SET, der)?;
        let (pair, []) = expect(SEQUENCE, set)? else { return None };
        let (kind, text) = expect(OID, pair)?;
        let (tag, text, []) = value(text)? else { return None };
        let text = std::str::from_utf8(text).ok()?;
        let text = match tag {
            UTF8 => DnValue::Utf8String(text.to_owned()),
            PRINTABLE => DnValue::PrintableString(PrintableString::try_from(text).ok()?),
            IA5 => DnValue::Ia5String(Ia5String::try_from(text).ok()?),
            _ => return None,
        };
        let kind = DnType::from_oid(&oid(kind)?);
        // A kind that is there twice would be there once.
        if name.get(&kind).is_some() {
            return None;
        }
        name.push(kind, text);
        der = rest;
    }
    Some(name)
}
