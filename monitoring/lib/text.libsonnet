// Pieces of the alerts' text, in Prometheus' template language.
local howMuch(offset) = '{{ reReplaceAll "^-" "" (humanizeDuration %s) }} ' % offset +
                        '{{ if lt %s 0.0 }}ahead{{ else }}behind{{ end }}' % offset;
// The alert's labels as a selector, and what a query with it finds first.
local ofNode = '{cluster=%q,node=%q}" $labels.cluster $labels.node) }}';
local found = '(. | first | value)';

{
  // The cluster where there is such a label, on the series or of this Prometheus.
  inCluster: '{{ with or $labels.cluster $externalLabels.cluster }} of cluster {{ . }}{{ end }}',
  node: 'node {{ $labels.node }}' + self.inCluster,

  // The alert's value, an offset: how much, and which way. Never a bare sign.
  offset: howMuch('$value'),

  // The offset now, where the alert's value is something else.
  offsetNow: '{{ with query (printf "cluster_node:drift_agent_offset_seconds:max' + ofNode + '{{ $now := . | first | value }}' +
             ' It is now ' + howMuch('$now') + '.{{ end }}',

  // By how much it is certain that the clock is over the threshold.
  excess: '{{ with query (printf "cluster_node:drift_agent_certain_excess_seconds:max' + ofNode +
          ' by {{ humanizeDuration ' + found + ' }}{{ end }}',

  // How far apart the pools are, when two of them have an offset.
  disagreement: '{{ with query (printf "drift_agent_pool_disagreement_seconds' + ofNode +
                ' by {{ humanizeDuration ' + found + ' }}{{ end }}',

  // The node of the alert's cluster whose clock is furthest ahead (bottomk) or behind (topk).
  extreme(which):: '{{ with query (printf "%s(1, cluster_node:drift_agent_offset_seconds:max{cluster=%%q})" ' % which +
                   '$labels.cluster) }}{{ (. | first).Labels.node }}{{ end }}',

  // The alert's value, a number of nodes.
  nodes: '{{ $value }} node{{ if gt $value 1.0 }}s{{ end }}',

  // By how much the pool of the alert contradicts the others, at most.
  poolError: '{{ with query (printf "max(abs(drift_agent_pool_offset_seconds{cluster=%q,pool=%q} ' +
             '- on (cluster, node) group_left () cluster_node:drift_agent_offset_seconds:max) ' +
             'and on (cluster, node, pool) drift_agent_pool_falseticker == 1)" $labels.cluster $labels.pool) }}' +
             ', by up to {{ humanizeDuration ' + found + ' }}{{ end }}',

  // The alert's value without its sign.
  seconds: '{{ reReplaceAll "^-" "" (humanizeDuration $value) }}',
}
