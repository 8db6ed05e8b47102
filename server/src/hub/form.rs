//! `application/x-www-form-urlencoded`, with strict UTF-8.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::Refused;

/// The pairs of a form or a query, in order. [WHATWG URL §5.1], but text that isn't UTF-8 is refused, not replaced.
pub fn form_pairs(input: &[u8]) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Refused>> {
    input.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=');
        let (name, value) = at.map_or((pair, &pair[pair.len()..]), |at| (&pair[..at], &pair[at + 1..]));
        Ok((decode(name)?, decode(value)?))
    })
}

fn decode(text: &[u8]) -> Result<Cow<'_, str>, Refused> {
    let not_utf8 = |_| Refused::bad_request("not_utf8", "a name or value isn't valid UTF-8");
    if !text.contains(&b'+') {
        return percent_decode(text).decode_utf8().map_err(not_utf8);
    }
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let decoded = percent_decode(&spaced).decode_utf8().map_err(not_utf8)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let pairs: Vec<_> = form_pairs(b"a=1+2&&b&c=%C3%A9%2B=&=x").map(Result::unwrap).collect();
        let expected = [("a", "1 2"), ("b", ""), ("c", "é+="), ("", "x")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.into(), value.into())));
        assert!(form_pairs(b"a=%ff").any(|pair| pair.is_err()));
    }
}
