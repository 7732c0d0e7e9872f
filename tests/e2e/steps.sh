# shellcheck shell=bash disable=SC2034
# What an operator does with the chart, step by step; sourced by tests/e2e/run, which has the functions used here.

OWN=$HERE/values.yaml
CHART_ARGUMENTS=(drift-agent "$CHART" --namespace time --values "$OWN" --wait --timeout 300s)

step 'the API server takes every object of every profile'
kubectl create namespace time >/dev/null
for values in "$CHART"/ci/*-values.yaml; do
    # Without the monitors, whose kinds belong to another project.
    helm template drift-agent "$CHART" --namespace time --values "$values" --api-versions \
        admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy \
        --set podMonitor.enabled=false,serviceMonitor.enabled=false |
        kubectl apply --server-side --dry-run=server --filename - >/dev/null
done
kubectl create namespace drift-agent >/dev/null
kubectl apply --server-side --dry-run=server --kustomize "$ROOT/manifests" >/dev/null
kubectl delete namespace drift-agent --wait=false >/dev/null

step 'helm install into a namespace that enforces Pod Security "restricted"'
kubectl label namespace time pod-security.kubernetes.io/enforce=restricted >/dev/null
helm install "${CHART_ARGUMENTS[@]}" >"$RUN/notes"
await 10 'the annotation' is_annotated clock-state in-sync
privileges() { # how the agent runs: user, capabilities that it has and that it could get, and whether by new ones
    awk '/^(Uid|CapPrm|CapEff|CapBnd|NoNewPrivs):/ { printf "%s %s ", $1, $2 }' "/proc/$(agent_pid)/status"
}
NOTHING=0000000000000000 SYS_TIME=0000000002000000 DAC_OVERRIDE=0000000000000002
runs_as() { # runs_as USER CAPABILITIES BOUND
    FIGURE=$(privileges)
    [[ $FIGURE == "Uid: $1 CapPrm: $2 CapEff: $2 CapBnd: $3 NoNewPrivs: 1 " ]] || fail "the agent runs as $FIGURE"
}
runs_as 65532 "$NOTHING" "$NOTHING"

step 'kubectl get nodes shows state and offset'
columns="$(grep -o "custom-columns='[^']*'" "$RUN/notes" | tr -d "'")"
kubectl get nodes --output "$columns" | tee "$RUN/nodes"
grep -Eq "^$NODE +in-sync +-?0\.0[0-9]+ +<none>$" "$RUN/nodes"
is_condition status False
is_condition reason WithinThreshold

step 'metrics through the Service'
near "$(metric drift_agent_offset_seconds)" 0
[[ $(metric 'drift_agent_pools_agreeing') == 2 ]]

step 'helm test: a pod asks the agent of its node through the Service by name'
echo "drift-agent.time.svc.cluster.local $(kubectl --namespace time get service drift-agent --output 'jsonpath={.spec.clusterIP}')" >>"$RUN/hosts"
helm test drift-agent --namespace time --timeout 300s --logs >"$RUN/test"
grep -q '^drift_agent_state{state="in-sync"} 1$' "$RUN/test"

step 'drift past the threshold: annotation, condition and event'
set_offset 0.25
await 6 'the annotation' is_annotated clock-state drifting
await 2 'the condition' is_condition status True
await 2 'the event' has_event ClockDriftExceeded
FIGURE="$(milliseconds "$STARTED") ms to all three"
is_condition reason OffsetExceedsThreshold
near "$(annotation offset-seconds)" 0.25
[[ -n $(annotation exceeded-since) ]]
kubectl describe node "$NODE" >"$RUN/describe"
grep -E 'drift-agent|ClockDrift' "$RUN/describe"

step 'the agent killed: it restarts, and keeps since when the clock drifts'
since=$(annotation exceeded-since)
transition=$(condition lastTransitionTime)
kill -KILL "$(agent_pid)"
restarted() { [[ $(agent_pod '{.items[*].status.containerStatuses[0].restartCount}') == 1 ]] && is_offset 0.25; }
await 30 'the agent' restarted

[[ $(annotation clock-state) == drifting && $(annotation exceeded-since) == "$since" ]]
[[ $(condition status) == True && $(condition lastTransitionTime) == "$transition" ]]

step 'back within the threshold: annotation, condition and event'
set_offset 0
await 6 'the annotation' is_annotated clock-state in-sync
await 2 'the condition' is_condition status False
await 2 'the event' has_event ClockDriftCleared
[[ -z $(annotation exceeded-since) ]]

step 'the policies allow what the agent does, and nothing else'
policy_cases time drift-agent
FIGURE="$CASES cases"

step 'a drained node keeps its agent'
kubectl drain "$NODE" --ignore-daemonsets --timeout 300s >/dev/null 2>&1
[[ $(agent_pod '{.items[*].status.phase}') == Running ]]
kubectl uncordon "$NODE" >/dev/null

step 'an upgrade to invalid values is rejected, by their names, and changes nothing'
rejected() { # rejected NAME ARGUMENT...
    local name=$1 answer
    shift
    answer=$(helm upgrade "${CHART_ARGUMENTS[@]}" "$@" 2>&1) && fail "accepted: $*"
    [[ $answer == *"$name"* ]] || fail "rejected, but without \"$name\": $answer"
}
rejected config/threshold --set config.threshold=11s
rejected config.pools --set 'config.pools={ntp-a.test}'
rejected config.staleAfter --set config.interval=5s
rejected thresold --set config.thresold=50ms
[[ $(helm history drift-agent --namespace time --output json | jq length) == 1 ]]

step 'helm upgrade to other pools'
service=$(kubectl --namespace time get service drift-agent --output 'jsonpath={.spec.clusterIP}')
gap() { # gap STOP RESULT: the longest time between two good answers of the Service, until the file STOP is there
    local last=${EPOCHREALTIME/./} longest=0 now answer ended=
    until [[ $ended ]]; do
        if [[ -e $1 ]]; then ended=yes; fi
        answer=$(curl --silent --max-time 1 "http://$service:10123/metrics") || true
        now=${EPOCHREALTIME/./}
        ((now - last <= longest)) || longest=$((now - last))
        if [[ $answer == *$'\n'drift_agent_offset_seconds\ * ]]; then last=$now; fi
        sleep 0.05
    done
    echo $((longest / 1000)) >"$2"
}
gap "$RUN/upgraded" "$RUN/gap" &
watcher=$!
helm upgrade "${CHART_ARGUMENTS[@]}" --set "config.pools={${NTP_IPS[0]},${NTP_IPS[1]}}" >/dev/null
other_pools() { [[ $(annotation pools) =~ ^${NTP_IPS[0]}=[-+]0\.[0-9]+\ ${NTP_IPS[1]}=[-+]0\.[0-9]+$ ]]; }
await 15 'the annotation' other_pools
touch "$RUN/upgraded"
wait "$watcher"
FIGURE="at most $(<"$RUN/gap") ms between two answers"
(($(<"$RUN/gap") < 15000)) || fail "a gap of $(<"$RUN/gap") ms: a scrape every 15 s would see it"

step 'helm rollback'
helm rollback drift-agent 1 --namespace time --wait --timeout 300s >/dev/null
first_pools() { [[ $(annotation pools) =~ ^ntp-a\.test=[-+]0\.[0-9]+\ ntp-b\.test=[-+]0\.[0-9]+$ ]]; }
await 15 'the annotation' first_pools

step 'helm upgrade to the pools of a region, by the label of the pod'
helm upgrade "${CHART_ARGUMENTS[@]}" --set "config.regions.here.pools={${NTP_IPS[0]},${NTP_IPS[1]}}" \
    --set 'podLabels.topology\.kubernetes\.io/region=here' >/dev/null
await 15 'the annotation' other_pools

step 'the memory that the kubelet reports'
rss() {
    kubectl get --raw "/api/v1/nodes/$NODE/proxy/stats/summary" | jq --exit-status --raw-output \
        '.pods[] | select(.podRef.namespace == "time" and (.podRef.name | startswith("drift-agent-"))) | .containers[0].memory | "\(.rssBytes) bytes resident, \(.workingSetBytes) in use"'
}
await 30 'the statistics' rss
FIGURE="$(rss); in /proc, $(awk '/^VmRSS:/ { print $2, $3 }' "/proc/$(agent_pid)/status")"

# Late, because the control plane's own watches take some time to reconnect.
step 'the API server stopped for a minute: measuring continues, and then the Node is updated again'
ip=$(agent_pod '{.items[*].status.podIP}')
stop kube-apiserver
set_offset 0.25
direct() { curl --silent --fail --max-time 2 "http://$ip:10123$1"; }
is_drifting() { [[ $(direct /metrics) == *'drift_agent_state{state="drifting"} 1'* ]]; }
await 6 'the metrics' is_drifting
sleep 60
direct /readyz >/dev/null
start_api_server
back=${EPOCHREALTIME/./}
# It backs off: after a minute of errors, the next try may be two minutes away.
await 150 'the annotation' is_annotated clock-state drifting
FIGURE="$(milliseconds "$back") ms after the server was ready"
[[ $(agent_pod '{.items[*].status.containerStatuses[0].restartCount}') == 0 ]]
set_offset 0
await 30 'the annotation' is_annotated clock-state in-sync

step 'helm uninstall leaves only what is on the Node, and the command in the notes removes that'
helm uninstall drift-agent --namespace time --wait --timeout 300s >/dev/null
left() {
    kubectl get all,configmaps,serviceaccounts,networkpolicies,roles,rolebindings --all-namespaces --output name
    kubectl get clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings --output name
}
nothing_left() {
    local all
    all=$(left) && [[ $all != */drift-agent* ]]
}
await 60 'everything to go' nothing_left
[[ $(annotation clock-state) == in-sync && -n $(condition status) ]]
bash -euo pipefail -c "$(grep 'kubectl apply' "$RUN/notes")" >/dev/null
[[ $(kubectl get node "$NODE" --output yaml) != *drift-agent.io* && -z $(condition status) ]]

