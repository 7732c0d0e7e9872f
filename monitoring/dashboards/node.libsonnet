// One node, in full.
local panel = import '../lib/panel.libsonnet';
local query = import '../lib/query.libsonnet';

// The value with its bound added or subtracted.
local edge(sign, value='offset_seconds', bound='offset_bound_seconds') =
  'max by (cluster, node) (drift_agent_%s{%s} %s drift_agent_%s{%s})' % [value, query.node, sign, bound, query.node];
local frequency(sign) = '1e6 * ' + edge(sign, 'frequency_error_ratio', 'frequency_error_bound_ratio');

// Looks of one series.
local looks(name, properties) = {
  matcher: { id: 'byName', options: name },
  properties: [{ id: id, value: properties[id] } for id in std.objectFields(properties)],
};
local blue = { color: { mode: 'fixed', fixedColor: 'blue' } };
local dashedRed = {
  color: { mode: 'fixed', fixedColor: 'red' },
  'custom.lineStyle': { fill: 'dash', dash: [8, 8] },
};

{
  title: 'Node $node',
  panels: [
    panel.lines('Offset with its bound', 'The true offset is inside the band. ' + query.sign, 's', [
      panel.range(query.ofNodes('offset_seconds', query.node), 'offset'),
      panel.range(edge('+'), 'latest'),
      panel.range(edge('-'), 'earliest'),
      panel.range(query.ofNodes('threshold_seconds', query.node), 'threshold'),
      panel.range('-' + query.ofNodes('threshold_seconds', query.node), '-threshold'),
    ]) + {
      fieldConfig+: { overrides: [
        looks('offset', blue { 'custom.lineWidth': 2 }),
        looks('latest', blue { 'custom.lineWidth': 0, 'custom.fillBelowTo': 'earliest', 'custom.fillOpacity': 20 }),
        looks('earliest', blue { 'custom.lineWidth': 0 }),
        looks('threshold', dashedRed),
        looks('-threshold', dashedRed),
      ] },
    } + panel.size(16, 9),
    panel.states('State', 'The state that the agent reports for this clock.', [
      panel.range('max by (state) (drift_agent_state{%s})' % query.node, '{{state}}'),
    ]) + panel.size(8, 9),
    panel.lines('By pool', 'The offset of this clock by each pool. ' + query.sign, 's', [
      panel.range('max by (pool) (drift_agent_pool_offset_seconds{%s, pool=~"$pool"})' % query.node, '{{pool}}'),
    ]) + panel.size(8, 8),
    panel.lines(
      'Time daemon',
      'The offset that the daemon reports, and the measured one. After a pause the daemon may be wrong for minutes.',
      's',
      [
        panel.range('max by (daemon) (drift_agent_daemon_offset_seconds{%s})' % query.node, '{{daemon}} reports'),
        panel.range(query.ofNodes('offset_seconds', query.node), 'measured'),
      ],
    ) + panel.size(8, 8),
    panel.lines(
      'Frequency',
      'Error of the oscillator itself with its bound, and the correction by the kernel. Above 0 the oscillator is too slow.',
      'ppm',
      [
        panel.range('1e6 * ' + query.ofNodes('frequency_error_ratio', query.node), 'oscillator'),
        panel.range(frequency('-'), 'oscillator at least'),
        panel.range(frequency('+'), 'oscillator at most'),
        panel.range('1e6 * ' + query.ofNodes('kernel_frequency_ratio', query.node), 'corrected by the kernel'),
      ],
    ) + panel.size(8, 8),
    panel.lines(
      'Disruptions',
      'Clock disruptions detected, by class.',
      'short',
      [panel.range(
        'sum by (class) (increase(drift_agent_resume_signals_total{%s}[$__rate_interval]))' % query.node,
        '{{class}}'
      )],
    ) + panel.size(8, 7),
    panel.lines('Steps', 'Step triggers, by method and result.', 'short', [
      panel.range(
        'sum by (method, result) (increase(drift_agent_steps_total{%s}[$__rate_interval]))' % query.node,
        '{{method}} {{result}}'
      ),
    ]) + panel.size(8, 7),
    panel.states(
      'Daemon, kernel and signals',
      'The process that disciplines the clock, the kernel synchronisation flag, and the available disruption signals.',
      [
        panel.range('max by (daemon) (drift_agent_time_daemon_info{%s})' % query.node, 'daemon: {{daemon}}'),
        panel.range(query.ofNodes('kernel_synchronized', query.node), 'kernel synchronised'),
        panel.range('max by (signal) (drift_agent_resume_signal_available{%s})' % query.node, 'signal: {{signal}}'),
      ],
    ) + panel.size(8, 7),
  ],
}
