//! The claims about time, read without loss: every digit is kept, and names that occur twice are noticed.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::date::NumericDate;
use drift_core::time::Wall;

/// At most so many characters of a token's text are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// The three registered claims about time (RFC 7519 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Issued at.
    Iat,
    /// Not before.
    Nbf,
    /// Expires at.
    Exp,
}

impl Name {
    /// All of them, in the order of a token's life.
    pub const ALL: [Self; 3] = [Self::Iat, Self::Nbf, Self::Exp];

    /// As in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iat => "iat",
            Self::Nbf => "nbf",
            Self::Exp => "exp",
        }
    }
}

/// The claims about time, as written in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The claims that are present; the last one where a name occurs twice, as most verifiers read it.
    pub times: BTreeMap<Name, TimeClaim>,
    /// Names of claims that occur more than once, escaped for a terminal.
    pub duplicates: Vec<String>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeClaim {
    /// The JSON text, escaped for a terminal.
    pub written: String,
    /// The value that was read.
    pub value: TimeValue,
}

/// The value of a claim about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeValue {
    /// A number, as RFC 7519 requires.
    Number {
        /// The time.
        date: NumericDate,
        /// Written with a point or an exponent.
        is_fractional: bool,
    },
    /// A text, with the time that it can be read as.
    Text(Option<NumericDate>),
    /// Anything else: its JSON type.
    Other(&'static str),
}

impl Claims {
    pub(super) fn new(members: &Members<'_>) -> Self {
        let read = |name: Name| Some((name, TimeClaim::read(members.last(name.as_str())?)));
        Self { times: Name::ALL.into_iter().filter_map(read).collect(), duplicates: members.duplicates() }
    }

    /// The time of a claim; `None` when the claim is missing or not a number.
    pub fn date(&self, name: Name) -> Option<NumericDate> {
        match self.times.get(&name)?.value {
            TimeValue::Number { date, .. } => Some(date),
            TimeValue::Text(_) | TimeValue::Other(_) => None,
        }
    }
}

impl TimeClaim {
    /// From the JSON text of the value.
    fn read(json: &str) -> Self {
        let value = match json.as_bytes().first() {
            Some(b'"') => {
                TimeValue::Text(serde_json::from_str(json).ok().and_then(|text: String| date_in(&text)))
            }
            Some(b'{') => TimeValue::Other("an object"),
            Some(b'[') => TimeValue::Other("an array"),
            Some(b't' | b'f') => TimeValue::Other("a boolean"),
            Some(b'n') => TimeValue::Other("null"),
            _ => NumericDate::parse(json).map_or(TimeValue::Other("not a number"), |date| {
                TimeValue::Number { date, is_fractional: json.contains(['.', 'e', 'E']) }
            }),
        };
        Self { written: shown(json), value }
    }
}

/// The time that a text can be read as: a number of seconds, or RFC 3339.
fn date_in(text: &str) -> Option<NumericDate> {
    let text = text.trim();
    NumericDate::parse(text).or_else(|| Wall::parse_rfc3339(text).map(NumericDate::from))
}

/// Text from a token, escaped for a terminal: without control characters and changes of writing direction,
/// and cut off at [`SHOWN_CHARS_MAX`].
pub(super) fn shown(text: &str) -> String {
    let mut fit = String::new();
    for (index, letter) in text.chars().enumerate() {
        if index == SHOWN_CHARS_MAX {
            fit.push('…');
            break;
        }
        match letter {
            ' '..='~' => fit.push(letter),
            _ => fit.extend(letter.escape_unicode()),
        }
    }
    fit
}

/// The members of a JSON object in the order in which they are written, with duplicates. Values stay text:
/// nested values are checked and skipped without recursion, so that depth costs no memory.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The JSON text of a value; the last one where the name occurs more than once.
    pub(super) fn last(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(theirs, _)| theirs == name).map(|(_, value)| value.get())
    }

    /// Names that occur more than once, escaped for a terminal.
    pub(super) fn duplicates(&self) -> Vec<String> {
        let mut times = BTreeMap::<&str, usize>::new();
        for (name, _) in &self.0 {
            *times.entry(name).or_default() += 1;
        }
        times.into_iter().filter(|(_, times)| *times > 1).map(|(name, _)| shown(name)).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs).map(Self)
    }
}

/// The members of a JSON object; `None` when the bytes are not a JSON object.
pub(super) fn members(json: &[u8]) -> Option<Members<'_>> {
    serde_json::from_slice(json).ok()
}
