//! The page as a whole: what it says, that nothing breaks out of it, that everybody can read it.

use std::collections::BTreeSet;

use base64::Engine;
use proptest::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};

use super::*;
use crate::config::raw::RawConfig;
use crate::sim::behaviour::{Behaviour, ServerModel};
use crate::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::ntp::packet::Kiss;
use drift_core::ntp::sample::RejectReason;
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::ServerSnapshot;
use drift_core::resume::{Class, Detection, Signal};
use drift_core::step::last_step::LastStep;
use drift_core::step::outcome::{Method, Outcome, StepResult};
use drift_core::step::policy::{Mode, RequestedBy, Trigger};
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::{Bound, Measurement, Mono, NANOS_PER_SEC, Offset, Ppb, Wall};

const MS: i64 = 1_000_000;

/// All that a page is made of, to be changed.
struct Scene {
    snapshot: Snapshot,
    history: History,
    now: Reading,
    settings: Settings,
    kernel: Option<KernelClock>,
}

impl Scene {
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

/// What the section under this heading says.
fn section(page: &str, heading: &str) -> String {
    let document = parse(page);
    let found = elements(&document, "h2").find(|h2| text(*h2) == heading);
    text(found.and_then(|h2| h2.parent()).unwrap_or_else(|| panic!("no section {heading:?}")))
}

fn assert_says(page: &str, heading: &str, words: &[&str]) {
    let section = section(page, heading);
    for words in words {
        assert!(section.contains(words), "{words:?} is missing in {section:?}");
    }
}

#[test]
fn the_style_sheet_is_the_one_that_the_policy_allows() {
    let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    assert!(CONTENT_SECURITY_POLICY.contains(&format!("style-src 'sha256-{hash}';")), "now it is {hash}");
    assert!(!STYLE.contains(['<', '&']), "it is written as it is");
}

#[test]
fn the_verdict_comes_first_in_words_whatever_it_is() {
    for (state, title, words) in [
        (State::InSync, "In sync", "within the threshold of 100 ms"),
        (State::Drifting, "Drifting", "over the threshold of 100 ms"),
        (State::Disagree, "Servers disagree", "The time servers disagree; no offset is reported"),
        (State::Unknown, "Unknown", "Not settled yet"),
        (State::Disrupted, "Disrupted", "suspended or paused, and the clock has not been measured since"),
    ] {
        let mut scene = Scene::new();
        scene.snapshot.state = state;
        scene.settings.node_name = Some("n7".to_owned());
        let page = scene.page();
        let document = parse(&page);
        let header = elements(&document, "header").next().unwrap();
        assert_eq!(text(elements(&document, "h1").next().unwrap()), title);
        assert!(text(header).starts_with(&format!("The clock of n7 {title} ")), "{}", text(header));
        assert!(text(header).contains(words), "{}", text(header));
        assert_eq!(text(elements(&document, "title").next().unwrap()), format!("{title}: the clock of n7"));
    }
}

#[test]
fn what_an_operator_has_to_mend_is_said_at_the_top() {
    let mut scene = Scene::new();
    let ready = Err("chrony does not answer on /run/chrony/chronyd.sock".to_owned());
    scene.snapshot.daemon = Some(DaemonReport { daemon: Daemon::Unknown, believes: None, ready });
    scene.snapshot.step.mode = Mode::Chrony;
    let page = scene.page();
    let document = parse(&page);
    let header = text(elements(&document, "header").next().unwrap());
    assert!(header.contains("cannot be stepped: chrony does not answer"), "{header}");
    assert_says(&page, "Steps", &["step.mode chrony", "It could be stepped no: chrony does not answer"]);
}

#[test]
fn the_figures_of_the_moment_are_there_and_what_is_not_known_is_said_to_be_so() {
    let mut scene = Scene::new();
    scene.snapshot.measured =
        Some(Measurement::new(Offset::from_nanos(-132 * MS), Bound::from_nanos(2 * MS)));
    scene.snapshot.frequency = Some(Ppb(-12_340));
    scene.snapshot.leeway.seconds = 7;
    let page = scene.page();
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    for words in ["132 ms ahead", "±2.0 ms, measured", "2 of 2", "7 s", "12.3 ppm fast"] {
        assert!(facts.contains(words), "{words:?} is missing in {facts:?}");
    }
    (scene.snapshot.measured, scene.snapshot.frequency) = (None, None);
    let page = scene.page();
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    assert_eq!(facts.matches("not known").count(), 2, "{facts}");
}

#[test]
fn every_server_is_there_with_why_it_was_refused_last() {
    let mut scene = Scene::new();
    let server = |state, is_falseticker, last, rejected| ServerSnapshot {
        address: "[2001:db8::1]:123".parse().unwrap(),
        state,
        is_falseticker,
        measured: None,
        last,
        rejected,
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    scene.snapshot.pools[0].servers = vec![
        server(ServerState::Reachable, true, Some(Ok(())), Some((minutes(3), RejectReason::SlowRoundTrip))),
        server(
            ServerState::Unreachable,
            false,
            Some(Err(RejectReason::Timeout)),
            Some((minutes(1), RejectReason::Timeout)),
        ),
        server(ServerState::BackedOff, false, Some(Err(RejectReason::Kiss(Kiss::Deny))), None),
    ];
    scene.snapshot.pools[1].servers.clear();
    scene.snapshot.pools[1].measured = None;
    scene.snapshot.pools[1].resolve_error = Some("no such name".to_owned());
    scene.snapshot.counts.samples[0].insert("timeout", 41);
    assert_says(
        &scene.page(),
        "Pools and servers",
        &[
            "[2001:db8::1]:123 outvoted - accepted 3 min ago: round trip over the limit",
            "[2001:db8::1]:123 silent - no answer 60 s ago: no answer",
            "[2001:db8::1]:123 asked to be left alone - denies service (kiss-o'-death) never",
            "41 timeout",
            "pool-1.invalid Is silent: the name does not resolve: no such name",
        ],
    );
}

#[test]
fn signals_are_present_or_missing_and_blindness_is_said() {
    let mut scene = Scene::new();
    let blind = "A pause that the kernel does not notice shows only when the pools are asked.";
    assert_says(&scene.page(), "Signals of a resume", &["rtc a hardware clock that ran on present"]);
    assert!(!section(&scene.page(), "Signals of a resume").contains(blind));
    let signals = [
        (Signal::Suspend, true),
        (Signal::Vmclock, false),
        (Signal::Rtc, false),
        (Signal::ClockSet, false),
        (Signal::Wall, true),
        (Signal::LateTick, true),
    ];
    scene.snapshot.signals = Some(signals);
    let words =
        ["suspend sleep that the kernel counts present", "rtc a hardware clock that ran on missing", blind];
    assert_says(&scene.page(), "Signals of a resume", &words);
    scene.snapshot.signals = None;
    assert_says(&scene.page(), "Signals of a resume", &["Nobody looks for them here."]);
}

#[test]
fn the_daemon_and_the_kernel_speak_for_themselves() {
    let mut scene = Scene::new();
    let believes = Some(Offset::from_nanos(21_000));
    scene.snapshot.daemon = Some(DaemonReport { daemon: Daemon::Chrony, believes, ready: Ok(()) });
    let words = [
        "Time daemon chrony",
        "It takes the clock for 21 µs behind",
        "Kernel not disciplined",
        "Kernel's own bound 16.0 s",
        "Kernel makes it run 12.34 ppm slower",
    ];
    assert_says(&scene.page(), "Who keeps this clock", &words);
    (scene.kernel, scene.snapshot.daemon) = (None, None);
    let words = ["Time daemon not looked at", "Kernel its state cannot be read"];
    assert_says(&scene.page(), "Who keeps this clock", &words);
}

#[test]
fn the_last_step_is_told_with_what_became_of_it() {
    let mut scene = Scene::new();
    assert_says(&scene.page(), "Steps", &["off: the clock is never stepped", "Last step none that is known"]);
    assert!(!section(&scene.page(), "Steps").contains("It could be stepped"), "nobody wants it to be");
    scene.snapshot.step.mode = Mode::Auto;
    scene.settings.core.step.dry_run = true;
    scene.snapshot.step.last = Some(LastStep {
        at: Wall::from_secs(0),
        before: Offset::from_nanos(20_000 * MS),
        after: Some(Offset::from_nanos(-MS)),
        method: "kernel".to_owned(),
        trigger: "pause".to_owned(),
        in_hour: 1,
        total: Duration::ZERO,
        is_latched: true,
    });
    scene.snapshot.step.last_age = Some(Duration::from_secs(300));
    scene.snapshot.step.answer = Some("id-1: The clock is not stepped.".to_owned());
    scene.snapshot.step.counts.insert((Some(Method::Kernel), StepResult::Stepped), 2);
    let words = [
        "step.mode auto, dry run",
        "It could be stepped yes",
        "5 min ago, by kernel (pause): 20.0 s behind before, 1.0 ms ahead afterwards; it did not help",
        "2 stepped by kernel",
        "id-1: The clock is not stepped.",
    ];
    assert_says(&scene.page(), "Steps", &words);
}

#[test]
fn the_settings_are_those_that_check_config_prints() {
    let scene = Scene::new();
    let page = scene.page();
    let document = parse(&page);
    assert_eq!(elements(&document, "pre").next().unwrap().text(), Some(scene.settings.in_yaml().as_str()));
}

#[test]
fn what_happened_is_told_newest_first_and_marked_in_the_plot() {
    let mut scene = Scene::new();
    let lost = Offset::from_nanos(20 * NANOS_PER_SEC);
    let amount = Some(Measurement::new(lost, Bound::default()));
    scene
        .history
        .resumed(Detection { class: Class::Pause, by: Signal::Rtc, amount, replaces: None }, scene.now);
    let later = |secs| Reading { raw: scene.now.raw.plus(Duration::from_secs(secs)), ..scene.now };
    scene.history.note(later(0), State::Disrupted, None, None);
    let outcome = Outcome {
        result: StepResult::Refused,
        method: None,
        trigger: Trigger::Disruption(Class::Pause),
        before: None,
        after: None,
        reason: Some("two words".to_owned()),
    };
    scene.history.stepped(&outcome, later(1));
    scene.history.note(later(2), State::Drifting, Some(Measurement::new(lost, Bound::default())), None);
    scene.now = later(600);
    let page = scene.page();
    let words = section(&page, "The last two hours");
    let order = [
        "Verdict: Drifting",
        "Step: The clock is not stepped (pause): two words.",
        "Verdict: Disrupted for 2 s",
        "Resume: the machine was paused: by its hardware clock it lost 20.0 s",
        "Verdict: In sync",
        "where the record begins",
    ];
    let table = &words[words.find("What happened").unwrap()..];
    let places: Vec<Option<usize>> = order.iter().map(|words| table.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {table}");
    let document = parse(&page);
    let titles: Vec<&str> = elements(&document, "title").filter_map(|title| title.text()).collect();
    for title in [
        "Resume, 10 min ago: the machine was paused",
        "Step, 9 min ago: The clock",
        "Drifting for 9 min, until now",
    ] {
        assert!(titles.iter().any(|t| t.starts_with(title)), "{title:?} is missing in {titles:?}");
    }
    assert!(words.contains("The offset was between") && words.contains("20.0 s behind"), "{words}");
}

#[test]
fn a_long_list_is_cut_and_counted() {
    let mut scene = Scene::new();
    for _ in 0..40 {
        scene.history.resumed(
            Detection { class: Class::Stall, by: Signal::LateTick, amount: None, replaces: None },
            scene.now,
        );
    }
    let words = section(&scene.page(), "The last two hours");
    assert_eq!(words.matches("Stall: the agent did not run for a while").count(), 30);
    assert!(words.contains("And 12 more before that."), "{words}");
}

#[test]
fn it_loads_itself_anew_unless_it_is_asked_to_stand_still() {
    let scene = Scene::new();
    let context = PageContext {
        snapshot: &scene.snapshot,
        history: &scene.history,
        now: scene.now,
        settings: &scene.settings,
        kernel: None,
    };
    let refresh = "http-equiv=\"refresh\" content=\"30\"";
    assert!(render(&context, None).contains(refresh) && render(&context, Some("x")).contains(refresh));
    assert!(!render(&context, Some("still")).contains("refresh"));
}

#[test]
fn nothing_is_run_and_nothing_is_loaded() {
    let page = Scene::new().page();
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
fn headings_tables_and_the_plot_can_be_read_without_eyes() {
    let page = Scene::new().page();
    let document = parse(&page);
    let levels: Vec<u32> =
        document.descendants().filter_map(|e| e.tag_name().name().strip_prefix('h')?.parse().ok()).collect();
    assert_eq!((levels[0], levels.iter().filter(|level| **level == 1).count()), (1, 1), "{levels:?}");
    assert!(levels.windows(2).all(|w| w[1] <= w[0] + 1), "no level is left out: {levels:?}");
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
fn only_who_asks_for_html_gets_it() {
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
fn the_text_is_the_verdict_the_leeway_and_where_there_is_more() {
    let text = in_text(&Scene::new().snapshot);
    assert!(
        text.starts_with("in-sync: The clock is ") && text.contains("leeway for verifiers of tokens: 5 s"),
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
fn every_text_has_the_contrast_of_aa_in_both_schemes() {
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
        assert!(contrast("offset", "panel") >= 3.0, "what is drawn, not written");
    }
}

/// Anything that might come from outside, and what would break out if it could.
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

/// A random walk of clocks, verdicts and marks.
type Walk = Vec<(u32, usize, Option<Measurement>, usize, String)>;

fn arbitrary_scene() -> impl Strategy<Value = Scene> {
    let texts = prop::collection::vec(anything(), 9);
    let walk = prop::collection::vec((any::<u32>(), 0..5_usize, measured(), 0..9_usize, anything()), 0..60);
    let numbers = (any::<[u64; 6]>(), any::<[i64; 4]>(), 0..5_usize, 0..4_usize, any::<[bool; 4]>());
    (texts, walk, numbers, measured())
        .prop_map(|(texts, walk, numbers, measured)| build(&texts, walk, numbers, measured))
}

#[expect(clippy::many_single_char_names, reason = "six numbers without a meaning")]
fn build(
    texts: &[String],
    walk: Walk,
    (spans, offsets, state, index, yes): ([u64; 6], [i64; 4], usize, usize, [bool; 4]),
    measured: Option<Measurement>,
) -> Scene {
    let mut scene = Scene::new();
    let [a, b, c, d, e, f] = spans.map(Duration::from_nanos);
    let Scene { snapshot, history, now, settings, kernel } = &mut scene;
    for (seconds, state, measured, class, text) in walk {
        now.raw = now.raw.plus(Duration::from_millis(u64::from(seconds) / 1_000));
        match (Class::ALL.get(class), class) {
            (Some(class), _) => {
                history.resumed(
                    Detection { class: *class, by: Signal::Rtc, amount: measured, replaces: None },
                    *now,
                );
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
    (snapshot.threshold, snapshot.estimate_age, snapshot.frequency) =
        (b, yes[2].then_some(c), Some(Ppb(offsets[1])));
    snapshot.leeway.reason.clone_from(&texts[0]);
    snapshot.pools[0].name.clone_from(&texts[1]);
    snapshot.pools[0].resolve_error = Some(texts[2].clone());
    (snapshot.pools[1].sample_age, snapshot.pools[1].round_trip) = (Some(d), Some(e));
    let server = &mut snapshot.pools[1].servers[0];
    (server.state, server.measured) = (ServerState::ALL[index], measured);
    server.rejected = Some((f, RejectReason::ClockOutOfRange));
    let (believes, ready) = (Some(Offset::from_nanos(offsets[3])), Err(texts[3].clone()));
    snapshot.daemon = Some(DaemonReport { daemon: Daemon::ALL[index % 3], believes, ready });
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
    scene
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_shown_the_markup_holds(scene in arbitrary_scene()) {
        let page = scene.page();
        let document = parse(&page);
        let root: Vec<&str> = document.root_element().children().map(|c| c.tag_name().name()).collect();
        prop_assert_eq!(root, ["head", "body"]);
        prop_assert!(!page.contains("<script"));
        for path in elements(&document, "path").filter_map(|path| path.attribute("d")) {
            prop_assert!(!path.contains("NaN") && !path.contains("inf"), "{}", path);
        }
        // However much is remembered, the page stays small: 1,000 points of three numbers, and the rest.
        prop_assert!(page.len() < 200_000, "{} bytes", page.len());
    }
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.now, self.snapshot, self.history)
    }
}
