// Overview of all nodes.
local panel = import '../lib/panel.libsonnet';
local query = import '../lib/query.libsonnet';

local ofTheWorst(expr) = panel.table('%s\n  and on (cluster, node) %s' % [expr, query.worst]);

{
  title: 'Fleet',
  panels: [
    panel.stat('Nodes by state', 'How many nodes are in which state.', 'short', [
      panel.instant(query.states, '{{state}}'),
    ]) + panel.size(8, 4),
    panel.stat(
      'Furthest apart',
      'The two clocks of a cluster that are furthest apart: the skew between issuer and verifier of a token.',
      's',
      [panel.instant('max(%s)' % query.apart)],
    ) + panel.size(5, 4),
    panel.stat('Recommended leeway', 'The largest leeway that an agent recommends to token verifiers.', 's', [
      panel.instant('max(drift_agent_recommended_leeway_seconds{%s})' % query.fleet),
    ]) + panel.size(5, 4),
    panel.stat(
      'Node-minutes within the threshold',
      'Share of the time shown, over all nodes, of what was measured.',
      'percentunit',
      [panel.instant(|||
        avg(avg_over_time((
          abs(drift_agent_offset_seconds{%(fleet)s}) <= bool drift_agent_threshold_seconds{%(fleet)s}
        )[$__range:]))
      ||| % query)],
    ) + panel.size(6, 4),
    panel.heatmap('Offsets of all nodes', query.sign, 's', [
      panel.range(query.ofNodes('offset_seconds'), '{{node}}'),
    ]) + panel.size(14, 9),
    panel.rows('Worst nodes', query.sign, [['Offset', 's'], ['Bound', 's'], ['To the furthest', 's'], ['Leeway', 's']], [
      ofTheWorst(query.ofNodes('offset_seconds')),
      ofTheWorst(query.ofNodes('offset_bound_seconds')),
      // Half the spread, and how far it is from the middle.
      ofTheWorst('abs(%s - on (cluster) group_left () %s)\n  + on (cluster) group_left () (%s) / 2' % [
        query.ofNodes('offset_seconds'),
        query.middle,
        query.apart,
      ]),
      ofTheWorst(query.ofNodes('recommended_leeway_seconds')),
    ]) + panel.size(10, 9),
    panel.lines('Furthest apart, and leeway', 'Verifiers with less leeway than the skew reject valid tokens.', 's', [
      panel.range(query.apart, 'furthest apart {{cluster}}'),
      panel.range(
        'max by (cluster) (drift_agent_recommended_leeway_seconds{%s})' % query.fleet,
        'leeway {{cluster}}'
      ),
    ]) + panel.size(12, 7),
    panel.lines('Nodes by state, over time', 'How many nodes are in which state.', 'short', [
      panel.range(query.states, '{{state}}'),
    ]) + panel.size(12, 7),
  ],
}
