//! Alerts, runbooks, tables and the dashboard are about the same things, and these exist.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::ACCEPTED;
use serde_json::Value;

use crate::support::monitoring::{Prometheus, blocks, chart_rules, read, repository};
use crate::support::simulated::{Served, SimulatedAgent};
use crate::support::{Folder, drift_agent, finish, tool, wait_for};

pub const RULES: [&str; 2] =
    ["manifests/prometheus/drift-agent.rules.yaml", "manifests/prometheus/drift-agent-tokens.rules.yaml"];

/// What follows this key at the start of a line of the rule files.
pub fn in_rules(key: &str) -> BTreeSet<String> {
    let text = RULES.map(read).concat();
    let found = text.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("- ").unwrap_or(line).strip_prefix(key).map(str::to_owned)
    });
    found.collect()
}

fn runbooks() -> BTreeMap<String, String> {
    let folder = repository().join("docs/runbooks");
    let files = std::fs::read_dir(folder).expect("docs/runbooks").map(|entry| entry.expect("an entry"));
    let named = files.map(|file| {
        let name = file.file_name().into_string().expect("UTF-8");
        let alert = name.strip_suffix(".md").unwrap_or_else(|| panic!("{name} is no runbook")).to_owned();
        (alert, std::fs::read_to_string(file.path()).expect("a runbook"))
    });
    named.collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("charts/drift-agent/dashboards/drift-agent.json")).expect("JSON")
}

/// The values of this key, anywhere in it.
fn all<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| all(item, key)).collect(),
        Value::Object(fields) => {
            let own = fields.get(key).into_iter();
            own.chain(fields.values().flat_map(|field| all(field, key))).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn rules_runbooks_table_and_schema_list_the_same_alerts() {
    let alerts = in_rules("alert: ");
    assert!(alerts.len() > 12, "{alerts:?}");
    let of_runbooks: BTreeSet<String> = runbooks().into_keys().collect();
    assert_eq!(of_runbooks, alerts, "docs/runbooks");
    let readme = read("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| [")?.split_once("](docs/runbooks/"));
    let of_readme: BTreeSet<String> = rows.map(|(alert, _)| alert.to_owned()).collect();
    assert_eq!(of_readme, alerts, "the README's table");
    let schema: Value = serde_json::from_str(&read("charts/drift-agent/values.schema.json")).expect("JSON");
    let names = schema["definitions"]["alert"]["enum"].as_array().expect("a list");
    let of_schema: BTreeSet<String> = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(of_schema, alerts, "values.schema.json");
    let links = in_rules("runbook_url: ");
    let expected = alerts.iter().map(|alert| format!("docs/runbooks/{alert}.md")).collect();
    assert_eq!(links, expected, "each alert has its runbook");
}

#[test]
fn runbooks_have_meaning_impact_diagnosis_and_mitigation() {
    for (alert, text) in runbooks() {
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {alert}");
        assert_eq!(headings, [&title, "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"], "{alert}");
        let sections: Vec<&str> = text.split("\n## ").collect();
        let (impact, diagnosis) = (sections[2].to_lowercase(), sections[3]);
        for sufferer in ["token", "lease", "certificate", "log"] {
            assert!(impact.contains(sufferer), "{alert}: impact on {sufferer}s");
        }
        for look in ["kubectl ", "drift-agent check", "chronyc tracking", "timedatectl"] {
            assert!(diagnosis.contains(look), "{alert}: no {look} in the diagnosis");
        }
        for link in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            let file = link.split('#').next().unwrap_or(link);
            assert!(repository().join("docs/runbooks").join(file).is_file(), "{alert}: {link} leads nowhere");
        }
    }
}

/// The commands of a runbook: programs that nodes and clusters have, and commands that the agent has.
#[test]
fn commands_in_runbooks_exist() {
    let programs = ["cat", "chronyc", "drift-agent", "journalctl", "kubectl", "systemctl", "timedatectl"];
    let help = finish(drift_agent().arg("--help"), "").stdout;
    for (alert, text) in runbooks() {
        let lines: Vec<String> = blocks(&text, "sh")
            .iter()
            .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(!lines.is_empty(), "{alert}: no commands");
        for line in &lines {
            let program = line.split_whitespace().next().unwrap_or_else(|| panic!("{alert}: an empty line"));
            assert!(programs.contains(&program), "{alert}: {program}");
        }
        for called in text.split("drift-agent ").skip(1).filter(|rest| rest.starts_with(char::is_lowercase)) {
            let command: String =
                called.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
            let of_prose =
                ["get", "exec", "logs", "describe", "delete", "rollout"].contains(&command.as_str());
            assert!(of_prose || help.contains(&format!("\n  {command} ")), "{alert}: drift-agent {command}");
        }
    }
}

