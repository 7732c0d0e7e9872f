//! The suggestion in an error: the valid word that is most similar to the invalid one.

/// Least Jaro similarity of a suggestion; clap uses the same for its own.
const SIMILARITY_MIN: f64 = 0.7;

/// The word that is most similar to `written`, if any is similar enough. Case, '-' and '_' do not count,
/// because operators use the spelling of a flag or an environment variable in the file.
pub fn nearest<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.replace(['-', '_'], "").to_lowercase();
    let written = plain(written);
    let similar = words.into_iter().map(|word| (strsim::jaro(&written, &plain(word)), word));
    let best =
        similar.filter(|(similarity, _)| *similarity > SIMILARITY_MIN).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, word)| word)
}

/// The end of an error message, `; did you mean WORD?`; empty if no word is similar enough.
pub fn question<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, words).map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_words_give_the_most_similar_word() {
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
