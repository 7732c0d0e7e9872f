//! From kubeconfig files, context and proxies to a client's configuration, by kubectl's rules.

use std::net::IpAddr;
use std::path::PathBuf;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::client::AuthError;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::error::{FetchError, last_cause};
use super::row::{CELL_CHARS_MAX, escape_for_terminal};

/// The cluster to read from: kubeconfig files, context and proxies, by kubectl's rules.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The kubeconfig files; of values that occur twice, the first wins. Missing files are skipped.
    pub files: Vec<PathBuf>,
    /// The files were named by a flag: they must exist, and the service account of a pod is not used instead.
    pub is_explicit: bool,
    /// The context, instead of the current one.
    pub context: Option<String>,
    /// The proxies of the environment.
    pub proxies: Proxies,
}

/// The proxies of the environment; empty: none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// `HTTP_PROXY`, for a server without TLS.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `NO_PROXY`: the servers that are reached without a proxy.
    pub none: String,
}

/// By kubectl's rules: the files that exist, merged; without any, the service account of the pod.
pub(super) async fn config(target: Target) -> Result<Config, FetchError> {
    let Target { files, is_explicit, context, proxies } = target;
    let invalid = |e: kube::config::KubeconfigError| FetchError::Kubeconfig(last_cause(&e));
    let mut kubeconfig: Option<Kubeconfig> = None;
    for file in files {
        if !is_explicit && !file.exists() {
            continue;
        }
        let read = Kubeconfig::read_from(&file)
            .map_err(|e| FetchError::KubeconfigFile { file, cause: last_cause(&e) })?;
        kubeconfig = Some(match kubeconfig {
            None => read,
            Some(before) => before.merge(read).map_err(invalid)?,
        });
    }
    let Some(kubeconfig) = kubeconfig else {
        if let Some(context) = context {
            let context = escape_for_terminal(&context, CELL_CHARS_MAX);
            return Err(FetchError::ContextWithoutKubeconfig(context));
        }
        return Config::incluster().map_err(|_| FetchError::NoKubeconfig);
    };
    let known = || {
        let names: Vec<String> =
            kubeconfig.contexts.iter().map(|c| escape_for_terminal(&c.name, CELL_CHARS_MAX)).collect();
        if names.is_empty() {
            "the kubeconfig has none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        }
    };
    let chosen = context.or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
    let Some(chosen) = chosen else {
        return Err(FetchError::NoContext { known: known() });
    };
    let Some(found) = kubeconfig.contexts.iter().find(|c| c.name == chosen).and_then(|c| c.context.clone())
    else {
        let name = escape_for_terminal(&chosen, CELL_CHARS_MAX);
        return Err(FetchError::UnknownContext { name, known: known() });
    };
    let cluster =
        kubeconfig.clusters.iter().find(|c| c.name == found.cluster).and_then(|c| c.cluster.as_ref());
    let own_proxy = cluster.and_then(|c| c.proxy_url.clone()).filter(|url| !url.is_empty());
    let options = KubeConfigOptions { context: Some(chosen), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(invalid)?;
    // kube compares NO_PROXY with the address of the proxy instead of the server's, so the proxy is chosen
    // here.
    config.proxy_url = match own_proxy.or_else(|| proxies.of(&config.cluster_url)) {
        Some(url) => {
            Some(parse_proxy(&url).ok_or_else(|| FetchError::InvalidProxy(escape_for_terminal(&url, 100)))?)
        }
        None => None,
    };
    Ok(config)
}

impl Proxies {
    /// The proxy for a server, by the rules of Go's HTTP client, which kubectl uses: never for loopback.
    fn of(&self, server: &Uri) -> Option<String> {
        let proxy = if server.scheme_str() == Some("http") { &self.http } else { &self.https };
        let host = server.host()?.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let rules = Matcher::builder().all("http://proxy.invalid").no(self.none.clone()).build();
        let is_wanted = !proxy.is_empty() && !is_loopback && rules.intercept(server).is_some();
        is_wanted.then(|| proxy.clone())
    }
}

/// A URL without a scheme is an HTTP proxy.
fn parse_proxy(url: &str) -> Option<Uri> {
    if url.contains("://") { url.parse().ok() } else { format!("http://{url}").parse().ok() }
}

/// Why there is no client, or why it has no credentials.
pub(super) fn client_error(error: &kube::Error, plugin: Option<&str>) -> FetchError {
    let plugin = plugin.map_or_else(
        || "the credential plugin".to_owned(),
        |p| format!("the credential plugin \"{}\"", escape_for_terminal(p, 100)),
    );
    match error {
        kube::Error::Auth(AuthError::AuthExecStart(error)) => {
            FetchError::PluginNotStarted { plugin, cause: error.to_string() }
        }
        kube::Error::Auth(AuthError::AuthExecRun { out, .. }) => {
            let stderr = String::from_utf8_lossy(&out.stderr);
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
            let last = last.unwrap_or("it printed no error message");
            FetchError::PluginFailed { plugin, stderr: escape_for_terminal(last.trim(), 200) }
        }
        error => FetchError::Kubeconfig(last_cause(error)),
    }
}
