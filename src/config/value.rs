//! One value: what was written, where, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::nearest::question;
use super::raw::ConfigText;
use drift_core::time::SettingSpan;

/// A setting that is not right: which, what it is, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One value is wrong.
    #[error("{key}: {value:?} is not right: {expected} (from {origin})")]
    Value {
        /// The key as in the file.
        key: &'static str,
        /// What was written.
        value: String,
        /// What would be right.
        expected: String,
        /// Where it was written.
        origin: Origin,
    },
    /// The file is not to be had, or not of the right form.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is the matter.
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
    /// Nowhere: it is what we take when nothing is written.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "the command line or the environment",
            Self::File => "the configuration file",
            Self::Default => "the default",
        })
    }
}

impl ConfigError {
    /// Is the command line to blame, and not the file?
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Value { origin: Origin::CommandLine, .. })
    }
}

/// One value and where it came from.
pub(super) struct Setting {
    pub key: &'static str,
    pub text: String,
    pub origin: Origin,
}

impl Setting {
    pub fn pick(
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
        Self { key, text, origin }
    }

    pub fn wrong(&self, expected: &str) -> ConfigError {
        ConfigError::Value {
            key: self.key,
            value: self.text.clone(),
            expected: expected.to_owned(),
            origin: self.origin,
        }
    }

    pub fn time(
        &self,
        range: std::ops::RangeInclusive<Duration>,
        example: &str,
    ) -> Result<Duration, ConfigError> {
        let limits = format!(
            "a length of time from {} to {} with its unit, such as {example}",
            SettingSpan(*range.start()),
            SettingSpan(*range.end())
        );
        let time = humantime::parse_duration(self.text.trim()).map_err(|_| self.wrong(&limits))?;
        if range.contains(&time) { Ok(time) } else { Err(self.wrong(&limits)) }
    }

    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = words.iter().find(|(word, _)| *word == self.text);
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        found.map(|(_, value)| *value).ok_or_else(|| {
            let meant = question(&self.text, all.iter().copied());
            self.wrong(&format!("one of {}{meant}", all.join(", ")))
        })
    }
}
