# shellcheck shell=bash
# What the chart's admission policies allow and deny, tested with a real API server. The service account is given every
# right over Nodes and events first, so that each denial is the policies' own, not RBAC's.
#
# In: KUBECONFIG, API, RUN, NODE as in cluster.sh; the chart is installed in namespace $1 with the service account $2.

as_agent() { # as_agent TOKEN KUBECTL-ARGUMENT...
    local token=$1
    shift
    kubectl --kubeconfig=/dev/null --server="$API" --certificate-authority="$RUN/pki/ca.crt" --token="$token" "$@"
}

allowed() { # allowed WHAT TOKEN KUBECTL-ARGUMENT...
    local what=$1 answer
    shift
    answer=$(as_agent "$@" 2>&1) || fail "denied: $what: $answer"
    CASES=$((CASES + 1))
}

denied() { # denied MESSAGE WHAT TOKEN KUBECTL-ARGUMENT...
    local message=$1 what=$2 answer
    shift 2
    answer=$(as_agent "$@" 2>&1) && fail "allowed: $what: $answer"
    [[ $answer == *"$message"* ]] || fail "denied, but not for \"$message\": $what: $answer"
    CASES=$((CASES + 1))
}

bound_token() { # bound_token NAMESPACE ACCOUNT NODE: a token as a pod of the account on that node has it
    kubectl apply -f - >/dev/null <<EOF
apiVersion: v1
kind: Pod
metadata: {name: token-$3, namespace: $1}
spec:
  nodeName: $3
  serviceAccountName: $2
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: none
      image: localhost/pause:test
      imagePullPolicy: Never
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
EOF
    kubectl --namespace "$1" create token "$2" --bound-object-kind Pod --bound-object-name "token-$3"
}

event() { # event ABOUT-NODE CONTROLLER
    cat <<EOF
{"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "policy-", "namespace": "default"},
 "action": "Measure", "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "ClockDriftExceeded", "type": "Warning",
 "regarding": {"apiVersion": "v1", "kind": "Node", "name": "$1"},
 "reportingController": "$2", "reportingInstance": "$NODE"}
EOF
}

policy_cases() { # policy_cases NAMESPACE ACCOUNT
    local namespace=$1 account=$2 other=other-node own theirs unbound patch condition
    CASES=0
    kubectl create clusterrole policy-test --verb='*' --resource=nodes,nodes/status,events.events.k8s.io >/dev/null
    kubectl create clusterrolebinding policy-test --clusterrole=policy-test \
        --serviceaccount="$namespace:$account" >/dev/null
    kubectl apply -f - >/dev/null <<<"{apiVersion: v1, kind: Node, metadata: {name: $other, labels: {a: b}, annotations: {a: b}}}"
    own=$(bound_token "$namespace" "$account" "$NODE")
    theirs=$(bound_token "$namespace" "$account" "$other")
    unbound=$(kubectl --namespace "$namespace" create token "$account")
    patch=(patch node "$NODE" --subresource=status --type=merge --patch)
    condition='"status": "True", "reason": "Test", "lastTransitionTime": "2026-01-01T00:00:00Z"'

    allowed 'an annotation of its own' "$own" "${patch[@]}" '{"metadata": {"annotations": {"drift-agent.io/test": "1"}}}'
    allowed 'to remove it' "$own" "${patch[@]}" '{"metadata": {"annotations": {"drift-agent.io/test": null}}}'
    allowed 'the annotations about a step' "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/last-step": "1", "drift-agent.io/step-result": "1"}}}'
    allowed 'nothing at all' "$own" "${patch[@]}" '{}'
    allowed 'its own condition' "$own" patch node "$NODE" --subresource=status --type=strategic \
        --patch "{\"status\": {\"conditions\": [{\"type\": \"ClockDrift\", $condition}]}}"
    allowed 'the other agent on the other node' "$theirs" patch node "$other" --subresource=status --type=merge \
        --patch '{"metadata": {"annotations": {"drift-agent.io/test": "1"}}}'
    allowed 'an event about its own node' "$own" create -f - < <(event "$NODE" drift-agent.io/agent)

    denied "drift-agent on $other may not write to Node $NODE" "another node's token" "$theirs" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/test": "1"}}}'
    denied 'the token names no Node' 'an unbound token' "$unbound" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/test": "1"}}}'
    denied 'only change annotations under' 'a foreign annotation' "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"example.com/a": "1"}}}'
    denied 'only change annotations under' 'to remove a foreign annotation' "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": null}}}'
    denied 'only change annotations under' 'a name that only begins alike' "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io.example.com/a": "1"}}}'
    denied 'for operators to write' 'a request to step' "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/step-request": "1"}}}'
    kubectl annotate node "$NODE" drift-agent.io/step-request=1 >/dev/null
    allowed "its own annotations beside an operator's request" "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/step-result": null, "drift-agent.io/last-step": null}}}'
    denied 'for operators to write' "to change an operator's request" "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/step-request": "2"}}}'
    denied 'for operators to write' "to remove an operator's request" "$own" "${patch[@]}" \
        '{"metadata": {"annotations": {"drift-agent.io/step-request": null}}}'
    kubectl annotate node "$NODE" drift-agent.io/step-request- >/dev/null
    denied 'labels, finalizers or owners' 'a label' "$own" "${patch[@]}" '{"metadata": {"labels": {"a": "1"}}}'
    denied 'labels, finalizers or owners' 'a finalizer' "$own" "${patch[@]}" \
        '{"metadata": {"finalizers": ["example.com/stay"]}}'
    denied 'only change the condition ClockDrift' 'the condition Ready' "$own" patch node "$NODE" --subresource=status \
        --type=strategic --patch "{\"status\": {\"conditions\": [{\"type\": \"Ready\", $condition}]}}"
    denied 'only change the condition ClockDrift' 'a condition of its own making' "$own" patch node "$NODE" \
        --subresource=status --type=strategic \
        --patch "{\"status\": {\"conditions\": [{\"type\": \"Other\", $condition}]}}"
    denied "anything else in a Node's status" 'capacity' "$own" "${patch[@]}" '{"status": {"capacity": {"cpu": "99"}}}'
    denied "anything else in a Node's status" 'an address' "$own" "${patch[@]}" \
        '{"status": {"addresses": [{"type": "InternalIP", "address": "10.9.9.9"}]}}'
    denied 'only update the status' 'a taint' "$own" patch node "$NODE" --type=merge \
        --patch '{"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}'
    denied 'only update the status' 'to cordon' "$own" patch node "$NODE" --type=merge \
        --patch '{"spec": {"unschedulable": true}}'
    denied 'only update the status' 'a new Node' "$own" create -f - \
        <<<'{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new"}}'
    # For a deletion, admission has the old object only; the policy fails, so the deletion is denied.
    denied 'ValidatingAdmissionPolicy' 'to delete its Node' "$own" delete node "$NODE" --wait=false
    denied "may only send events about that Node" 'an event about another node' "$own" create -f - \
        < <(event "$other" drift-agent.io/agent)
    denied 'only report events as itself' "another's event" "$own" create -f - < <(event "$NODE" kubelet)
    denied 'the token names no Node' 'an event with an unbound token' "$unbound" create -f - \
        < <(event "$NODE" drift-agent.io/agent)

    kubectl delete clusterrolebinding/policy-test clusterrole/policy-test "node/$other" >/dev/null
    kubectl --namespace "$namespace" delete pod "token-$NODE" "token-$other" --force --grace-period=0 \
        >/dev/null 2>&1
}
