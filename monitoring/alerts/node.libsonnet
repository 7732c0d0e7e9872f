// About one node's clock, and whether it is measured.
local text = import '../lib/text.libsonnet';

{
  local config = self._config,
  local lib = (import '../lib/alert.libsonnet')(config),
  local thresholds = lib.thresholds,

  prometheusAlerts+:: {
    groups+: [{
      name: 'drift-agent.node',
      rules: [
        lib.alert(
          'ClockDriftExceeded',
          'warning',
          "a node's clock is certainly over its threshold (100 ms)",
          |||
            cluster_node:drift_agent_offset_seconds:max
              and on (cluster, node)
            cluster_node:drift_agent_certain_excess_seconds:max > 0
          |||,
          'Clock of ' + text.node + ' is ' + text.offset + '.',
          'Even at the near end of its bound the offset is over the threshold' + text.excess + '.',
        ),
        lib.alert(
          'ClockDriftExceeded',
          'critical',
          'the same, from %(criticalDriftSeconds)s s on' % thresholds,
          |||
            cluster_node:drift_agent_offset_seconds:max
              and on (cluster, node)
            cluster_node:drift_agent_certain_excess_seconds:max > 0
              and on (cluster, node)
            abs(cluster_node:drift_agent_offset_seconds:max) >= %(criticalDriftSeconds)s
          ||| % thresholds,
          'Clock of ' + text.node + ' is ' + text.offset + '.',
          'From %(criticalDriftSeconds)s s on, fresh tokens are rejected between this node and others.' % thresholds,
        ),
        lib.alert(
          'ClockPoolsDisagree',
          'warning',
          "a node's time servers contradict each other, so no offset is reported",
          'max by (cluster, node) (drift_agent_state{state="disagree"}) == 1',
          'NTP servers of ' + text.node + ' contradict each other' + text.disagreement + '.',
          'The agent reports no offset meanwhile, so a drift would not be detected. Near a leap second, pools that smear it and ' +
          'pools that do not are up to half a second apart.',
        ),
        lib.alert(
          'ClockNotMeasured',
          'warning',
          "a node's agent runs, but has no offset or cannot judge it; not when a whole pool is down",
          |||
            (
              (max by (cluster, node) (up{job="%(job)s"}) == 1 unless on (cluster, node) drift_agent_offset_seconds)
                or on (cluster, node)
              max by (cluster, node) (drift_agent_state{state="unknown"}) == 1
            )
              unless on (cluster, node)
            drift_agent_state{state="disagree"} == 1
              unless on (cluster)
            cluster_pool:drift_agent_pool_unreachable:ratio * 100 > %(poolUnreachablePercent)s
          ||| % (config + thresholds),
          'Clock of ' + text.node + ' is not measured.',
          'The agent runs and has no offset, or only one with a bound wider than the threshold: the error of the clock is ' +
          'unknown. Most other nodes reach the pools.',
        ),
        lib.alert(
          'ClockNotDisciplined',
          'warning',
          'a node drifts, and no process disciplines its clock, or none has updated it for two hours; either alone does not fire',
          |||
            cluster_node:drift_agent_offset_seconds:max
              and on (cluster, node)
            (
              max by (cluster, node) (drift_agent_kernel_synchronized) == 0
                or on (cluster, node)
              max by (cluster, node) (drift_agent_daemon_update_age_seconds) >= 7200
            )
              and on (cluster, node)
            max by (cluster, node) (drift_agent_state{state="drifting"}) == 1
          |||,
          'Clock of ' + text.node + ' is ' + text.offset + ', and no time daemon corrects it.',
          'The kernel reports that its clock is not synchronised, or no process has updated it for two hours: chronyd, ' +
          'systemd-timesyncd or ntpd is not running, or reaches no server.',
        ),
        lib.alert(
          'ClockFrequencyHigh',
          'warning',
          "a node's oscillator certainly runs much too fast or too slow (%(frequencyPpm)s ppm)" % thresholds,
          |||
            1e6 * max by (cluster, node) (drift_agent_frequency_error_ratio)
              and on (cluster, node)
            1e6 * max by (cluster, node) (
              abs(drift_agent_frequency_error_ratio) - drift_agent_frequency_error_bound_ratio
            ) > %(frequencyPpm)s
          ||| % thresholds,
          'Oscillator of ' + text.node + ' runs {{ reReplaceAll "^-" "" (printf "%.0f" $value) }} ppm too ' +
          '{{ if lt $value 0.0 }}fast{{ else }}slow{{ end }}.',
          'Linux corrects no more than 500 ppm; 100 ppm are 8.6 s a day for an uncorrected clock.' + text.offsetNow,
        ),
        lib.alert(
          'DriftAgentDown',
          'warning',
          'an agent cannot be scraped',
          'max by (cluster, node) (up{job="%(job)s"}) == 0' % config,
          'The drift-agent of ' + text.node + ' does not answer.',
          'Prometheus knows the agent and cannot scrape it: a drift of this node would not be detected.',
        ),
      ],
    }],
  },
}