# Everything except the step (`dryRun`): the clock here is this machine's.
STEPS=(steps "$CHART" --namespace steps --values "$OWN" --set config.step.dryRun=true --wait --timeout 300s)

step 'the step profile by the kernel: user 65532 with CAP_SYS_TIME, and nothing else'
kubectl create namespace steps >/dev/null
kubectl label namespace steps pod-security.kubernetes.io/enforce=privileged >/dev/null
helm install "${STEPS[@]}" --set config.step.mode=kernel,image.tag=step >"$RUN/notes"
runs_as 65532 "$SYS_TIME" "$SYS_TIME"
grep -q 'they can set the node.s clock' "$RUN/notes"

step 'the same with the image that has no capability: the agent measures without any'
helm upgrade "${STEPS[@]}" --set config.step.mode=kernel,image.tag=test >/dev/null
runs_as 65532 "$NOTHING" "$SYS_TIME"

step 'the step profile by chrony: user 0 with CAP_DAC_OVERRIDE, and nothing else'
# As Debian's service has it, except for the clock (-x) and the network, which it does not touch.
install --directory --mode 0700 --owner nobody --group nogroup /run/chrony
printf '%s\n' 'local stratum 1' 'port 0' 'cmdport 0' 'bindcmdaddress /run/chrony/chronyd.sock' \
    'pidfile /run/chrony/chronyd.pid' >"$RUN/chrony.conf"
