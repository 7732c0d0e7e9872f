//! A real API server: etcd and kube-apiserver as child processes, on loopback and in memory, gone with the test binary.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use crate::support::{Folder, finish, free_tcp_port, tool, wait_for};

/// Service accounts in here may do what the agent may do; those in [`STRANGERS`] may do nothing.
pub const AGENTS: &str = "agents";
/// Service accounts without a role.
pub const STRANGERS: &str = "strangers";

/// Holds a server, and ends it when the pipe to us closes: so it ends with us, however we end. A line instead of the end of
/// the pipe asks to keep the folder.
const HOLD: &str = r#"
trap : INT TERM HUP
folder=$1; shift
"$@" </dev/null &
child=$!
keep=; read -r keep
kill -9 $child; wait $child
[ -n "$keep" ] || rm -rf "$folder"
"#;

/// What the agents ask, and nothing else, goes to the audit log.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
"rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]}"#;

struct Held {
    shell: Child,
    log: PathBuf,
}

impl Held {
    fn start(folder: &Path, name: &str, arguments: &[String]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let shell = Command::new("sh")
            .args(["-c", HOLD, "sh"])
            .arg(folder)
            .arg(tool(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn();
        Self { shell: shell.expect("a shell"), log }
    }

    fn end(&mut self, keep_folder: bool) {
        if let Some(mut pipe) = self.shell.stdin.take()
            && keep_folder
        {
            let _ = pipe.write_all(b"keep\n");
        }
        let _ = self.shell.wait();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- {} ---\n{last}", self.log.display());
        }
        self.end(false);
    }
}

/// An API server that knows the agent's roles and nothing else.
pub struct Cluster {
    program: &'static str,
    etcd_port: u16,
    port: u16,
    server: Mutex<Option<Held>>,
    _etcd: Held,
    folder: Folder,
}

impl Cluster {
    /// The one that the tests share, except those that count or list Nodes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("shared"))
    }

    /// Starts one and waits until it is ready.
    pub fn start(name: &str) -> Self {
        Self::of("kube-apiserver", name)
    }

