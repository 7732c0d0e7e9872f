//! `drift-agent jwt`: whether a token, its issuer's clock or this clock is wrong.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::check::{Output, measure};
use super::jwt_report::{CheckedToken, cases_in_json, cases_in_table, in_json, in_words};
use super::{CommandError, ConfigArgs, Exit, print};
use crate::os::clock::{Clock as _, LinuxClock};
use crate::os::random;
use clock_drift::jwt::cases::{Key, cases};
use clock_drift::jwt::date::NumericDate;
use clock_drift::jwt::findings::Verdict;
use clock_drift::jwt::judge::judge;
use clock_drift::jwt::question::{self, Now, Question, Truth};
use clock_drift::jwt::token::{TOKEN_BYTES_MAX, Token, looks_like_one};
use clock_drift::terminal::Style;
use drift_core::time::{Measurement, NANOS_PER_SEC, Wall};

const EXAMPLES: &str = "\
Examples:
  kubectl create token default | drift-agent jwt      check a token by this clock and by true time
  drift-agent jwt --no-network < token                check it by this clock alone
  drift-agent jwt --at 2026-11-22T10:00:00Z < token   check it as of the time of a log line
  drift-agent jwt --leeway 5s --kind id < token       check an ID token like a verifier with a leeway of 5 s
  drift-agent jwt --output json < token               print JSON for programs
  drift-agent jwt cases                               print tokens to test a verifier with";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct JwtArgs {
    #[command(subcommand)]
    command: Option<JwtCommand>,
    /// The token. If it is `-` or missing, it is read from standard input, which keeps it out of the shell's
    /// history
    #[arg(value_name = "TOKEN")]
    token: Vec<Secret>,
    /// Check the token as of this time, without reading a clock (RFC 3339, or seconds since 1970)
    #[arg(long, value_name = "TIME", value_parser = parse_at, allow_hyphen_values = true)]
    at: Option<Wall>,
    /// Leeway of the verifier: how far the times may be off before it rejects the token
    #[arg(long, value_name = "TIME", value_parser = parse_leeway, default_value = "0s", allow_hyphen_values = true)]
    leeway: Duration,
    /// Use of the token, which decides how long a lifetime is acceptable
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Do not measure true time; check the token by this machine's clock alone
    #[arg(long)]
    no_network: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten, next_help_heading = "Measuring true time")]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum JwtCommand {
    /// Print signed tokens to test a verifier with, and how a correct verifier handles each
    #[command(after_help = CASES_EXAMPLES)]
    Cases(CasesArgs),
}

const CASES_EXAMPLES: &str = "\
Examples:
  drift-agent jwt cases
  drift-agent jwt cases --output json | jq -r '.cases[] | select(.id == \"exp-now\").token'

Each run makes and prints a new key. Give the key only to a verifier under test, never to one in use.";

#[derive(Debug, Args)]
struct CasesArgs {
    /// Make the tokens for a verifier whose clock reads this time (RFC 3339, or seconds since 1970) [default:
    /// now]
    #[arg(long, value_name = "TIME", value_parser = parse_at, allow_hyphen_values = true)]
    at: Option<Wall>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Access token: more than 15 min is long
    #[default]
    Access,
    /// ID token: more than 1 h is long
    Id,
    /// Refresh token: more than 30 days is long
    Refresh,
}

