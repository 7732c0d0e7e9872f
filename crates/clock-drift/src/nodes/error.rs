//! Why Nodes cannot be read, and the text of each reason.

use std::path::PathBuf;
use std::time::Duration;

use super::row::escape_for_terminal;

/// Why Nodes cannot be read. Texts from outside are escaped for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// An argument that cannot be the name of a Node.
    #[error("invalid Node name \"{0}\": expected letters, digits, '-' and '.'")]
    InvalidName(String),
    /// 404, with the API server's message.
    #[error("{0}")]
    NotFound(String),
    /// A request that the client or the API server (400) rejects, such as one with an invalid selector.
    #[error("the request was rejected: {0}")]
    BadRequest(String),
    /// A context was named, but there is no kubeconfig.
    #[error("context \"{0}\": there is no kubeconfig")]
    ContextWithoutKubeconfig(String),
    /// The kubeconfig does not have the context that was named.
    #[error("context \"{name}\" does not exist: {known}")]
    UnknownContext {
        /// The context.
        name: String,
        /// The contexts of the kubeconfig, as text.
        known: String,
    },
    /// Neither a kubeconfig nor the service account of a pod.
    #[error("there is no kubeconfig: name one with --kubeconfig or KUBECONFIG, or run in a pod")]
    NoKubeconfig,
    /// The kubeconfig has no current context, and none was named.
    #[error("no context is set: name one with --context ({known})")]
    NoContext {
        /// The contexts of the kubeconfig, as text.
        known: String,
    },
    /// The kubeconfig is invalid.
    #[error("kubeconfig: {0}")]
    Kubeconfig(String),
    /// A kubeconfig file cannot be read.
    #[error("{}: {cause}", .file.display())]
    KubeconfigFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The proxy of the kubeconfig or of the environment is not a URL.
    #[error("proxy: invalid value \"{0}\": expected a URL")]
    InvalidProxy(String),
    /// The credential plugin of the kubeconfig did not start.
    #[error("{plugin} that the kubeconfig names cannot be run: {cause}")]
    PluginNotStarted {
        /// `the credential plugin "NAME"`.
        plugin: String,
        /// The error of the operating system.
        cause: String,
    },
    /// The credential plugin of the kubeconfig failed.
    #[error("{plugin} that the kubeconfig names failed: {stderr}")]
    PluginFailed {
        /// `the credential plugin "NAME"`.
        plugin: String,
        /// The last line that it printed to standard error.
        stderr: String,
    },
    /// No connection, or a broken one.
    #[error("cannot reach {server}: {cause}{}", if is_about_time(.cause) { CLOCK_HINT } else { "" })]
    Unreachable {
        /// The URL of the API server.
        server: String,
        /// The cause.
        cause: String,
    },
    /// No response in time.
    #[error("{server} did not answer within {} s", .timeout.as_secs())]
    TimedOut {
        /// The URL of the API server.
        server: String,
        /// How long the response was waited for.
        timeout: Duration,
    },
    /// The response ended early, or was too large.
    #[error("the API server's response was interrupted: {0}")]
    Interrupted(String),
    /// The response is not what the Kubernetes API defines.
    #[error("cannot parse the API server's response: {0}")]
    InvalidResponse(String),
    /// 401.
    #[error(
        "the API server does not accept these credentials (401): log in again, or name another --context"
    )]
    Unauthorized,
    /// 403, with the API server's message.
    #[error("{0}; this command needs get, list and, with --watch, watch on nodes")]
    Forbidden(String),
    /// Any other status that is not a success.
    #[error("the API server answered {code}: {message}")]
    Status {
        /// The HTTP status code.
        code: u16,
        /// The API server's message.
        message: String,
    },
    /// An error inside a watch, with the API server's message.
    #[error("{0}")]
    Watch(String),
    /// The list expired again and again before it was read to its end.
    #[error("the Nodes change faster than they can be read")]
    ChangesTooFast,
    /// 410: the list, or the version of a watch, has expired.
    #[error("the list of Nodes has expired (410)")]
    Gone,
}

/// A TLS error about the date of a certificate may be an error of this machine's clock.
const CLOCK_HINT: &str = ". This machine's clock may be the cause; run drift-agent check";

/// `rustls` reports "certificate expired" and "certificate not valid yet".
fn is_about_time(cause: &str) -> bool {
    cause.contains("certificate expired") || cause.contains("not valid yet")
}

/// A message of the API server, or of a library, escaped for a terminal.
pub(super) fn message(text: &str) -> String {
    escape_for_terminal(text, 400)
}

/// The last error of the chain names the cause; the errors before it only name layers of the program.
pub(super) fn last_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    message(&last.to_string())
}