start chronyd setpriv --reuid nobody --regid nogroup --clear-groups chronyd -U -x -d -u nobody -f "$RUN/chrony.conf"
await 10 'its socket' test -S /run/chrony/chronyd.sock
helm upgrade "${STEPS[@]}" --set config.step.mode=chrony >/dev/null
runs_as 0 "$DAC_OVERRIDE" "$DAC_OVERRIDE"
sees_chrony() { # by its answers, which need the whole path to it
    local metrics
    metrics=$(kubectl get --raw /api/v1/namespaces/steps/services/http:steps-drift-agent:http/proxy/metrics)
    [[ $metrics == *'drift_agent_time_daemon_info{daemon="chrony"} 1'* ]]
}
await 60 "chrony's answer" sees_chrony

step 'the step profile by either, as the user of chronyd: CAP_SYS_TIME, and nothing else'
helm upgrade "${STEPS[@]}" --set config.step.mode=auto,config.step.onRequest=true,image.tag=step \
    --set chronyUser="$(id -u nobody)" >/dev/null
runs_as "$(id -u nobody)" "$SYS_TIME" "$SYS_TIME"
await 60 "chrony's answer" sees_chrony

step 'an operator requests a step: the agent reads the request and answers'
kubectl annotate node "$NODE" drift-agent.io/step-request=e2e >/dev/null
answered() { [[ $(annotation step-result) == 'e2e: '* ]]; }
await 15 'the answer' answered
FIGURE=$(annotation step-result)
helm uninstall steps --namespace steps --wait --timeout 300s >/dev/null
