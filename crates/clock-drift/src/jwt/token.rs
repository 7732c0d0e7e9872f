//! From bytes to header and claims: a JWS or an unsecured token in the compact form of RFC 7515 section 7.1.
//!
//! No error quotes the token: an error names what is wrong with it, never what it holds.

use data_encoding::{BASE64URL_NOPAD, DecodeKind};

use super::claims::{Claims, members, shown};

/// The longest token that is read, in bytes. No server accepts a header of this size.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// The parts of a token that are judged or shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The algorithm that the header names, escaped for a terminal.
    pub algorithm: String,
    /// The type that the header names, escaped for a terminal.
    pub kind: Option<String>,
    /// The claims about time.
    pub claims: Claims,
    /// Names that occur more than once in the header, escaped for a terminal.
    pub duplicate_header: Vec<String>,
    /// The header declares that the token is not signed: `alg` is `none` (RFC 7519 section 6).
    pub is_unsecured: bool,
    /// A part has padding, or the characters `+` and `/` of plain base64.
    pub is_loosely_encoded: bool,
}

/// Why a token cannot be read. No message quotes the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("the input is empty")]
    Empty,
    /// More than [`TOKEN_BYTES_MAX`].
    #[error("longer than {} KiB, the maximum", TOKEN_BYTES_MAX / 1024)]
    TooLong,
    /// White space between two characters.
    #[error("there is white space inside: was a line broken while copying?")]
    WhiteSpace,
    /// A byte that does not occur in tokens; counted from 1.
    #[error("byte {0} is not a character of a token (A-Z, a-z, 0-9, '-', '_', '.')")]
    Character(usize),
    /// Neither three parts nor five.
    #[error("a signed token has three parts with dots between, this has {0}: was it cut off while copying?")]
    Parts(usize),
    /// A JWE (RFC 7516).
    #[error(
        "an encrypted token (JWE, five parts): its claims, and so its times, can only be read with its key"
    )]
    Encrypted,
    /// A part that is not base64url.
    #[error("the {part} is not base64url: {reason}")]
    Encoding {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        reason: EncodingError,
    },
    /// A part that is not a JSON object.
    #[error("the {0} is not a JSON object (in UTF-8, all of it)")]
    NotAnObject(Part),
    /// The header names no algorithm.
    #[error("the header names no algorithm (\"alg\"): no verifier accepts it")]
    NoAlgorithm,
}

/// Why a part is not base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// The length is impossible.
    #[error("a letter is missing, as when it was cut off")]
    Length,
    /// `=` before the end.
    #[error("there is padding in the middle")]
    PaddingInside,
    /// The last letter has bits that no byte uses.
    #[error("its last letter cannot be right")]
    LastLetter,
}

/// The parts of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The claims.
    Payload,
    /// The signature.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "first part (header)",
            Self::Payload => "second part (claims)",
            Self::Signature => "third part (signature)",
        })
    }
}

impl Token {
    /// Reads a token; the signature is decoded, and not verified.
    ///
    /// White space around the token is removed, and so is the header in which it was sent (`Authorization:
    /// Bearer`).
    pub fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let bare = bare(bytes);
        if bare.is_empty() {
            return Err(TokenError::Empty);
        }
        check_characters(bare)?;
        let parts: Vec<&[u8]> = bare.split(|b| *b == b'.').collect();
        let (header, payload, signature) = match parts.as_slice() {
            [header, payload, signature] => (header, payload, signature),
            [_, _, _, _, _] => return Err(TokenError::Encrypted),
            _ => return Err(TokenError::Parts(parts.len())),
        };
        let (header, header_is_loose) = decode(header, Part::Header)?;
        let (payload, payload_is_loose) = decode(payload, Part::Payload)?;
        let (_, signature_is_loose) = decode(signature, Part::Signature)?;
        let header = members(&header).ok_or(TokenError::NotAnObject(Part::Header))?;
        let text =
            |name: &str| serde_json::from_str::<String>(header.last(name)?).ok().map(|text| shown(&text));
        let claims = members(&payload).ok_or(TokenError::NotAnObject(Part::Payload))?;
        let algorithm = text("alg").ok_or(TokenError::NoAlgorithm)?;
        Ok(Self {
            is_unsecured: algorithm.eq_ignore_ascii_case("none"),
            algorithm,
            kind: text("typ"),
            claims: Claims::new(&claims),
            duplicate_header: header.duplicates(),
            is_loosely_encoded: header_is_loose || payload_is_loose || signature_is_loose,
        })
    }
}

/// Could this be a token, or the start of one? Such text must not be printed.
pub fn looks_like_one(text: &str) -> bool {
    let first = bare(text.as_bytes()).split(|b| *b == b'.').next().unwrap_or_default();
    // Four letters are three bytes: enough to see the start of a JSON object, wherever the rest was cut off.
    let start = first.get(..first.len().min(8) / 4 * 4).filter(|start| !start.is_empty());
    let decoded = start.and_then(|s| decode(s, Part::Header).ok());
    decoded.is_some_and(|(bytes, _)| {
        matches!(bytes.as_slice(), [b'{', b'"' | b'}' | b' ' | b'\t' | b'\n' | b'\r', ..])
    })
}

