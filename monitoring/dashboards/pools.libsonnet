// The time sources.
local panel = import '../lib/panel.libsonnet';
local query = import '../lib/query.libsonnet';

{
  title: 'Pools',
  panels: [
    panel.lines('Offset by pool', 'The extremes of all nodes. ' + query.sign, 's', [
      panel.range('max by (pool) (drift_agent_pool_offset_seconds{%s})' % query.pools, '{{pool}} furthest behind'),
      panel.range('min by (pool) (drift_agent_pool_offset_seconds{%s})' % query.pools, '{{pool}} furthest ahead'),
    ]) + panel.size(12, 8),
    panel.lines('Disagreement of pools', 'Largest minus smallest offset of a pool, on one node.', 's', [
      panel.range('max(drift_agent_pool_disagreement_seconds{%s})' % query.fleet, 'worst node'),
      panel.range('quantile(0.5, drift_agent_pool_disagreement_seconds{%s})' % query.fleet, 'median'),
    ]) + panel.size(12, 8),
    panel.lines('Round trip', 'Of the best sample of each node.', 's', [
      panel.range('quantile by (pool) (0.5, drift_agent_pool_round_trip_seconds{%s})' % query.pools, '{{pool}} median'),
      panel.range('quantile by (pool) (0.99, drift_agent_pool_round_trip_seconds{%s})' % query.pools, '{{pool}} p99'),
    ]) + panel.size(6, 8),
    panel.lines(
      'Reachability',
      'Share of nodes for which at least one server of the pool is reachable.',
      'percentunit',
      [panel.range(
        'avg by (pool) (max by (cluster, node, pool) (drift_agent_pool_servers{%s, state="reachable"}) > bool 0)' % query.pools,
        '{{pool}}'
      )],
    ) + panel.size(6, 8),
    panel.lines('Falsetickers', 'Nodes for which a majority of the other pools contradicts the pool.', 'none', [
      panel.range('sum by (pool) (max by (cluster, node, pool) (drift_agent_pool_falseticker{%s}))' % query.pools, '{{pool}}'),
    ]) + panel.size(6, 8),
    panel.lines('Exchanges by result', 'Of all nodes: accepted, or rejected with this reason.', 'cps', [
      panel.range(
        'sum by (pool, result) (rate(drift_agent_samples_total{%s}[$__rate_interval])) > 0' % query.pools,
        '{{pool}} {{result}}'
      ),
    ]) + panel.size(6, 8),
  ],
}