    /// The same with another API server, by its name among the tools.
    pub fn of(program: &'static str, name: &str) -> Self {
        let folder = Folder::new(&format!("cluster-{name}"));
        let path = folder.path();
        std::fs::write(path.join("tokens.csv"), "admin-token,admin,admin,\"system:masters\"\n").unwrap();
        std::fs::write(path.join("audit-policy.json"), AUDIT_POLICY).unwrap();
        let (etcd_port, port) = (free_tcp_port(), free_tcp_port());
        let url = format!("http://127.0.0.1:{etcd_port}");
        let etcd = [
            format!("--data-dir={}/etcd", path.display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        ];
        let etcd = Held::start(path, "etcd", &etcd);
        let cluster = Self { program, etcd_port, port, server: Mutex::new(None), _etcd: etcd, folder };
        cluster.serve();
        cluster.set_up();
        cluster
    }

    /// Starts the API server, for the first time or again, on the same port.
    pub fn serve(&self) {
        let folder = self.folder().display();
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // From 1.37 on, loopback is no address to be reached at; nothing here uses it.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={}", self.port),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            format!("--cert-dir={folder}/pki"),
            format!("--token-auth-file={folder}/tokens.csv"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={folder}/pki/apiserver.key"),
            format!("--service-account-signing-key-file={folder}/pki/apiserver.key"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--audit-policy-file={folder}/audit-policy.json"),
            format!("--audit-log-path={folder}/audit.log"),
        ];
        *self.server.lock().unwrap() = Some(Held::start(self.folder(), self.program, &arguments));
        wait_for("a ready API server", || self.try_kubectl(&["get", "--raw=/readyz"], "").ok());
        wait_for("the namespace default", || self.try_kubectl(&["get", "namespace", "default"], "").ok());
    }

    /// Kills the API server; etcd stays, and with it all that was written.
    pub fn kill(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            server.end(true);
        }
    }

    /// Where the API server listens.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Where etcd listens, for its metrics.
    #[allow(dead_code, reason = "for a bench")]
    pub fn etcd_port(&self) -> u16 {
        self.etcd_port
    }

    /// Where its files are, and room for those of the tests.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Namespaces, and the agent's roles as the chart gives them.
    fn set_up(&self) {
        self.write_kubeconfig("admin", "admin-token");
        for namespace in [AGENTS, STRANGERS] {
            self.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        }
        let rbac = "rbac.authorization.k8s.io";
        let agents =
            json!([{"apiGroup": rbac, "kind": "Group", "name": format!("system:serviceaccounts:{AGENTS}")}]);
        let version = format!("{rbac}/v1");
        self.create(&json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "drift-agent"},
            "rules": [{"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]}],
        }));
        self.create(&json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "drift-agent"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "drift-agent"}, "subjects": agents,
        }));
        self.create(&json!({
            "apiVersion": version, "kind": "Role", "metadata": {"name": "drift-agent", "namespace": "default"},
            "rules": [{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}],
        }));
        self.create(&json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "drift-agent", "namespace": "default"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "drift-agent"}, "subjects": agents,
        }));
    }

    /// A token for a service account of this name, bound to a pod on this node; the kubeconfig that carries it.
    pub fn kubeconfig(&self, namespace: &str, account: &str, node: &str) -> PathBuf {
        let meta = json!({"name": account, "namespace": namespace});
        self.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}));
        self.create(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {
                "nodeName": node, "serviceAccountName": account, "containers": [{"name": "agent", "image": "x"}],
            },
        }));
        let bound = ["--bound-object-kind", "Pod", "--bound-object-name", account];
        let token =
            self.kubectl(&[&["--namespace", namespace, "create", "token", account][..], &bound].concat());
        self.write_kubeconfig(account, token.trim());
        self.kubeconfig_of(account)
    }

    /// The kubeconfig of the cluster's admin.
    pub fn admin(&self) -> PathBuf {
        self.kubeconfig_of("admin")
    }

    fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.folder().join(format!("{user}.kubeconfig"))
    }

    fn write_kubeconfig(&self, user: &str, token: &str) {
        let authority = self.folder().join("pki/apiserver.crt");
        let server = self.url();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(self.kubeconfig_of(user), config.to_string()).unwrap();
    }

    /// kubectl as the cluster's admin.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(tool("kubectl"));
        command
            .arg(format!("--server={}", self.url()))
            .arg(format!("--certificate-authority={}/pki/apiserver.crt", self.folder().display()))
            .arg(format!("--cache-dir={}/kubectl", self.folder().display()))
            .args(["--token=admin-token", "--kubeconfig=/dev/null"])
            .env_remove("KUBECONFIG");
        command
    }

    /// What kubectl prints; it must work.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, "").unwrap_or_else(|e| panic!("kubectl {arguments:?}: {e}"))
    }

    /// Creates an object.
    pub fn create(&self, object: &Value) {
        self.try_kubectl(&["create", "--validate=false", "-f", "-"], &object.to_string())
            .unwrap_or_else(|e| panic!("kubectl create {object}: {e}"));
    }

    /// An object, or `None` when there is none.
    pub fn get(&self, arguments: &[&str]) -> Option<Value> {
        let text = self.kubectl(
            &[&["get", "--ignore-not-found", "--show-managed-fields", "-o", "json"], arguments].concat(),
        );
        serde_json::from_str(&text).ok()
    }

    /// What kubectl prints with this on its standard input, or what it complains of.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let ended = finish(self.kubectl_command().args(arguments), input);
        if ended.code == 0 { Ok(ended.stdout) } else { Err(ended.stderr) }
    }

    /// Everything that the service accounts of this name have asked, from the audit log.
    pub fn requests_of(&self, account: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder().join("audit.log")).unwrap_or_default();
        // The last line may be half written.
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let suffix = format!(":{account}");
        lines.filter(|l| l["user"]["username"].as_str().is_some_and(|u| u.ends_with(&suffix))).collect()
    }
}
