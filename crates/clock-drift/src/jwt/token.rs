//! From bytes to header and claims: a JWS or an unsecured token in the compact form of RFC 7515 section 7.1.
//!
//! Nothing in here says what the token was: errors tell what is wrong with it, never what it holds.

use data_encoding::{BASE64URL_NOPAD, DecodeKind};

use super::claims::{Claims, members, shown};

/// The longest token that is read, in bytes. No server takes a header of this size.
pub const LONGEST: usize = 64 * 1024;

/// What a token says, as far as it can be read without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The algorithm that the header names, fit to be shown.
    pub algorithm: String,
    /// The type that the header names, fit to be shown.
    pub kind: Option<String>,
    /// The claims that are about time.
    pub claims: Claims,
    /// Names that the header has more than once, fit to be shown.
    pub duplicate_header: Vec<String>,
    /// It says of itself that nobody signed it (RFC 7519 section 6).
    pub is_unsecured: bool,
    /// A part has padding, or the letters of plain base64.
    pub is_loosely_encoded: bool,
}

/// Why something is no token that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("there is no token: nothing but white space")]
    Empty,
    /// More than [`LONGEST`].
    #[error("longer than {} KiB: no token is", LONGEST / 1024)]
    TooLong,
    /// White space between two letters.
    #[error("there is white space inside: was a line broken while copying?")]
    Broken,
    /// A byte that no token has.
    #[error("byte {0} is no letter of a token (A-Z, a-z, 0-9, '-', '_', '.')")]
    Letter(usize),
    /// Not three parts.
    #[error("a signed token has three parts with dots between, this has {0}: was it cut off while copying?")]
    Parts(usize),
    /// A JWE.
    #[error(
        "an encrypted token (JWE, five parts): nobody without its key can read the claims, so nothing is known of its times"
    )]
    Encrypted,
    /// A part that does not decode.
    #[error("the {part} is not base64url: {reason}")]
    Encoding {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A part that is no JSON object.
    #[error("the {0} is not a JSON object (in UTF-8, all of it)")]
    NotAnObject(Part),
    /// The header names no algorithm.
    #[error("the header names no algorithm (\"alg\"): no verifier takes it")]
    NoAlgorithm,
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
    /// Reads it; the signature is decoded, and not verified.
    ///
    /// White space around it is taken off, and so is the name of the header it was sent in (`Authorization: Bearer`).
    pub fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let bare = bare(bytes);
        if bare.is_empty() {
            return Err(TokenError::Empty);
        }
        check_letters(bare)?;
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

/// Could this be a token, or the start of one? Whoever prints what was typed must not print that.
pub fn looks_like_one(text: &str) -> bool {
    let first = bare(text.as_bytes()).split(|b| *b == b'.').next().unwrap_or_default();
    // Four letters are three bytes: enough to see the start of a JSON object, wherever the rest was cut off.
    let start = first.get(..first.len().min(8) / 4 * 4).filter(|start| !start.is_empty());
    let decoded = start.and_then(|s| decode(s, Part::Header).ok());
    decoded.is_some_and(|(bytes, _)| {
        matches!(bytes.as_slice(), [b'{', b'"' | b'}' | b' ' | b'\t' | b'\n' | b'\r', ..])
    })
}

/// Without white space around it and the words it was sent with.
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

fn check_letters(bare: &[u8]) -> Result<(), TokenError> {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=".contains(&b);
    match bare.iter().position(|b| !is_letter(*b)) {
        None => Ok(()),
        Some(at) if bare.get(at).is_some_and(u8::is_ascii_whitespace) => Err(TokenError::Broken),
        Some(at) => Err(TokenError::Letter(at + 1)),
    }
}

/// The bytes of one part, and whether it took some indulgence to read it.
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
            DecodeKind::Length => "a letter is missing, as when it was cut off",
            DecodeKind::Symbol => "there is padding in the middle",
            DecodeKind::Trailing | DecodeKind::Padding => "its last letter cannot be right",
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
    fn it_is_taken_as_people_copy_it() {
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
    fn what_is_no_token_is_told_without_quoting_it() {
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
            (bare.replace('.', ".\n"), Err(TokenError::Broken)),
            ("ab{c}".to_owned(), Err(TokenError::Letter(3))),
            ("ü.b.c".to_owned(), Err(TokenError::Letter(1))),
            (format!("AA{bare}"), encoding(Part::Header, "a letter is missing, as when it was cut off")),
            (format!("{bare}AB"), encoding(Part::Signature, "its last letter cannot be right")),
            (bare.replacen('.', ".A=A", 1), encoding(Part::Payload, "there is padding in the middle")),
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
    fn its_length_is_bounded() {
        let claims = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
        let longest = (0..LONGEST)
            .rev()
            .step_by(64)
            .map(claims)
            .map(|c| sign(&c))
            .find(|t| t.len() <= LONGEST)
            .unwrap();
        let whole = longest.clone() + &" ".repeat(LONGEST - longest.len());
        assert!(whole.len() == LONGEST && read(&whole).is_ok());
        assert_eq!(read(&format!("{whole} ")), Err(TokenError::TooLong));
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = format!(r#"{{"a":{}{},"exp":1}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert!(read(&sign(&deep)).is_ok());
        let open = format!(r#"{{"a":{}"#, "[".repeat(40_000));
        assert_eq!(read(&sign(&open)), Err(TokenError::NotAnObject(Part::Payload)));
    }

    #[test]
    fn padding_and_plain_base64_are_read_and_told() {
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
    fn what_the_header_says_is_fit_for_a_terminal() {
        let header = "{\"alg\":\"\\u001b[2J\u{9b}\u{202e}x\",\"typ\":\"".to_owned()
            + &"y".repeat(100)
            + "\",\"alg2\":1,\"alg2\":2}";
        let token = read(&compact(header.as_bytes(), b"{}")).unwrap();
        assert_eq!(token.algorithm, "\\u{1b}[2J\\u{9b}\\u{202e}x");
        assert_eq!(token.kind.unwrap().chars().count(), 61);
        assert_eq!(token.duplicate_header, ["alg2"]);
    }

    #[test]
    fn a_token_is_known_by_its_first_letters() {
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
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Token::read(&bytes);
            let _ = looks_like_one(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_parts_are_read_without_a_panic(header: Vec<u8>, claims: Vec<u8>, signature in "[A-Za-z0-9+/_=-]{0,9}") {
            let _ = read(&(compact(&header, &claims) + &signature));
            let _ = read(&(compact(br#"{"alg":"x"}"#, &claims) + &signature));
        }
    }
}
