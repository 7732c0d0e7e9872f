// What the dashboard's queries have in common. They need the metrics only, not the recording rules.
{
  // Selectors from the variables.
  fleet: 'cluster=~"$cluster"',
  node: 'cluster=~"$cluster", node="$node"',
  pools: 'cluster=~"$cluster", pool=~"$pool"',

  // One value for a node, whichever pod it came from.
  ofNodes(metric, selector=self.fleet):: 'max by (cluster, node) (drift_agent_%s{%s})' % [metric, selector],
  // Seconds between the two clocks of a cluster that are furthest apart.
  apart: '%s - %s' % self.extremes,
  // And the middle between them.
  middle: '(%s + %s) / 2' % self.extremes,
  extremes:: [
    '%s by (cluster) (drift_agent_offset_seconds{%s})' % [which, self.fleet]
    for which in ['max', 'min']
  ],
  // The nodes whose clocks are the worst.
  worst: 'topk(15, abs(%s))' % self.ofNodes('offset_seconds'),
  states: 'sum by (state) (max by (cluster, node, state) (drift_agent_state{%(fleet)s}))' % self,

  sign: 'Above 0 the node is behind reference time, below 0 it is ahead.',
}