/// Each series that is named in rules, dashboard, runbooks or documentation is exported or recorded.
#[test]
fn every_series_in_rules_and_documents_exists() {
    let mut agent = SimulatedAgent::busy("n1");
    let exposition: String = (0..40).map(|_| agent.exposition()).collect();
    let exported: BTreeSet<&str> =
        exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let recorded = in_rules("record: ");
    let mut named = 0;
    let texts = RULES.map(read).into_iter().chain(runbooks().into_values()).chain([
        read("docs/alerts.md"),
        all(&dashboard(), "expr").iter().map(|e| e.as_str().unwrap().to_owned() + "\n").collect(),
    ]);
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for text in texts {
        for name in text.split(|c| !is_of_name(c)) {
            let is_whole = name.starts_with("cluster:") || name.starts_with("cluster_");
            if name.starts_with("drift_agent_") && !name.contains(':') {
                assert!(exported.contains(name), "{name} is not exported");
                named += 1;
            } else if is_whole && name.contains(":drift_agent_") {
                assert!(recorded.contains(name), "{name} is not recorded");
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named} names were looked at");
}

/// The code spans in the first column of a table's rows.
fn first_column(table: &str) -> BTreeSet<String> {
    let cells =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |")).map(|(cell, _)| cell);
    cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
}

#[test]
fn the_reference_lists_every_metric_and_the_values_of_its_labels() {
    /// Exported only while the offset is coarse.
    const COARSE: [&str; 2] = ["coarse_offset_seconds", "coarse_offset_bound_seconds"];
    let reference = read("docs/reference/metrics.md");
    let mut sections = reference.split("\n`");
    let _ = sections.next();
    let rest: Vec<&str> = sections.collect();
    let of_label = |name: &str| {
        let table =
            rest.iter().find_map(|section| section.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        first_column(table.split("\n## ").next().unwrap())
    };
    let labels = RejectReason::LABELS.iter().copied().chain([ACCEPTED]);
    assert_eq!(of_label("samples_total{result}"), labels.map(str::to_owned).collect());
    let states = ServerState::ALL.map(|state| state.label().to_owned());
    assert_eq!(of_label("pool_servers{state}"), states.into_iter().collect());

    let exposition: String = {
        let mut agent = SimulatedAgent::busy("n1");
        (0..40).map(|_| agent.exposition()).collect()
    };
    let types =
        exposition.lines().filter_map(|line| line.strip_prefix("# TYPE drift_agent_")?.split(' ').next());
    let exported: BTreeSet<String> = types.chain(COARSE).map(str::to_owned).collect();
    let tables = reference.split("\n## ").map(|section| section.split("\n`").next().unwrap());
    assert_eq!(tables.flat_map(first_column).collect::<BTreeSet<_>>(), exported);
    let values = exposition.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap_or(""));
        labels.split(',').filter_map(|label| label.split_once("=\"")).collect::<Vec<_>>()
    });
    let values: BTreeSet<&str> = values
        .filter(|(name, _)| ["state", "result", "class", "method", "daemon"].contains(name))
        .map(|(_, value)| value.trim_end_matches('"'))
        .collect();
    assert!(values.len() > 40, "{values:?}");
    for value in values {
        assert!(reference.contains(&format!("`{value}`")), "{value}");
    }
}

#[test]
fn the_dashboard_is_well_formed_and_included_in_the_config_map() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<i64> = panels.iter().map(|p| p["id"].as_i64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut taken = BTreeMap::new();
    for panel in panels {
        let title = panel["title"].as_str().filter(|title| !title.is_empty()).expect("a title");
        let side = |key: &str| panel["gridPos"][key].as_i64().unwrap_or_else(|| panic!("{title}: {key}"));
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        assert!(x >= 0 && w > 0 && h > 0 && x + w <= 24, "{title} is outside of the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = taken.insert(cell, title);
            assert_eq!(other, None, "{title} lies over it at {cell:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
            "{title}: no description"
        );
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
        let targets = panel["targets"].as_array().expect("targets");
        let names: BTreeSet<&str> = targets.iter().map(|t| t["refId"].as_str().expect("a refId")).collect();
        assert_eq!(names.len(), targets.len(), "{title}: each query has a name of its own");
    }
    let bottom = taken.keys().map(|(_, y)| y + 1).max().unwrap();
    let cells: i64 = panels
        .iter()
        .map(|p| p["gridPos"]["w"].as_i64().unwrap() * p["gridPos"]["h"].as_i64().unwrap())
        .sum();
    assert_eq!(cells, 24 * bottom, "no holes");
    for source in all(&dashboard, "datasource") {
        assert_eq!(source["uid"], "${datasource}", "the data source is a variable");
    }
    let variables: Vec<&Value> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "cluster", "node", "pool"]);

    let mut command = Command::new(tool("helm"));
    command.args(["template", "drift-agent"]).arg(repository().join("charts/drift-agent"));
    command.args(["--set", "grafanaDashboard.enabled=true", "--show-only", "templates/dashboard.yaml"]);
    let rendered = finish(&mut command, "");
    assert_eq!(rendered.code, 0, "{}", rendered.stderr);
    let map: Value = serde_saphyr::from_str(&rendered.stdout).expect("YAML");
    let held = map["data"]["drift-agent.json"].as_str().expect("the dashboard");
    assert_eq!(serde_json::from_str::<Value>(held).expect("JSON"), dashboard);
}

