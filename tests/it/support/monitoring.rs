//! A real Prometheus and a real Alertmanager on loopback, and a webhook that receives their notifications.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{Folder, Process, finish, free_tcp_port, get, tool, wait_for};

/// Where the repository is.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The blocks of a Markdown file that are marked as this language.
pub fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    markdown.split(&fence).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

/// The rules as the chart makes them with these arguments of helm's, as a file for Prometheus.
pub fn chart_rules(folder: &Folder, arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(tool("helm"));
    command.args(["template", "drift-agent"]).arg(repository().join("charts/drift-agent"));
    command.args(["--api-versions", "monitoring.coreos.com/v1/PrometheusRule"]);
    command.args(["--show-only", "templates/prometheusrule.yaml", "--set", "prometheusRule.enabled=true"]);
    let rendered = finish(command.args(arguments), "");
    assert_eq!(rendered.code, 0, "{}", rendered.stderr);
    let (_, spec) = rendered.stdout.split_once("\nspec:\n").expect("a PrometheusRule");
    let file = folder.path().join("rules.yaml");
    let outdented: Vec<&str> = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    std::fs::write(&file, outdented.join("\n")).expect("a rule file");
    file
}

/// What a Prometheus scrapes: a port of loopback, and the labels of the node that it speaks for.
pub struct Target {
    pub labels: String,
    pub port: u16,
}

/// A Prometheus that scrapes and evaluates every second.
pub struct Prometheus {
    process: Process,
    port: u16,
}

impl Prometheus {
    /// Starts it, and waits until it is ready.
    pub fn start(
        folder: &Folder,
        targets: &[Target],
        rules: Option<&Path>,
        alertmanager: Option<&Alertmanager>,
    ) -> Self {
        let target = |t: &Target| {
            format!("      - targets: ['127.0.0.1:{}']\n        labels: {{{}}}\n", t.port, t.labels)
        };
        let scraped = targets.iter().map(target).collect::<Vec<_>>().concat();
        let rules = rules.map_or(String::new(), |file| format!("rule_files: ['{}']\n", file.display()));
        let alerting = alertmanager.map_or(String::new(), |it| {
            format!(
                "alerting:\n  alertmanagers:\n    - static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
                it.port
            )
        });
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {{cluster: e2e}}}}\n\
             {rules}{alerting}scrape_configs:\n  - job_name: drift-agent\n    static_configs:\n{scraped}"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a configuration");
        let port = free_tcp_port();
        let mut command = Command::new(tool("prometheus"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn");
        let process = Process::start(&mut command, folder.path(), "prometheus");
        wait_for("Prometheus to be ready", || (get(port, "/-/ready")?.0 == 200).then_some(()));
        Self { process, port }
    }

    /// What a query returns now: a list of series with a value each.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        self.ask(&["instant"], expression)
    }

    /// What a query returns for the last minute, second by second: a list of series with values.
    pub fn query_range(&self, expression: &str) -> Vec<Value> {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let (start, end) = (format!("--start={}", now - 60), format!("--end={now}"));
        self.ask(&["range", "--step=1s", &start, &end], expression)
    }

    fn ask(&self, kind: &[&str], expression: &str) -> Vec<Value> {
        let mut command = Command::new(tool("promtool"));
        // An expression may begin with a minus.
        command.args(["query", "--format=json"]).args(kind).arg("--");
        let answer = finish(command.arg(format!("http://127.0.0.1:{}", self.port)).arg(expression), "");
        assert_eq!(answer.code, 0, "{expression}: {}{}", answer.stdout, answer.stderr);
        serde_json::from_str(&answer.stdout)
            .unwrap_or_else(|e| panic!("{expression}: {e}: {}", answer.stdout))
    }
}

/// An Alertmanager on a free port, without a cluster.
pub struct Alertmanager {
    process: Process,
    pub port: u16,
}

impl Alertmanager {
    /// Starts it with this configuration, and waits until it is ready.
    pub fn start(folder: &Folder, config: &Path) -> Self {
        let port = free_tcp_port();
        let mut command = Command::new(tool("alertmanager"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("alertmanager").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--cluster.listen-address=", "--log.level=warn"]);
        let process = Process::start(&mut command, folder.path(), "alertmanager");
        wait_for("Alertmanager to be ready", || (get(port, "/-/ready")?.0 == 200).then_some(()));
        Self { process, port }
    }

    /// The alerts that it knows of, muted or not.
    pub fn alerts(&self) -> Vec<Value> {
        let answer = self.amtool(&[
            "alert",
            "query",
            "--output=json",
            "--silenced",
            "--inhibited",
            "--active",
            "--unprocessed",
        ]);
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }

    /// Tells it of an alert, as Prometheus would.
    pub fn add(&self, labels: &[&str]) {
        self.amtool(&[&["alert", "add"], labels].concat());
    }

    fn amtool(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tool("amtool"));
        command.arg(format!("--alertmanager.url=http://127.0.0.1:{}", self.port)).args(arguments);
        let answer = finish(&mut command, "");
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.stderr);
        answer.stdout
    }
}

/// A notification: the receiver and the alerts (the body of Alertmanager's webhook).
#[derive(Clone, Debug)]
pub struct Notification {
    pub receiver: String,
    pub status: String,
    pub alerts: Vec<Value>,
}

/// What Alertmanager notifies; it lives as long as the test's process.
pub struct Webhook {
    pub port: u16,
    received: Arc<Mutex<Vec<Notification>>>,
}

impl Webhook {
    /// Listens.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let notifications = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(notification) = stream.ok().and_then(|stream| take(&stream)) {
                    notifications.lock().expect("no panic").push(notification);
                }
            }
        });
        Self { port, received }
    }

    /// All notifications so far.
    pub fn received(&self) -> Vec<Notification> {
        self.received.lock().expect("no panic").clone()
    }

    /// Waits until there is one that fits.
    pub fn wait_for(&self, what: &str, fits: impl Fn(&Notification) -> bool) -> Notification {
        wait_for(what, || self.received().into_iter().find(|n| fits(n)))
    }
}

/// One POST, answered by 200.
fn take(mut stream: &TcpStream) -> Option<Notification> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    Some(Notification {
        receiver: body["receiver"].as_str()?.to_owned(),
        status: body["status"].as_str()?.to_owned(),
        alerts: body["alerts"].as_array()?.clone(),
    })
}
