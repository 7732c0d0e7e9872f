//! Colours on terminals, and columns.

use std::io::IsTerminal;

use drift_core::verdict::State;

/// Is standard error a terminal, and `NO_COLOR` not set?
#[expect(clippy::disallowed_methods, reason = "the convention of no-color.org")]
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Colours if standard output is a terminal, and `NO_COLOR` is not set.
    #[expect(clippy::disallowed_methods, reason = "the convention of no-color.org")]
    pub fn for_stdout() -> Self {
        let is_allowed = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { colour: is_allowed && std::io::stdout().is_terminal() }
    }

    /// Without colours.
    pub const PLAIN: Self = Self { colour: false };
    /// With colours, for tests.
    #[cfg(test)]
    pub const PAINTED: Self = Self { colour: true };

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Less important text.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// More important text.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Text in the colour of a state: green in sync, red drifting, yellow not known.
    pub fn state(self, state: State, text: &str) -> String {
        let code = match state {
            State::InSync => "1;32",
            State::Drifting => "1;31",
            State::Unknown | State::Disagree | State::Disrupted => "1;33",
        };
        self.paint(code, text)
    }
}

/// The style of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Without a style.
    Plain,
    /// Less important.
    Faint,
    /// In the colour of a state.
    State(State),
}

/// Rows as columns, two spaces apart, without trailing spaces.
pub fn columns(rows: &[Vec<String>]) -> String {
    let plain = |row: &Vec<String>| row.iter().map(|cell| (Paint::Plain, cell.clone())).collect();
    painted_columns(&rows.iter().map(plain).collect::<Vec<_>>(), Style::PLAIN)
}

/// The same with colours, which do not count as width.
pub fn painted_columns(rows: &[Vec<(Paint, String)>], style: Style) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, (_, cell)) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut gap = 0;
        for ((paint, cell), width) in row.iter().zip(&widths) {
            if !cell.is_empty() {
                text.extend(std::iter::repeat_n(' ', gap));
                gap = 0;
                text.push_str(&match paint {
                    Paint::Plain => cell.clone(),
                    Paint::Faint => style.faint(cell),
                    Paint::State(state) => style.state(*state, cell),
                });
            }
            gap += width + 2 - cell.chars().count();
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = [vec!["A".into(), "LONG".into()], vec!["±12".into(), "x".into()]];
        assert_eq!(columns(&rows), "A    LONG\n±12  x\n");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let rows = [
            vec![
                (Paint::Plain, "A".into()),
                (Paint::State(State::Drifting), "x".into()),
                (Paint::Plain, "B".into()),
            ],
            vec![(Paint::Faint, "AA".into()), (Paint::Plain, String::new()), (Paint::Plain, "C".into())],
        ];
        assert_eq!(painted_columns(&rows, Style { colour: false }), "A   x  B\nAA     C\n");
        assert_eq!(
            painted_columns(&rows, Style { colour: true }),
            "A   \x1b[1;31mx\x1b[0m  B\n\x1b[2mAA\x1b[0m     C\n"
        );
    }

    #[test]
    fn styles_without_colour_leave_text_unchanged() {
        assert_eq!(Style { colour: false }.state(State::Drifting, "x"), "x");
        assert_eq!(Style { colour: true }.state(State::Drifting, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
