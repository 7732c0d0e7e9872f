// About a whole cluster: one alert, however many nodes.
local text = import '../lib/text.libsonnet';

{
  local config = self._config,
  local lib = (import '../lib/alert.libsonnet')(config),
  local thresholds = lib.thresholds,

  // Two windows: the long one shows that it matters, the short one that it continues. A quarter of the long one must have
  // been recorded, or the first minutes after an installation would count for a day.
  local burn(severity, rate, long, short, quarter, longInWords) = lib.alert(
    'ClockDriftBudgetBurn',
    severity,
    'within %s, too many node-minutes were outside the threshold (of %s%%, %s times what is allowed)' %
    [longInWords, thresholds.sloPercent, rate],
    |||
      1 - cluster:drift_agent_within_threshold:ratio%(long)s > %(rate)s * (100 - %(slo)s) / 100
        and on (cluster)
      1 - cluster:drift_agent_within_threshold:ratio%(short)s > %(rate)s * (100 - %(slo)s) / 100
        and on (cluster)
      present_over_time(cluster:drift_agent_within_threshold:count[%(long)s] offset %(quarter)s)
    ||| % { rate: rate, long: long, short: short, quarter: quarter, slo: thresholds.sloPercent },
    'Clocks' + text.inCluster + ' drift too much: within ' + longInWords +
    ', {{ humanizePercentage $value }} of node-minutes were outside the threshold.',
    'The objective is %s%% of node-minutes over 30 days; the error budget is used up more than %s times too fast.' %
    [thresholds.sloPercent, rate],
  ),

  prometheusAlerts+:: {
    groups+: [{
      name: 'drift-agent.fleet',
      rules: [
        burn('critical', thresholds.burnRateFast, '1h', '5m', '15m', 'an hour'),
        burn('warning', thresholds.burnRateSlow, '1d', '2h', '6h', 'a day'),
        lib.alert(
          'ClockPairwiseSkewHigh',
          'warning',
          'two clocks of a cluster are more than %(pairwiseSkewSeconds)s s apart: the skew between issuer and verifier of a token' %
          thresholds,
          'cluster:drift_agent_pairwise_skew_seconds:max > %(pairwiseSkewSeconds)s' % thresholds,
          'Two clocks' + text.inCluster + ' are {{ humanizeDuration $value }} apart.',
          'Furthest ahead is node ' + text.extreme('bottomk') + ', furthest behind is node ' + text.extreme('topk') +
          '. A token that the first issues is not yet valid on the second; one that the second issues expires too early on ' +
          'the first.',
        ),
        lib.alert(
          'ClockPoolUnreachable',
          'warning',
          'more than %(poolUnreachablePercent)s%% of the nodes get no answer from a pool: one alert, not one per node' % thresholds,
          'cluster_pool:drift_agent_pool_unreachable:ratio * 100 > %(poolUnreachablePercent)s' % thresholds,
          'NTP pool {{ $labels.pool }} does not answer {{ printf "%.0f" $value }}% of the nodes' + text.inCluster + '.',
          'Another pool may still give an offset, but nothing confirms it, and no clock is stepped. Without any pool, no clock ' +
          'is measured.',
        ),
        lib.alert(
          'ClockPoolWrong',
          'warning',
          'a majority of the other pools contradicts a pool (it takes three pools): one alert for each pool, not one per node',
          |||
            count by (cluster, pool) (max by (cluster, node, pool) (drift_agent_pool_falseticker) == 1)
          |||,
          'NTP pool {{ $labels.pool }} is wrong on ' + text.nodes + text.inCluster + text.poolError + '.',
          'The other pools agree with each other and not with this one, so they alone decide there. If only one node reports ' +
          'it, something on the path of that node answers in place of the pool.',
        ),
        lib.alert(
          'ClockPoolsNotIndependent',
          'warning',
          'two pools of a node look like one server, so neither confirms the other: one alert, not one per node',
          |||
            count by (cluster) (max by (cluster, node) (drift_agent_pools_independent) == 0)
          |||,
          'Two NTP pools look like one server on ' + text.nodes + text.inCluster + '.',
          'Two names lead to one server, or a router answers all NTP itself. If that server is wrong, no other pool shows it. ' +
          'No clock is stepped there.',
        ),
        lib.alert(
          'DriftAgentDown',
          'critical',
          'Prometheus has no target of the agents',
          'absent(up{job="%(job)s"})' % config,
          'Prometheus has no target of drift-agent.',
          'There is no target of the job %(job)s: no clock is monitored.' % config,
        ),
      ],
    }],
  },
}
