# shellcheck shell=bash
# A whole Kubernetes of one node, for tests/e2e/run, which must be in network, mount and process namespaces of its own:
# all state is in $RUN, a tmpfs, and all processes end with the namespace, so there is nothing to clean up here.
#
# In: RUN, a folder; BIN, where tests/tools/install puts programs. Out: KUBECONFIG, and these:

NODE=n0
NODE_IP=10.0.0.1
NTP_IPS=(10.0.0.11 10.0.0.12)
API=https://$NODE_IP:6443
declare -A PID=()

start() { # start NAME PROGRAM [ARGUMENT...]
    local name=$1
    shift
    "$@" </dev/null >>"$RUN/logs/$name.log" 2>&1 &
    PID[$name]=$!
}

stop() { # stop NAME
    kill -KILL "${PID[$1]}"
    wait "${PID[$1]}" 2>/dev/null || true
    unset "PID[$1]"
}

# Polls until COMMAND succeeds; fails when SECONDS on an idle machine have passed, or when a program that was started has ended.
# A machine that also runs other work is several times slower, and a state is not a figure: nothing is measured here.
await() { # await SECONDS WHAT COMMAND [ARGUMENT...]
    local deadline=$((SECONDS + 4 * $1)) what=$2 name
    shift 2
    until "$@" >/dev/null 2>&1; do
        for name in "${!PID[@]}"; do
            kill -0 "${PID[$name]}" 2>/dev/null && continue
            printf '%s has ended:\n' "$name" >&2
            tail -n 20 "$RUN/logs/$name.log" >&2
            return 1
        done
        if ((SECONDS > deadline)); then
            printf 'timed out waiting for %s\n' "$what" >&2
            return 1
        fi
        sleep 0.1
    done
}

certificate() { # certificate NAME SUBJECT EXTENSIONS
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "$2" |
        openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$1.crt" -extfile <(printf '%b' "$3")
}

keys() ( # in a shell of its own, for the folder's sake
    local client='extendedKeyUsage=clientAuth'
    mkdir -p "$RUN/pki"
    cd "$RUN/pki" || exit
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -days 2 -subj /CN=test-ca -out ca.crt
    certificate apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth\nsubjectAltName=IP:$NODE_IP,IP:10.96.0.1,DNS:kubernetes.default.svc"
    certificate kubelet-server "/O=system:nodes/CN=system:node:$NODE" "extendedKeyUsage=serverAuth\nsubjectAltName=IP:$NODE_IP,DNS:$NODE"
    certificate admin /O=system:masters/CN=admin "$client"
    certificate kube-controller-manager /CN=system:kube-controller-manager "$client"
    certificate kube-scheduler /CN=system:kube-scheduler "$client"
    certificate kube-proxy /CN=system:kube-proxy "$client"
    certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "$client"
    openssl genrsa -out service-accounts.key 2048
    openssl rsa -in service-accounts.key -pubout -out service-accounts.pub
) 2>>"$RUN/logs/openssl.log"

kubeconfigs() {
    local user
    for user in admin kube-controller-manager kube-scheduler kube-proxy kubelet; do
        cat >"$RUN/$user.conf" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "$API", certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: e2e, user: {client-certificate: $RUN/pki/$user.crt, client-key: $RUN/pki/$user.key}}]
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
current-context: e2e
EOF
    done
    export KUBECONFIG=$RUN/admin.conf
}

network() {
    local ip
    ip link set lo up
    # A bridge without ports only to hold addresses: not every kernel has dummy devices.
    ip link add node0 type bridge
    ip link set node0 up
    for ip in "$NODE_IP" "${NTP_IPS[@]}"; do ip address add "$ip/32" dev node0; done
    ip route add default dev node0
    echo 1 >/proc/sys/net/ipv4/ip_forward
    mkdir -p "$RUN/cni"
    # Point to point: also what a pod sends to another pod through a Service passes the node, and so kube-proxy's rules.
    cat >"$RUN/cni/10-ptp.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "e2e", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local",
 "dataDir": "$RUN/cni-ipam", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
EOF
}

