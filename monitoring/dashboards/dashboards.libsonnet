// The dashboard: three sections, and what they share.
local panel = import '../lib/panel.libsonnet';
local query = import '../lib/query.libsonnet';

local variable(name, label, values, more) = {
  type: 'query',
  name: name,
  label: label,
  datasource: panel.datasource,
  query: { query: 'label_values(%s)' % values, refId: name },
  refresh: 2,
  sort: 1,
  hide: 0,
} + more;
local several = { multi: true, includeAll: true, allValue: '.*', current: { text: ['All'], value: ['$__all'] } };

// Marks of the selected node.
local annotation(name, color, metric, selector, by) = {
  name: name,
  datasource: panel.datasource,
  enable: true,
  hide: false,
  iconColor: color,
  expr: 'sum by (node, %s) (increase(drift_agent_%s{%s, %s}[2m])) > 0' % [by, metric, query.node, selector],
  step: '60s',
  titleFormat: '{{node}}: %s {{%s}}' % [name, by],
};

{
  grafanaDashboards+:: {
    'drift-agent.json': {
      uid: 'drift-agent',
      title: 'Clocks',
      description: 'How far the clocks of all nodes are from reference time, as drift-agent measures it.',
      tags: ['drift-agent', 'clock', 'ntp'],
      schemaVersion: 39,
      version: 1,
      editable: true,
      graphTooltip: 1,
      refresh: '1m',
      time: { from: 'now-6h', to: 'now' },
      timezone: 'utc',
      links: [],
      annotations: { list: [
        annotation('stepped', 'purple', 'steps_total', 'result="stepped"', 'method'),
        annotation('resumed', 'orange', 'resume_signals_total', 'class=~"suspend|pause|stall"', 'class'),
      ] },
      templating: { list: [
        { type: 'datasource', name: 'datasource', label: 'Data source', query: 'prometheus', refresh: 1, hide: 0, current: {} },
        variable('cluster', 'Cluster', 'drift_agent_threshold_seconds, cluster', several),
        variable('node', 'Node', 'drift_agent_threshold_seconds{%s}, node' % query.fleet, { multi: false, includeAll: false }),
        variable('pool', 'Pool', 'drift_agent_pool_servers{%s}, pool' % query.fleet, several),
      ] },
      panels: panel.layout([
        import 'fleet.libsonnet',
        import 'pools.libsonnet',
        import 'node.libsonnet',
      ]),
    },
  },
}