/// Without white space around the token, and without `Authorization:` and `Bearer`.
fn bare(bytes: &[u8]) -> &[u8] {
    let mut bare = bytes.trim_ascii();
    for word in [&b"authorization:"[..], b"bearer"] {
        let Some((start, rest)) = bare.split_at_checked(word.len()) else { continue };
        let is_apart = word.ends_with(b":") || rest.first().is_none_or(u8::is_ascii_whitespace);
        if start.eq_ignore_ascii_case(word) && is_apart {
            bare = rest.trim_ascii_start();
        }
    }
    bare
}

fn check_characters(bare: &[u8]) -> Result<(), TokenError> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=".contains(&b);
    match bare.iter().position(|b| !is_allowed(*b)) {
        None => Ok(()),
        Some(at) if bare.get(at).is_some_and(u8::is_ascii_whitespace) => Err(TokenError::WhiteSpace),
        Some(at) => Err(TokenError::Character(at + 1)),
    }
}

/// The bytes of one part, and whether it has padding or the characters of plain base64.
fn decode(part: &[u8], which: Part) -> Result<(Vec<u8>, bool), TokenError> {
    let padding = part.iter().rev().take_while(|b| **b == b'=').count();
    let unpadded = part.get(..part.len() - padding).unwrap_or_default();
    let is_plain = unpadded.iter().any(|b| b"+/".contains(b));
    let letters: Vec<u8> = unpadded
        .iter()
        .map(|b| match b {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    let bytes = BASE64URL_NOPAD.decode(&letters).map_err(|error| {
        let reason = match error.kind {
            DecodeKind::Length => EncodingError::Length,
            DecodeKind::Symbol => EncodingError::PaddingInside,
            DecodeKind::Trailing | DecodeKind::Padding => EncodingError::LastLetter,
        };
        TokenError::Encoding { part: which, reason }
    })?;
    Ok((bytes, padding > 0 || is_plain))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use proptest::prelude::*;

    use super::super::cases::Key;
    use super::*;
    use crate::test_support::Reached;

    fn sign(claims: &str) -> String {
        Key::new([1, 2, 3, 4]).sign(claims)
    }

    /// An unsigned token of a header and claims.
    fn compact(header: &[u8], claims: &[u8]) -> String {
        format!("{}.{}.", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims))
    }

    fn read(text: &str) -> Result<Token, TokenError> {
        Token::read(text.as_bytes())
    }

    #[test]
    fn white_space_and_the_header_name_are_removed() {
        let bare = sign(r#"{"exp":1}"#);
        let plain = read(&bare).unwrap();
        assert_eq!(
            (plain.algorithm.as_str(), plain.kind.as_deref(), plain.is_unsecured),
            ("HS256", Some("JWT"), false)
        );
        for text in [
            format!("  {bare}\r\n"),
            format!("Bearer {bare}"),
            format!("\tbearer \n {bare} "),
            format!("Authorization: Bearer {bare}"),
            format!("authorization:bearer {bare}"),
        ] {
            assert_eq!(read(&text), Ok(plain.clone()), "{text:?}");
        }
    }

    #[test]
    fn unreadable_tokens_are_rejected_by_name() {
        let (header, claims) = (br#"{"alg":"none"}"#, b"{}");
        let bare = compact(header, claims);
        assert!(read(&bare).unwrap().is_unsecured);
        let encoding = |part, reason| Err(TokenError::Encoding { part, reason });
        for (text, wrong) in [
            (String::new(), Err(TokenError::Empty)),
            (" \n".to_owned(), Err(TokenError::Empty)),
            ("Bearer ".to_owned(), Err(TokenError::Empty)),
            ("Bearerx".to_owned(), Err(TokenError::Parts(1))),
            ("a.b".to_owned(), Err(TokenError::Parts(2))),
            ("a.b.c.d".to_owned(), Err(TokenError::Parts(4))),
            ("a.b.c.d.e".to_owned(), Err(TokenError::Encrypted)),
            ("a.b.c.d.e.f".to_owned(), Err(TokenError::Parts(6))),
            (bare.replace('.', ".\n"), Err(TokenError::WhiteSpace)),
            ("ab{c}".to_owned(), Err(TokenError::Character(3))),
            ("ü.b.c".to_owned(), Err(TokenError::Character(1))),
            (format!("AA{bare}"), encoding(Part::Header, EncodingError::Length)),
            (format!("{bare}AB"), encoding(Part::Signature, EncodingError::LastLetter)),
            (bare.replacen('.', ".A=A", 1), encoding(Part::Payload, EncodingError::PaddingInside)),
            (compact(b"[]", claims), Err(TokenError::NotAnObject(Part::Header))),
            (compact(b"", claims), Err(TokenError::NotAnObject(Part::Header))),
            (compact(header, b"\"text\""), Err(TokenError::NotAnObject(Part::Payload))),
            (compact(header, b"{} {}"), Err(TokenError::NotAnObject(Part::Payload))),
            (compact(header, b"{\"a\":\"\xff\"}"), Err(TokenError::NotAnObject(Part::Payload))),
            (compact(header, b"{\"a\":01}"), Err(TokenError::NotAnObject(Part::Payload))),
            (compact(b"{}", claims), Err(TokenError::NoAlgorithm)),
            (compact(br#"{"alg":1}"#, claims), Err(TokenError::NoAlgorithm)),
        ] {
            assert_eq!(read(&text), wrong, "{text:?}");
        }
    }

    #[test]
    fn tokens_over_64_kib_are_rejected() {
        let claims = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
        let longest = (0..TOKEN_BYTES_MAX)
            .rev()
            .step_by(64)
            .map(claims)
            .map(|c| sign(&c))
            .find(|t| t.len() <= TOKEN_BYTES_MAX)
            .unwrap();
        let whole = longest.clone() + &" ".repeat(TOKEN_BYTES_MAX - longest.len());
        assert!(whole.len() == TOKEN_BYTES_MAX && read(&whole).is_ok());
        assert_eq!(read(&format!("{whole} ")), Err(TokenError::TooLong));
    }

    #[test]
    fn deeply_nested_claims_are_parsed_without_recursion() {
        let deep = format!(r#"{{"a":{}{},"exp":1}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert!(read(&sign(&deep)).is_ok());
        let open = format!(r#"{{"a":{}"#, "[".repeat(40_000));
        assert_eq!(read(&sign(&open)), Err(TokenError::NotAnObject(Part::Payload)));
    }

    #[test]
    fn padding_and_plain_base64_are_read_and_flagged() {
        let claims = br#"{"exp":1,"a":"~~~???>>>"}"#;
        let (header, strict) =
            (BASE64URL_NOPAD.encode(br#"{"alg":"HS256"}"#), BASE64URL_NOPAD.encode(claims));
        let plain = BASE64.encode(claims);
        assert!(strict.contains(['-', '_']) && plain.contains(['+', '/', '=']));
        assert!(!read(&format!("{header}.{strict}.")).unwrap().is_loosely_encoded);
        for text in [
            format!("{header}.{plain}."),
            format!("{header}.{}.", plain.trim_end_matches('=')),
            format!("{header}.{strict}==."),
            format!("{header}.{strict}.AA=="),
        ] {
            let token = read(&text).unwrap();
            assert!(token.is_loosely_encoded && token.claims.times.len() == 1, "{text}");
        }
    }

    #[test]
    fn header_fields_are_escaped_for_a_terminal() {
        let header = "{\"alg\":\"\\u001b[2J\u{9b}\u{202e}x\",\"typ\":\"".to_owned()
            + &"y".repeat(100)
            + "\",\"alg2\":1,\"alg2\":2}";
        let token = read(&compact(header.as_bytes(), b"{}")).unwrap();
        assert_eq!(token.algorithm, "\\u{1b}[2J\\u{9b}\\u{202e}x");
        assert_eq!(token.kind.unwrap().chars().count(), 61);
        assert_eq!(token.duplicate_header, ["alg2"]);
    }

    #[test]
    fn tokens_are_recognised_by_their_first_letters() {
        let token = sign("{}");
        for text in [&token[..], &token[..8], &token[..5], "ewogICJhbGciOiAi", "eyAi.x.y", "e30.."] {
            assert_eq!(looks_like_one(text), text != "e30..", "{text}");
        }
        for text in ["", "-", "exact", "time.google.com", "json", "eyes", "2026-11-22T10:00:00Z"] {
            assert!(!looks_like_one(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = Token::read(&bytes);
            let _ = looks_like_one(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Of bytes without a form, and of objects with any members.
    #[test]
    fn reading_any_parts_never_panics() {
        let reached = Reached::new([
            ("a token", 10),
            ("a token with times", 5),
            ("no object", 15),
            ("not base64url", 3),
        ]);
        let value = prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            "[0-9.]{1,4}|[0-9e\\[\\]{}]{0,4}",
        ];
        let object = prop::collection::vec(("alg|typ|exp|nbf|iat|x", value), 0..5).prop_map(|members| {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        });
        let signature = prop_oneof![1 => "[A-Za-z0-9+/_=-]{0,9}", 4 => any::<Vec<u8>>().prop_map(|bytes| BASE64URL_NOPAD.encode(&bytes))];
        let part = || prop_oneof![1 => any::<Vec<u8>>().boxed(), 3 => object.clone().boxed()];
        proptest!(|(header in part(), claims in part(), signature in signature)| {
            let _ = read(&(compact(&header, &claims) + &signature));
            let token = read(&(compact(br#"{"alg":"x"}"#, &claims) + &signature));
            reached.case("a token", token.is_ok());
            reached.case("no object", matches!(token, Err(TokenError::NotAnObject(_))));
            reached.case("not base64url", token.is_err() && !matches!(token, Err(TokenError::NotAnObject(_))));
            reached.case("a token with times", token.is_ok_and(|token| !token.claims.times.is_empty()));
        });
    }
}