/// As Grafana does it, for the last minute of one node.
fn substituted(expression: &str) -> String {
    let values = [
        ("$__rate_interval", "10s"),
        ("$__range", "1m"),
        ("$cluster", ".*"),
        ("$node", "n1"),
        ("$pool", "pool-0.invalid|pool-1.invalid"),
    ];
    let text = values.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!text.contains('$'), "no variable is left: {text}");
    text
}

fn has_a_number(series: &Value) -> bool {
    let points = series["values"].as_array().cloned().unwrap_or_else(|| vec![series["value"].clone()]);
    points
        .iter()
        .any(|point| point[1].as_str().and_then(|text| text.parse::<f64>().ok()).is_some_and(f64::is_finite))
}

#[test]
fn every_query_of_the_dashboard_returns_data() {
    let folder = Folder::new("dashboard");
    let agents = [SimulatedAgent::busy("n1"), SimulatedAgent::behind("n2"), SimulatedAgent::half_deaf("n3")]
        .map(SimulatedAgent::serve);
    let targets = agents.each_ref().map(Served::target);
    let prometheus = Prometheus::start(&folder, &targets, None, None);
    let dashboard = dashboard();
    let marks = dashboard["annotations"]["list"].as_array().unwrap();
    for mark in marks {
        let expression = substituted(mark["expr"].as_str().unwrap());
        wait_for(&expression, || (!prometheus.query(&expression).is_empty()).then_some(()));
    }
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = substituted(target["expr"].as_str().unwrap());
            let instant = target["instant"] == true;
            let found =
                if instant { prometheus.query(&expression) } else { prometheus.query_range(&expression) };
            assert!(found.iter().any(has_a_number), "{}: {expression}: {found:?}", panel["title"]);
            for label in placeholders(target["legendFormat"].as_str().unwrap()) {
                assert!(
                    found.iter().all(|s| s["metric"][&label].is_string()),
                    "{}: no {label}: {found:?}",
                    panel["title"]
                );
            }
            queries += 1;
        }
    }
    assert!(queries > 30, "{queries}");
    for variable in &dashboard["templating"]["list"].as_array().unwrap()[1..] {
        let query = variable["query"]["query"].as_str().unwrap();
        let (series, label) = query
            .strip_prefix("label_values(")
            .unwrap()
            .strip_suffix(')')
            .unwrap()
            .rsplit_once(", ")
            .unwrap();
        let found = prometheus.query(&substituted(&format!("group by ({label}) ({series})")));
        let count = if label == "node" {
            3
        } else if label == "pool" {
            2
        } else {
            1
        };
        assert_eq!(found.len(), count, "{query}: {found:?}");
    }
    eprintln!("{queries} queries");
}

/// The labels in `{{label}}`.
fn placeholders(legend: &str) -> Vec<String> {
    legend.split("{{").skip(1).map(|rest| rest.split_once("}}").expect("an end").0.to_owned()).collect()
}

/// The configurations in docs/alerts.md are taken by those whom they are for.
#[test]
fn documented_configurations_are_valid() {
    let folder = Folder::new("alerts-docs");
    let documented = blocks(&read("docs/alerts.md"), "yaml");
    let [prometheus, values] = documented.as_slice() else {
        panic!("two configurations, not {}", documented.len())
    };
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    for rules in RULES {
        let name = rules.rsplit('/').next().unwrap();
        std::fs::copy(repository().join(rules), folder.path().join("rules").join(name)).unwrap();
    }
    let file = folder.path().join("prometheus.yml");
    // Debian's Prometheus is built without Kubernetes.
    let known =
        prometheus.replace("kubernetes_sd_configs:\n      - role: pod", "static_configs: [{targets: [a:1]}]");
    assert_ne!(known, *prometheus);
    std::fs::write(&file, known).unwrap();
    let check = finish(Command::new(tool("promtool")).args(["check", "config"]).arg(&file), "");
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
    assert!(check.stdout.contains("2 rule files found"), "{}", check.stdout);
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    let rules = std::fs::read_to_string(chart_rules(&folder, &["--values", file.to_str().unwrap()])).unwrap();
    assert!(rules.contains("pairwise_skew_seconds:max > 0.5") && !rules.contains("ClockStepped"), "{rules}");
}
