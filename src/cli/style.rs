//! Colours for terminals, nothing for pipes; and columns.

use std::io::IsTerminal;

use crate::core::verdict::State;

/// Is standard error a terminal that wants colours?
#[expect(clippy::disallowed_methods, reason = "the convention of no-color.org")]
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Colours text, or not.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// As standard output wants it.
    #[expect(clippy::disallowed_methods, reason = "the convention of no-color.org")]
    pub fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { colour: wanted && std::io::stdout().is_terminal() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What is less important.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What is more important.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// In the colour of a state: green is well, red is wrong, yellow is not known.
    pub fn state(self, state: State, text: &str) -> String {
        let code = match state {
            State::InSync => "1;32",
            State::Drifting => "1;31",
            State::Unknown | State::Disagree | State::Disrupted => "1;33",
        };
        self.paint(code, text)
    }
}

/// Rows in columns, two spaces apart, without trailing space.
pub fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_do_not_trail() {
        let rows = [vec!["A".into(), "LONG".into()], vec!["±12".into(), "x".into()]];
        assert_eq!(columns(&rows), "A    LONG\n±12  x\n");
    }

    #[test]
    fn a_pipe_gets_no_colour() {
        assert_eq!(Style { colour: false }.state(State::Drifting, "x"), "x");
        assert_eq!(Style { colour: true }.state(State::Drifting, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
