//! One value of a setting: its text, where it was written, and the error if it is invalid.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::nearest::question;
use super::raw::ConfigText;
use drift_core::time::SettingSpan;

/// Why a configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One value is invalid.
    #[error("{key}: invalid value {value:?}: expected {expected} ({origin})")]
    Value {
        /// The key as in the file.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What would be valid; completes "expected …".
        expected: String,
        /// Where the value was written.
        origin: Origin,
    },
    /// The file cannot be read or parsed.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not, in one line.
        reason: String,
    },
}

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag or an environment variable.
    CommandLine,
    /// The configuration file.
    File,
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "set on the command line or in the environment",
            Self::File => "set in the configuration file",
            Self::Default => "the default",
        })
    }
}

impl ConfigError {
    /// Whether the invalid value was set on the command line or in the environment, so that it is a usage
    /// error.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Value { origin: Origin::CommandLine, .. })
    }
}

/// One value, not yet checked.
pub(super) struct Setting {
    pub key: &'static str,
    pub text: String,
    pub origin: Origin,
    /// The default, which is also the example in an error; empty where there is none.
    default: String,
}

impl Setting {
    /// A value without a default.
    pub fn new(key: &'static str, text: String, origin: Origin) -> Self {
        Self { key, text, origin, default: String::new() }
    }

    /// A value without a default; `example` is one in an error.
    pub fn with_example(key: &'static str, text: String, origin: Origin, example: &str) -> Self {
        Self { key, text, origin, default: example.to_owned() }
    }

    /// The value in force: the flag's (or the environment's), else the file's, else the default.
    pub fn resolve(
        key: &'static str,
        flag: Option<ConfigText>,
        file: Option<ConfigText>,
        default: &str,
    ) -> Self {
        let (text, origin) = match (flag, file) {
            (Some(ConfigText(text)), _) => (text, Origin::CommandLine),
            (None, Some(ConfigText(text))) => (text, Origin::File),
            (None, None) => (default.to_owned(), Origin::Default),
        };
        Self { key, text, origin, default: default.to_owned() }
    }

    /// The error that this value is invalid; `expected` completes "expected …".
    pub fn invalid(&self, expected: &str) -> ConfigError {
        ConfigError::Value {
            key: self.key,
            value: self.text.clone(),
            expected: expected.to_owned(),
            origin: self.origin,
        }
    }

    /// The value as a duration within `range`.
    pub fn duration(&self, range: std::ops::RangeInclusive<Duration>) -> Result<Duration, ConfigError> {
        let limits = format!(
            "a duration from {} to {} with a unit, e.g. {}",
            SettingSpan(*range.start()),
            SettingSpan(*range.end()),
            self.default
        );
        let time = humantime::parse_duration(self.text.trim()).map_err(|_| self.invalid(&limits))?;
        if range.contains(&time) { Ok(time) } else { Err(self.invalid(&limits)) }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool, ConfigError> {
        self.one_of(&[("true", true), ("false", false)])
    }

    /// The value that belongs to this word.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = words.iter().find(|(word, _)| *word == self.text);
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        found.map(|(_, value)| *value).ok_or_else(|| {
            let meant = question(&self.text, all.iter().copied());
            self.invalid(&format!("one of {}{meant}", all.join(", ")))
        })
    }
}
