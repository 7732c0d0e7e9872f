//! The whole page: its content, its escaping, and its accessibility.

mod pools;

use std::collections::BTreeSet;

use base64::Engine;
use proptest::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};

use super::*;
use crate::config::raw::RawConfig;
use crate::sim::behaviour::{Behaviour, ServerModel};
use crate::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::ntp::packet::Kiss;
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::ServerSnapshot;
use drift_core::resume::{Class, Detection, Disruption, PauseEvidence, Signal};
use drift_core::step::audit::{Audit, Finding};
use drift_core::step::last_step::LastStep;
use drift_core::step::outcome::{Method, Outcome, StepResult};
use drift_core::step::policy::{Mode, RequestedBy, Trigger};
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::rate::Rate;
use drift_core::time::{Bound, Measurement, Mono, NANOS_PER_SEC, Offset, Ppb, Wall};

const MS: i64 = 1_000_000;

/// What a page is made of, for tests to change.
struct Fixture {
    snapshot: Snapshot,
    history: History,
    now: Reading,
    settings: Settings,
    kernel: Option<KernelClock>,
}

impl Fixture {
    /// Two pools of one server each, in sync, half an hour after the start.
    fn new() -> Self {
        let path = Path {
            there: Duration::from_millis(2),
            back: Duration::from_millis(2),
            jitter: Duration::ZERO,
            loss: 0.0,
        };
        let host = Host { model: ServerModel::new(Behaviour::Honest), path };
        let mut world = World::new(Plan {
            seed: 3,
            present: Wall::from_secs(1_795_341_600),
            offset: Offset::ZERO,
            oscillator: Oscillator { error: Ppb(0), swing: Ppb(0), period: Duration::from_secs(60) },
            rtc_ahead: Offset::ZERO,
            pools: vec![vec![host]; 2],
            settings: default_settings(),
            api_errors: 0.0,
            steps_work: true,
        });
        world.run_until(Duration::from_secs(1_800), |_| Ok(())).unwrap();
        Self {
            snapshot: world.snapshot(),
            history: world.machine.history().clone(),
            now: world.reading(),
            settings: Settings::new(RawConfig::default(), RawConfig::default()).unwrap(),
            kernel: Some(KernelClock {
                max_error: Duration::from_millis(16_000),
                frequency: Ppb(-12_345),
                ..KernelClock::default()
            }),
        }
    }

    fn page(&self) -> String {
        let Self { snapshot, history, now, settings, kernel } = self;
        render(&PageContext { snapshot, history, now: *now, settings, kernel: *kernel }, None)
    }
}

fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..Default::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|e| panic!("{e}\n{page}"))
}

fn elements<'a>(document: &'a Document, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name(name))
}

