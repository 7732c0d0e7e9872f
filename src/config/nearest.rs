//! The word that was probably meant.

/// Below this two words have little in common; what clap takes for its own suggestions.
const ALIKE: f64 = 0.7;

/// The one of `words` that is most like what was written, if any is like it at all. Case, '-' and '_' do not count: people carry the
/// spelling of a flag or of the environment into the file.
pub fn nearest<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.replace(['-', '_'], "").to_lowercase();
    let written = plain(written);
    let alike = words.into_iter().map(|word| (strsim::jaro(&written, &plain(word)), word));
    let best = alike.filter(|(likeness, _)| *likeness > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, word)| word)
}

/// The question that goes with an error; empty when no word is near.
pub fn question<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, words).map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_that_was_meant() {
        let keys = [
            "pools",
            "interval",
            "threshold",
            "staleAfter",
            "serversPerPool",
            "listen",
            "logLevel",
            "logFormat",
        ];
        for (written, meant) in [
            ("intervall", Some("interval")),
            ("treshold", Some("threshold")),
            ("stale-after", Some("staleAfter")),
            ("stale_after", Some("staleAfter")),
            ("STALE_AFTER", Some("staleAfter")),
            ("pool", Some("pools")),
            ("loglevel", Some("logLevel")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, keys), meant, "{written}");
        }
        assert_eq!(question("of", ["auto", "on", "off"]), "; did you mean off?");
        assert_eq!(question("perhaps", ["auto", "on", "off"]), "");
    }
}
