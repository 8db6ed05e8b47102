//! What may be in a topic, an id and a type.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The first character that names on the wire must not hold: C0, DEL, C1, or format characters.
///
/// Format characters (category Cf) are invisible, so two topics could look alike and differ.
/// [Mercure, Terminology]
pub(crate) fn forbidden_char(text: &str) -> Option<char> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return None;
    }
    text.chars().find(|&c| c.is_control() || c.general_category() == GeneralCategory::Format)
}

/// Makes CR and CRLF LF, as a reader of SSE would get them anyway; `None` if there is nothing to change.
pub(crate) fn normalize_line_ends(text: &str) -> Option<String> {
    if !text.as_bytes().contains(&b'\r') {
        return None;
    }
    Some(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Percent-encodes everything but `A-Z a-z 0-9 - . _ ~ /`.
pub(crate) fn percent_encode(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// The reverse of [`percent_encode`]; `None` if a `%` isn't followed by two hex digits or the result isn't UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_forbidden() {
        for bad in ["\0", "a\nb", "\u{7f}", "\u{85}", "\u{200b}", "\u{202e}", "\u{feff}"] {
            assert!(forbidden_char(bad).is_some(), "{bad:?}");
        }
        for good in ["orders/42", "https://example.com/ü?x=1#y", "日本語 🎉"] {
            assert_eq!(forbidden_char(good), None, "{good:?}");
        }
    }

    #[test]
    fn line_ends_become_lf_once() {
        assert_eq!(normalize_line_ends("a\r\nb\rc\nd\r\r\n").as_deref(), Some("a\nb\nc\nd\n\n"));
        assert_eq!(normalize_line_ends("a\nb"), None);
    }

    #[test]
    fn percent_coding_round_trips() {
        for text in ["orders/42", "a;b c%d=é🎉", ""] {
            let mut out = Vec::new();
            percent_encode(text, &mut out);
            let encoded = String::from_utf8(out).unwrap();
            assert!(!encoded.contains([';', ' ']), "{encoded}");
            assert_eq!(percent_decode(&encoded).as_deref(), Some(text));
        }
        assert_eq!(percent_decode("%4"), None);
        assert_eq!(percent_decode("%ff"), None);
    }
}