/// All text inside, one space between the pieces.
fn text(node: Node) -> String {
    let pieces: Vec<&str> = node.descendants().filter_map(|n| n.text().filter(|_| n.is_text())).collect();
    pieces.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text of the section with this heading.
fn section(page: &str, heading: &str) -> String {
    let document = parse(page);
    let found = elements(&document, "h2").find(|h2| text(*h2) == heading);
    text(found.and_then(|h2| h2.parent()).unwrap_or_else(|| panic!("no section {heading:?}")))
}

fn assert_contains(page: &str, heading: &str, words: &[&str]) {
    let section = section(page, heading);
    for words in words {
        assert!(section.contains(words), "{words:?} is missing in {section:?}");
    }
}

#[test]
fn the_content_security_policy_has_the_hash_of_the_style_sheet() {
    let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    assert!(CONTENT_SECURITY_POLICY.contains(&format!("style-src 'sha256-{hash}';")), "now it is {hash}");
    assert!(!STYLE.contains(['<', '&']), "browsers do not decode entities there");
}

#[test]
fn every_verdict_is_the_first_heading_and_the_title() {
    for (state, title, words) in [
        (State::InSync, "In sync", "within the threshold of 100 ms"),
        (State::Drifting, "Drifting", "over the threshold of 100 ms"),
        (State::Disagree, "Servers disagree", "The time servers disagree; no offset is reported"),
        (State::Unknown, "Unknown", "Not settled yet"),
        (State::Disrupted, "Disrupted", "suspended or paused, and the clock has not been measured since"),
    ] {
        let mut fixture = Fixture::new();
        fixture.snapshot.state = state;
        fixture.settings.node_name = Some("n7".to_owned());
        let page = fixture.page();
        let document = parse(&page);
        let header = elements(&document, "header").next().unwrap();
        assert_eq!(text(elements(&document, "h1").next().unwrap()), title);
        assert!(text(header).starts_with(&format!("The clock of n7 {title} ")), "{}", text(header));
        assert!(text(header).contains(words), "{}", text(header));
        assert_eq!(text(elements(&document, "title").next().unwrap()), format!("{title}: the clock of n7"));
    }
}

#[test]
fn the_header_reports_why_the_clock_cannot_be_stepped() {
    let mut fixture = Fixture::new();
    let ready = Err("chrony does not answer on /run/chrony/chronyd.sock".to_owned());
    fixture.snapshot.daemon = Some(DaemonReport { daemon: Daemon::Unknown, ready, ..DaemonReport::NONE });
    fixture.snapshot.step.mode = Mode::Chrony;
    let page = fixture.page();
    let document = parse(&page);
    let header = text(elements(&document, "header").next().unwrap());
    assert!(header.contains("cannot be stepped: chrony does not answer"), "{header}");
    assert_contains(&page, "Steps", &["step.mode chrony", "Step possible no: chrony does not answer"]);
}

#[test]
fn the_overview_shows_offset_leeway_and_frequency_or_unknown() {
    let mut fixture = Fixture::new();
    fixture.snapshot.measured =
        Some(Measurement::new(Offset::from_nanos(-132 * MS), Bound::from_nanos(2 * MS)));
    fixture.snapshot.rate = Some(Rate::exactly(Ppb(-12_340)));
    fixture.snapshot.leeway.seconds = 7;
    let page = fixture.page();
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    for words in ["132 ms ahead", "±2 ms, measured", "2 of 2", "7 s", "12.3 ppm fast ±0.0 ppm, against"] {
        assert!(facts.contains(words), "{words:?} is missing in {facts:?}");
    }
    (fixture.snapshot.measured, fixture.snapshot.rate) = (None, None);
    let page = fixture.page();
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    assert_eq!(facts.matches("unknown").count(), 2, "{facts}");
}

#[test]
fn missing_signals_are_listed_and_a_note_explains_missing_pause_signals() {
    let mut fixture = Fixture::new();
    let note = "Without an RTC or a vmclock, only NTP shows a pause that the kernel does not report.";
    assert_contains(
        &fixture.page(),
        "Disruption signals",
        &["rtc pauses, by the hardware clock, which keeps running present"],
    );
    assert!(!section(&fixture.page(), "Disruption signals").contains(note));
    let signals = [Signal::Suspend, Signal::Wall, Signal::LateTick];
    fixture.snapshot.signals = Some(signals.into_iter().collect());
    let words = [
        "suspend suspends that the kernel reports present",
        "hardware clock, which keeps running missing",
        note,
    ];
    assert_contains(&fixture.page(), "Disruption signals", &words);
    fixture.snapshot.signals = None;
    assert_contains(
        &fixture.page(),
        "Disruption signals",
        &["The agent does not watch for disruptions here."],
    );
}

#[test]
fn the_time_daemon_section_shows_what_daemon_and_kernel_report() {
    let mut fixture = Fixture::new();
    let believes = Some(Offset::from_nanos(21_000));
    let audit = Audit { sources: Finding::Fulfilled, makestep: Finding::NotFulfilled, ..Audit::NOT_VISIBLE };
    let update_age = Some(Duration::from_secs(300));
    fixture.snapshot.daemon =
        Some(DaemonReport { daemon: Daemon::Chrony, believes, update_age, audit, ..DaemonReport::NONE });
    let words = [
        "Process chrony",
        "Reported offset 21 µs behind",
        "No update for 5 min at least",
        "two reachable sources or more fulfilled",
        "steps at any time (makestep 1 -1) not fulfilled",
        "hardware clock kept correct (rtcsync) not visible from here",
        "Kernel status clock not disciplined",
        "Kernel maximum error 16 s",
        "Kernel frequency correction 12.34 ppm slower",
    ];
    assert_contains(&fixture.page(), "Time daemon", &words);
    (fixture.kernel, fixture.snapshot.daemon) = (None, None);
    let words = ["Process not inspected yet", "Kernel status cannot be read"];
    assert_contains(&fixture.page(), "Time daemon", &words);
}

#[test]
fn the_last_step_is_shown_with_its_offsets_and_result() {
    let mut fixture = Fixture::new();
    assert_contains(
        &fixture.page(),
        "Steps",
        &["off: the agent never steps the clock by itself", "Last step none known"],
    );
    assert!(!section(&fixture.page(), "Steps").contains("Step possible"), "step.mode is off");
    fixture.snapshot.step.mode = Mode::Auto;
    fixture.settings.core.step.dry_run = true;
    fixture.snapshot.step.last = Some(LastStep {
        at: Wall::from_secs(0),
        before: Offset::from_nanos(20_000 * MS),
        after: Some(Offset::from_nanos(-MS)),
        method: "kernel".to_owned(),
        trigger: "pause".to_owned(),
        in_hour: 1,
        total: Duration::ZERO,
        is_latched: true,
    });
    fixture.snapshot.step.last_age = Some(Duration::from_secs(300));
    fixture.snapshot.step.answer = Some("id-1: The clock is not stepped.".to_owned());
    fixture.snapshot.step.counts.insert((Some(Method::Kernel), StepResult::Stepped), 2);
    let words = [
        "step.mode auto, dry run",
        "Step possible yes",
        "5 min ago, by kernel (pause): 20 s behind before, 1 ms ahead afterwards; it did not help",
        "2 stepped by kernel",
        "id-1: The clock is not stepped.",
    ];
    assert_contains(&fixture.page(), "Steps", &words);
}

#[test]
fn the_settings_are_printed_as_by_check_config() {
    let fixture = Fixture::new();
    let page = fixture.page();
    let document = parse(&page);
    assert_eq!(elements(&document, "pre").next().unwrap().text(), Some(fixture.settings.in_yaml().as_str()));
}

#[test]
fn the_timeline_lists_events_newest_first_and_the_plot_marks_them() {
    let mut fixture = Fixture::new();
    let lost = Offset::from_nanos(20 * NANOS_PER_SEC);
    let disruption = Disruption::Pause(PauseEvidence::Rtc { lost: Measurement::exact(lost) });
    fixture.history.resumed(Detection { disruption, reclassifies: None }, fixture.now);
    let later = |secs| Reading { raw: fixture.now.raw.plus(Duration::from_secs(secs)), ..fixture.now };
    fixture.history.note(later(0), State::Disrupted, None, None);
    let outcome = Outcome {
        result: StepResult::Refused,
        method: None,
        trigger: Trigger::Disruption(Class::Pause),
        before: None,
        after: None,
        reason: Some("two words".to_owned()),
    };
    fixture.history.stepped(&outcome, later(1));
    fixture.history.note(later(2), State::Drifting, Some(Measurement::new(lost, Bound::default())), None);
    fixture.now = later(600);
    let page = fixture.page();
    let words = section(&page, "The last two hours");
    let order = [
        "Verdict: Drifting",
        "Step: The clock is not stepped (pause): two words.",
        "Verdict: Disrupted for 2 s",
        "Resume: paused for 20 s (by the RTC)",
        "Verdict: In sync",
        "(start of the record)",
    ];
    let table = &words[words.find("Timeline").unwrap()..];
    let places: Vec<Option<usize>> = order.iter().map(|words| table.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {table}");
    let document = parse(&page);
    let titles: Vec<&str> = elements(&document, "title").filter_map(|title| title.text()).collect();
    for title in
        ["Resume, 10 min ago: paused for 20 s", "Step, 9 min ago: The clock", "Drifting for 9 min, until now"]
    {
        assert!(titles.iter().any(|t| t.starts_with(title)), "{title:?} is missing in {titles:?}");
    }
    assert!(words.contains("The offset was between") && words.contains("20 s behind"), "{words}");
}

#[test]
fn the_timeline_has_30_rows_and_counts_the_older_ones() {
    let mut fixture = Fixture::new();
    for _ in 0..40 {
        let disruption = Disruption::Stall { late: Duration::from_secs(2) };
        fixture.history.resumed(Detection { disruption, reclassifies: None }, fixture.now);
    }
    let words = section(&fixture.page(), "The last two hours");
    assert_eq!(words.matches("Stall: agent stalled for 2 s").count(), 30);
    assert!(words.contains("12 older rows are not shown."), "{words}");
}

#[test]
fn the_page_refreshes_every_30_s_unless_the_query_is_still() {
    let fixture = Fixture::new();
    let context = PageContext {
        snapshot: &fixture.snapshot,
        history: &fixture.history,
        now: fixture.now,
        settings: &fixture.settings,
        kernel: None,
    };
    let refresh = "http-equiv=\"refresh\" content=\"30\"";
    assert!(render(&context, None).contains(refresh) && render(&context, Some("x")).contains(refresh));
    assert!(!render(&context, Some("still")).contains("http-equiv"));
}

#[test]
fn the_page_has_no_scripts_and_loads_nothing() {
    let page = Fixture::new().page();
    let document = parse(&page);
    let all = || document.descendants().filter(Node::is_element);
    let names: BTreeSet<&str> = all().map(|e| e.tag_name().name()).collect();
    for name in ["script", "link", "img", "image", "iframe", "object", "form", "use", "foreignObject"] {
        assert!(!names.contains(name), "<{name}>");
    }
    for attribute in all().flat_map(|e| e.attributes()) {
        let (name, value) = (attribute.name(), attribute.value());
        assert!(!name.starts_with("on") && name != "style" && name != "src", "{name}=\"{value}\"");
        assert!(name != "href" || ["metrics", "v1/clock", "?still"].contains(&value), "{name}=\"{value}\"");
        assert!(!value.contains("url(") || value.starts_with("url(#pattern-"), "{name}=\"{value}\"");
    }
}

#[test]
fn screen_readers_get_headings_table_heads_and_a_plot_description() {
    let page = Fixture::new().page();
    let document = parse(&page);
    let levels: Vec<u32> =
        document.descendants().filter_map(|e| e.tag_name().name().strip_prefix('h')?.parse().ok()).collect();
    assert_eq!((levels[0], levels.iter().filter(|level| **level == 1).count()), (1, 1), "{levels:?}");
    assert!(levels.windows(2).all(|w| w[1] <= w[0] + 1), "a level was skipped: {levels:?}");
    for table in elements(&document, "table") {
        let heads = table.descendants().filter(|e| e.has_tag_name("th")).collect::<Vec<_>>();
        assert!(heads.len() > 2 && heads.iter().all(|th| th.has_attribute("scope")), "{}", text(table));
    }
    let ids: Vec<&str> = document.descendants().filter_map(|e| e.attribute("id")).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
    let plot = elements(&document, "svg").find(|svg| svg.attribute("role") == Some("img")).unwrap();
    for id in plot.attribute("aria-labelledby").unwrap().split(' ') {
        let named = plot.descendants().find(|e| e.attribute("id") == Some(id)).unwrap();
        assert!(text(named).len() > 20, "{}", text(named));
    }
    assert_eq!(document.root_element().attribute("lang"), Some("en"));
}

#[test]
fn only_clients_that_accept_html_by_name_get_it() {
    let wants = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        wants_html(&headers)
    };
    assert!(wants(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"]));
    assert!(wants(&["text/plain", "Text/HTML; q=0.5"]));
    for other in
        [&[][..], &["*/*"], &["text/plain"], &["text/html;q=0"], &["text/html; q=0.0, */*"], &["text/htmlx"]]
    {
        assert!(!wants(other), "{other:?}");
    }
}

#[test]
fn the_text_has_the_verdict_the_leeway_and_the_other_paths() {
    let text = in_text(&Fixture::new().snapshot);
    assert!(
        text.starts_with("in-sync: The clock is ") && text.contains("leeway for token verifiers: 5 s"),
        "{text}"
    );
    assert!(text.contains("/metrics, /v1/clock, /healthz, /readyz") && !text.contains('<'), "{text}");
}

/// WCAG 2.2's relative luminance of `#rrggbb`.
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn text_colours_have_wcag_aa_contrast_in_both_schemes() {
    let schemes: Vec<&str> = STYLE.split(":root {").skip(1).map(|s| s.split('}').next().unwrap()).collect();
    assert_eq!(schemes.len(), 2);
    for scheme in schemes {
        let colour = |name: &str| {
            let line = scheme.lines().find_map(|l| l.trim().strip_prefix(&format!("--{name}: ")));
            line.unwrap_or_else(|| panic!("no --{name} in {scheme}")).trim_end_matches(';')
        };
        let contrast = |a: &str, b: &str| {
            let (a, b) = (luminance(colour(a)), luminance(colour(b)));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        let states = State::ALL.map(State::label);
        for text in ["text", "muted", "link", "threshold"].into_iter().chain(states) {
            for ground in ["page", "panel"] {
                assert!(contrast(text, ground) >= 4.5, "{text} on {ground}: {:.2}", contrast(text, ground));
            }
        }
        assert!(contrast("offset", "panel") >= 3.0, "a line, not text");
    }
}

/// Any text from outside, with markup that escaping must neutralise.
fn anything() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("</style><script>alert(1)</script>".to_owned()),
        "[<>&\"'/=\\x00-\\x1f]{0,30}"
    ]
}

fn measured() -> impl Strategy<Value = Option<Measurement>> {
    any::<Option<(i64, i64)>>()
        .prop_map(|m| m.map(|(o, b)| Measurement::new(Offset::from_nanos(o), Bound::from_nanos(b))))
}

/// Random seconds, verdicts, measurements and marks.
type Walk = Vec<(u32, usize, Option<Measurement>, usize, String)>;

fn arbitrary_fixture() -> impl Strategy<Value = Fixture> {
    let texts = prop::collection::vec(anything(), 9);
    let walk = prop::collection::vec((any::<u32>(), 0..5_usize, measured(), 0..9_usize, anything()), 0..60);
    let numbers = (any::<[u64; 6]>(), any::<[i64; 4]>(), 0..5_usize, 0..4_usize, any::<[bool; 4]>());
    (texts, walk, numbers, measured())
        .prop_map(|(texts, walk, numbers, measured)| build(&texts, walk, numbers, measured))
}

/// One of `class`, of the measured size where it has one.
fn disruption(class: Class, measured: Option<Measurement>) -> Disruption {
    let by = measured.unwrap_or(Measurement::exact(Offset::ZERO));
    let span = by.offset.magnitude();
    match class {
        Class::Suspend => Disruption::Suspend { slept: span },
        Class::Pause => Disruption::Pause(PauseEvidence::Rtc { lost: by }),
        Class::RtcWrite => Disruption::RtcWrite { by },
        Class::ClockSet => Disruption::ClockSet { by, is_notified: false },
        Class::Stall => Disruption::Stall { late: span },
    }
}

#[expect(clippy::many_single_char_names, reason = "six arbitrary durations")]
fn build(
    texts: &[String],
    walk: Walk,
    (spans, offsets, state, index, yes): ([u64; 6], [i64; 4], usize, usize, [bool; 4]),
    measured: Option<Measurement>,
) -> Fixture {
    let mut fixture = Fixture::new();
    let [a, b, c, d, e, f] = spans.map(Duration::from_nanos);
    let Fixture { snapshot, history, now, settings, kernel } = &mut fixture;
    for (seconds, state, measured, class, text) in walk {
        now.raw = now.raw.plus(Duration::from_millis(u64::from(seconds) / 1_000));
        match (Class::ALL.get(class), class) {
            (Some(class), _) => {
                let disruption = disruption(*class, measured);
                history.resumed(Detection { disruption, reclassifies: None }, *now);
            }
            (None, 5) => history.stepped(
                &Outcome {
                    result: StepResult::Failed,
                    method: Some(Method::Chrony),
                    trigger: Trigger::Operator(RequestedBy::Annotation(text.clone())),
                    before: measured.map(|m| m.offset),
                    after: None,
                    reason: Some(text),
                },
                *now,
            ),
            _ => {}
        }
        let reference = measured.map(|Measurement { offset, .. }| Wall::from_nanos(offset.as_nanos()));
        history.note(*now, State::ALL[state], measured, reference);
    }
    if yes[0] {
        *now =
            Reading { wall: Wall::from_nanos(offsets[0]), raw: Mono::from_nanos(offsets[1]), suspended: a };
    }
    (snapshot.state, snapshot.measured, snapshot.node_time) =
        (State::ALL[state], measured, Wall::from_nanos(offsets[2]));
    snapshot.reference = yes[1].then(|| Wall::from_nanos(offsets[3]));
    (snapshot.threshold, snapshot.estimate_age, snapshot.rate) =
        (b, yes[2].then_some(c), Some(Rate::exactly(Ppb(offsets[1]))));
    snapshot.leeway.reason.clone_from(&texts[0]);
    snapshot.pools[0].name.clone_from(&texts[1]);
    snapshot.pools[0].resolve_error = Some(texts[2].clone());
    (snapshot.pools[1].sample_age, snapshot.pools[1].round_trip) = (Some(d), Some(e));
    let server = &mut snapshot.pools[1].servers[0];
    (server.state, server.measured) = (ServerState::ALL[index], measured);
    server.rejected = Some((f, RejectReason::Suspended));
    let (believes, ready) = (Some(Offset::from_nanos(offsets[3])), Err(texts[3].clone()));
    snapshot.daemon =
        Some(DaemonReport { daemon: Daemon::ALL[index % 4], believes, ready, ..DaemonReport::NONE });
    snapshot.step.mode = Mode::Auto;
    (snapshot.step.last_text, snapshot.step.answer) = (Some(texts[4].clone()), Some(texts[5].clone()));
    snapshot.step.last = yes[3].then(|| LastStep {
        at: Wall::from_nanos(offsets[0]),
        before: Offset::from_nanos(offsets[1]),
        after: None,
        method: texts[6].clone(),
        trigger: texts[7].clone(),
        in_hour: 1,
        total: a,
        is_latched: yes[0],
    });
    settings.node_name = Some(texts[8].clone());
    let frequency = Ppb(offsets[0]);
    *kernel = yes[1].then(|| KernelClock {
        synchronized: yes[0],
        max_error: a,
        frequency,
        ..KernelClock::default()
    });
    fixture
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_page_is_well_formed_for_any_content(fixture in arbitrary_fixture()) {
        let page = fixture.page();
        let document = parse(&page);
        let root: Vec<&str> = document.root_element().children().map(|c| c.tag_name().name()).collect();
        prop_assert_eq!(root, ["head", "body"]);
        prop_assert!(!page.contains("<script"));
        for path in elements(&document, "path").filter_map(|path| path.attribute("d")) {
            prop_assert!(!path.contains("NaN") && !path.contains("inf"), "{}", path);
        }
        // The history is limited: 1,000 points of three numbers, and the rest.
        prop_assert!(page.len() < 200_000, "{} bytes", page.len());
    }
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.now, self.snapshot, self.history)
    }
}