start_api_server() {
    start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
        --bind-address="$NODE_IP" --advertise-address="$NODE_IP" --secure-port=6443 \
        --service-cluster-ip-range=10.96.0.0/24 --cert-dir="$RUN/pki" --client-ca-file="$RUN/pki/ca.crt" \
        --tls-cert-file="$RUN/pki/apiserver.crt" --tls-private-key-file="$RUN/pki/apiserver.key" \
        --kubelet-client-certificate="$RUN/pki/admin.crt" --kubelet-client-key="$RUN/pki/admin.key" \
        --kubelet-certificate-authority="$RUN/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file="$RUN/pki/service-accounts.pub" \
        --service-account-signing-key-file="$RUN/pki/service-accounts.key" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --profiling=false
    await 60 'the API server' kubectl get --raw /readyz
}

start_control_plane() {
    local common
    start etcd etcd --data-dir "$RUN/etcd" --listen-peer-urls http://127.0.0.1:2380 \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
    start_api_server
    common=(--leader-elect=false --bind-address=127.0.0.1 --profiling=false)
    start kube-controller-manager kube-controller-manager --kubeconfig="$RUN/kube-controller-manager.conf" \
        --use-service-account-credentials --service-account-private-key-file="$RUN/pki/service-accounts.key" \
        --root-ca-file="$RUN/pki/ca.crt" "${common[@]}"
    start kube-scheduler kube-scheduler --kubeconfig="$RUN/kube-scheduler.conf" "${common[@]}"
}

start_containerd() {
    cat >"$RUN/containerd.toml" <<EOF
version = 2
root = "$RUN/containerd/root"
state = "$RUN/containerd/state"
[grpc]
  address = "$RUN/containerd.sock"
[ttrpc]
  address = "$RUN/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "$RUN/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  # A container or a VM without CAP_SYS_RESOURCE may not lower a score.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$BIN/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
EOF
    start containerd containerd -c "$RUN/containerd.toml"
    await 30 containerd ctr -a "$RUN/containerd.sock" version
}

import_image() { # import_image FILE
    ctr -a "$RUN/containerd.sock" -n k8s.io images import "$1" >/dev/null
}

start_kubelet() {
    cat >"$RUN/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $RUN/pki/kubelet-server.crt
tlsPrivateKeyFile: $RUN/pki/kubelet-server.key
containerRuntimeEndpoint: unix://$RUN/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
resolvConf: ""
# Images that cannot be pulled must not be deleted.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 50Mi}
healthzPort: 0
volumePluginDir: $RUN/kubelet/plugins
podLogsDir: $RUN/pods
EOF
    start kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.conf" \
        --hostname-override="$NODE" --node-ip="$NODE_IP" --root-dir="$RUN/kubelet" --cert-dir="$RUN/pki"
}

start_kube_proxy() {
    kubectl create clusterrolebinding kube-proxy --clusterrole=system:node-proxier --user=system:kube-proxy >/dev/null
    cat >"$RUN/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NODE
clientConnection: {kubeconfig: $RUN/kube-proxy.conf}
clusterCIDR: 10.244.0.0/24
oomScoreAdj: 0
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
# These limits are the whole machine's.
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
    start kube-proxy kube-proxy --config="$RUN/kube-proxy.yaml"
}

start_world() {
    echo 0 >"$RUN/offset"
    cat >"$RUN/hosts" <<EOF
ntp-a.test ${NTP_IPS[0]}
ntp-b.test ${NTP_IPS[1]}
EOF
    start servers python3 "$HERE/servers.py" "$NODE_IP" "$RUN/offset" "$RUN/hosts" "${NTP_IPS[@]}"
}

is_node_ready() { kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s; }

cluster_up() {
    mkdir -p "$RUN/logs"
    keys
    kubeconfigs
    network
    start_world
    start_control_plane
    start_containerd
    start_kubelet
    start_kube_proxy
    await 60 'the node' is_node_ready
    await 60 'the default service account' kubectl get serviceaccount default
}
