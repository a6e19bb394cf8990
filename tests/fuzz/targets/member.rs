//! What managers of sub-clusters and the primary send each other.

use causeway::fuzzing;
use causeway::member::proto::{MemberMessage, PrimaryMessage};
use prost::Message;

use super::{helps, messages};

/// An object as it travels. The first byte says which way; names in a certificate are read here, too.
pub fn member_objects(input: &[u8]) {
    let Some((first, encoded)) = input.split_first() else { return };
    let decode: fn(&[u8]) -> _ = match first % 3 {
        0 => fuzzing::member_object,
        1 => fuzzing::member_part,
        _ => {
            let subject = fuzzing::authority_subject(encoded);
            return assert!(subject.is_none_or(|subject| !subject.is_empty()));
        }
    };
    match decode(encoded) {
        // What is read is said in one way only.
        Ok(again) => assert_eq!(decode(&again).as_ref(), Ok(&again)),
        Err(faults) => helps(&faults),
    }
}

/// What a member says to the primary.
pub fn member_inbound(input: &[u8]) {
    let told = messages(input);
    let Ok(said) = fuzzing::member_inbound(told.iter().copied()) else { return };
    let asked = told.iter().filter_map(|told| MemberMessage::decode(*told).ok()).map(|told| told.encoded_len());
    // Nobody makes the primary say much by saying little.
    let bytes: usize = said.iter().map(Vec::len).sum();
    let fair = 4096 * (1 + told.len()) + 2048 * asked.sum::<usize>();
    assert!(bytes <= fair, "{bytes} bytes are said to {} messages", told.len());
    assert!(said.iter().all(|message| PrimaryMessage::decode(&**message).is_ok()));
}

/// What the primary says to a member: the first message holds the member's objects.
pub fn member_outbound(input: &[u8]) {
    let all = messages(input);
    let Some((objects, told)) = all.split_first() else { return };
    let objects = messages(objects);
    let Ok(said) = fuzzing::member_outbound(objects.iter().copied(), told.iter().copied()) else { return };
    assert!(said.iter().all(|message| MemberMessage::decode(&**message).is_ok()));
}
