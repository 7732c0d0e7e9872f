//! Writes HTML that is also well-formed XML. It closes every element and escapes every text and attribute.

use std::fmt::Write;

/// Attributes. Names are constants; values may come from other hosts.
type Attributes<'a> = &'a [(&'static str, &'a str)];

/// The document so far.
#[derive(Debug)]
pub struct Html(String);

impl Html {
    /// An empty document.
    pub fn new() -> Self {
        Self(String::from("<!DOCTYPE html>\n"))
    }

    /// An element with its content.
    pub fn element(&mut self, name: &'static str, attributes: Attributes, inside: impl FnOnce(&mut Self)) {
        self.open(name, attributes);
        self.0.push('>');
        inside(self);
        let _ = write!(self.0, "</{name}>");
    }

    /// An element that contains only text.
    pub fn leaf(&mut self, name: &'static str, attributes: Attributes, text: &str) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// An element without content.
    pub fn empty(&mut self, name: &'static str, attributes: Attributes) {
        self.open(name, attributes);
        self.0.push_str("/>");
    }

    /// Text, escaped.
    pub fn text(&mut self, text: &str) {
        escape(&mut self.0, text);
    }

    /// The style sheet. Browsers do not decode entities there, so it must not contain `<` or `&`.
    pub fn style(&mut self, css: &'static str) {
        self.0.push_str("<style>");
        self.0.push_str(css);
        self.0.push_str("</style>");
    }

    /// The document.
    pub fn finish(self) -> String {
        self.0
    }

    fn open(&mut self, name: &'static str, attributes: Attributes) {
        self.0.push('<');
        self.0.push_str(name);
        for (key, value) in attributes {
            let _ = write!(self.0, " {key}=\"");
            escape(&mut self.0, value);
            self.0.push('"');
        }
    }
}

/// Escapes text. Characters that XML does not allow become U+FFFD, as in browsers.
fn escape(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(letter),
            '\0'..=' ' if letter != ' ' => out.push('\u{fffd}'),
            // The last two ranges change the reading direction of the text after them.
            '\u{7f}'..='\u{9f}'
            | '\u{fffe}'
            | '\u{ffff}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            _ => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_and_control_characters_are_escaped() {
        let mut html = Html::new();
        html.element("p", &[("title", "\"><script>'")], |html| {
            html.text("</p><script>alert(1)</script> & \0\u{1b}\u{202e}");
            html.empty("br", &[]);
        });
        assert_eq!(
            html.finish(),
            "<!DOCTYPE html>\n<p title=\"&quot;&gt;&lt;script&gt;&#39;\">&lt;/p&gt;&lt;script&gt;alert(1)\
             &lt;/script&gt; &amp; \u{fffd}\u{fffd}\u{fffd}<br/></p>"
        );
    }

    proptest! {
        #[test]
        fn a_strict_xml_parser_reads_any_text_back(text in any::<String>()) {
            let mut html = Html::new();
            html.leaf("p", &[("title", &text)], &text);
            let html = html.finish();
            let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
            let document = roxmltree::Document::parse_with_options(&html, options).unwrap();
            let is_ordinary = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let expected: String = text.chars().map(|c| if is_ordinary(c) || matches!(c, '\n' | '\t') { c } else { '\u{fffd}' }).collect();
            prop_assert_eq!(document.root_element().text().unwrap_or_default(), expected);
        }
    }
}