/// Text that is never printed, not even by `{:?}`.
#[derive(Clone)]
struct Secret(String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

pub(super) fn run(args: JwtArgs) -> Result<Exit, CommandError> {
    let JwtArgs { command, token, at, leeway, kind, no_network, output, config } = args;
    if let Some(JwtCommand::Cases(args)) = command {
        return print_cases(&args);
    }
    // The token first: invalid input is reported without waiting for the network.
    let token = Token::read(&bytes(&token)?)
        .map_err(|error| CommandError(Exit::DataError, format!("not a token that can be read: {error}")))?;
    // Without a measurement nothing is compared with the threshold, and the configuration is not read.
    let mut threshold = Duration::ZERO;
    let (now, about_now) = match at {
        Some(at) => (Now::Given(at), None),
        None if no_network => {
            let clock = LinuxClock.read().wall;
            (Now::Here { clock, truth: None }, Some("True time was not measured (--no-network).".to_owned()))
        }
        None => {
            let settings = config.settings()?;
            threshold = settings.core.threshold;
            let snapshot = measure(&settings)?;
            let clock = snapshot.node_time;
            let truth = snapshot
                .measured
                .map(|Measurement { offset, bound }| Truth { at: clock.plus(offset), bound });
            (Now::Here { clock, truth }, Some(snapshot.sentence()))
        }
    };
    let kind = match kind {
        Kind::Access => question::Kind::Access,
        Kind::Id => question::Kind::Id,
        Kind::Refresh => question::Kind::Refresh,
    };
    let question = Question { now, leeway, kind, threshold };
    let findings = judge(&token, &question);
    let verdict = Verdict::of(&findings);
    let checked = CheckedToken { token, question, about_now, findings, verdict };
    print(&match output {
        Output::Table => in_words(&checked, Style::for_stdout()),
        Output::Json => in_json(&checked)?,
    })?;
    Ok(match verdict {
        Verdict::Valid => Exit::Ok,
        // With --no-network there is no measurement to miss.
        Verdict::ValidByThisClock if no_network => Exit::Ok,
        Verdict::ValidByThisClock => Exit::Unknown,
        Verdict::NotValid => Exit::Negative,
        Verdict::Suspicious => Exit::Inconclusive,
    })
}

fn print_cases(args: &CasesArgs) -> Result<Exit, CommandError> {
    let now = args.at.unwrap_or_else(|| LinuxClock.read().wall).as_nanos().div_euclid(NANOS_PER_SEC);
    if now < 1 {
        return Err(CommandError(
            Exit::Usage,
            "--at: expected a time from 1970 on, to sign tokens for".to_owned(),
        ));
    }
    let key = Key::new(std::array::from_fn(|_| random::bits()));
    let cases = cases(now);
    print(&match args.output {
        Output::Table => cases_in_table(now, &key, &cases),
        Output::Json => cases_in_json(now, &key, &cases)?,
    })?;
    Ok(Exit::Ok)
}

/// The token as given: the words on the command line, or standard input, cut one byte after the longest
/// token.
fn bytes(words: &[Secret]) -> Result<Vec<u8>, CommandError> {
    // `jwt Bearer eyJ…` without quotes is one token in two arguments.
    let given = words.iter().map(|Secret(word)| word.as_str()).collect::<Vec<_>>().join(" ");
    if !matches!(given.as_str(), "" | "-") {
        eprintln!(
            "drift-agent: warning: a token on the command line stays in the shell's history, and other users of this machine can see it; use standard input"
        );
        return Ok(given.into_bytes());
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("drift-agent: reading the token from the terminal: paste it, then press Enter and Ctrl-D");
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(TOKEN_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    stdin
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| CommandError::failure("cannot read standard input", e))?;
    Ok(bytes)
}

/// The error message, with each token among the arguments replaced by `[token]`.
pub(super) fn without_tokens(message: String, arguments: impl Iterator<Item = String>) -> String {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.+/".contains(c);
    let mut message = message;
    for argument in arguments {
        for word in argument.split(|c| !is_letter(c)).filter(|word| looks_like_one(word)) {
            message = message.replace(word, "[token]");
        }
    }
    message
}

fn parse_at(text: &str) -> Result<Wall, String> {
    let seconds = |text| NumericDate::parse(text).and_then(|date| i64::try_from(date.as_nanos()).ok());
    let wall = Wall::parse_rfc3339(text).or_else(|| seconds(text).map(Wall::from_nanos));
    wall.ok_or_else(|| {
        "expected a time such as 2026-11-22T10:00:00Z, or seconds since 1970, up to the year 2262".to_owned()
    })
}

fn parse_leeway(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration with a unit, e.g. 5s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_accepts_rfc_3339_and_seconds_since_1970() {
        let read = |text| parse_at(text).ok().map(Wall::as_nanos);
        assert_eq!(read("2026-11-22T10:00:00Z"), Some(1_795_341_600_000_000_000));
        assert_eq!(read("2026-11-22T12:00:00.5+02:00"), Some(1_795_341_600_500_000_000));
        assert_eq!(read("1795341600.25"), Some(1_795_341_600_250_000_000));
        assert_eq!(read("-1"), Some(-1_000_000_000));
        for wrong in ["", "now", "1795341600000", "2026-11-22", "1e20"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn errors_do_not_quote_tokens_among_the_arguments() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln";
        for argument in
            [token.to_owned(), format!("Bearer {token}"), format!("--kind={token}"), format!("'{token}'")]
        {
            let message =
                without_tokens(format!("unexpected argument '{argument}' found"), std::iter::once(argument));
            assert!(!message.contains("eyJ") && message.contains("[token]"), "{message}");
        }
        let plain = "invalid value 'exact' for '--kind <KIND>'".to_owned();
        assert_eq!(
            without_tokens(plain.clone(), ["exact", "time.google.com"].map(str::to_owned).into_iter()),
            plain
        );
        assert_eq!(format!("{:?}", Secret(token.to_owned())), "[token]");
    }
}
