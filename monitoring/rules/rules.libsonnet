// Recording rules, each after those that it uses. `cluster` is kept where there is such a label; labels of
// the pod are not, so that a series continues when the pod is replaced.
local record(name, expr) = { record: name, expr: std.stripChars(expr, '\n') };

local perNode = [
  record('cluster_node:drift_agent_offset_seconds:max', 'max by (cluster, node) (drift_agent_offset_seconds)'),
  // How far the near end of offset ± bound is over the threshold: above 0, the drift is certain.
  record('cluster_node:drift_agent_certain_excess_seconds:max', |||
    max by (cluster, node) (
      abs(drift_agent_offset_seconds) - drift_agent_offset_bound_seconds - drift_agent_threshold_seconds
    )
  |||),
  record('cluster_node:drift_agent_recommended_leeway_seconds:max', |||
    max by (cluster, node) (drift_agent_recommended_leeway_seconds)
  |||),
  record('cluster_node:drift_agent_within_threshold:bool', |||
    min by (cluster, node) (abs(drift_agent_offset_seconds) <= bool drift_agent_threshold_seconds)
  |||),
];

local perCluster = [
  record('cluster:drift_agent_offset_seconds:max', 'max by (cluster) (cluster_node:drift_agent_offset_seconds:max)'),
  record('cluster:drift_agent_offset_seconds:min', 'min by (cluster) (cluster_node:drift_agent_offset_seconds:max)'),
  record('cluster:drift_agent_certain_excess_seconds:max', |||
    max by (cluster) (cluster_node:drift_agent_certain_excess_seconds:max)
  |||),
  record('cluster:drift_agent_pairwise_skew_seconds:max', |||
    cluster:drift_agent_offset_seconds:max - cluster:drift_agent_offset_seconds:min
  |||),
  // Of a node, to the clock that is furthest from its own: half the spread, and how far it is from the middle.
  record('cluster_node:drift_agent_pairwise_skew_seconds:max', |||
    abs(
      cluster_node:drift_agent_offset_seconds:max
        - on (cluster) group_left ()
      (cluster:drift_agent_offset_seconds:max + cluster:drift_agent_offset_seconds:min) / 2
    )
      + on (cluster) group_left ()
    cluster:drift_agent_pairwise_skew_seconds:max / 2
  |||),
  record('cluster:drift_agent_recommended_leeway_seconds:max', |||
    max by (cluster) (cluster_node:drift_agent_recommended_leeway_seconds:max)
  |||),
  // By pool: the share of nodes for which none of its servers is reachable.
  record('cluster_pool:drift_agent_pool_unreachable:ratio', |||
    avg by (cluster, pool) (
      max by (cluster, node, pool) (drift_agent_pool_servers{state="reachable"}) == bool 0
    )
  |||),
];

// Only the minutes in which a node was measured count: ClockNotMeasured covers the others.
local share = [
  record('cluster:drift_agent_within_threshold:sum', 'sum by (cluster) (cluster_node:drift_agent_within_threshold:bool)'),
  record('cluster:drift_agent_within_threshold:count', |||
    count by (cluster) (cluster_node:drift_agent_within_threshold:bool)
  |||),
] + [
  record('cluster:drift_agent_within_threshold:ratio' + window, |||
    sum_over_time(cluster:drift_agent_within_threshold:sum[%(window)s])
      /
    sum_over_time(cluster:drift_agent_within_threshold:count[%(window)s])
  ||| % { window: window })
  for window in ['5m', '1h', '2h', '1d']
] + [
  record('cluster_node:drift_agent_within_threshold:ratio1d', |||
    avg_over_time(cluster_node:drift_agent_within_threshold:bool[1d])
  |||),
];

{
  prometheusRules+:: {
    groups+: [{ name: 'drift-agent.rules', rules: perNode + perCluster + share }],
  },
}
