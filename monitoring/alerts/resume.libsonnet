// About the clock after a pause, a restore or a migration of the machine, and about steps.
local text = import '../lib/text.libsonnet';

{
  local config = self._config,
  local lib = (import '../lib/alert.libsonnet')(config),
  local thresholds = lib.thresholds,

  local steps(result) = |||
    sum by (cluster, node, method) (increase(drift_agent_steps_total{result="%s"}[%s])) > 0
  ||| % [result, thresholds.steppedWithin],

  prometheusAlerts+:: {
    groups+: [{
      name: 'drift-agent.resume',
      rules: [
        lib.alert(
          'VMResumeUncorrected',
          'critical',
          'a node was paused, restored or migrated, and its clock is still off',
          |||
            cluster_node:drift_agent_offset_seconds:max
              and on (cluster, node)
            cluster_node:drift_agent_certain_excess_seconds:max > 0
              and on (cluster, node)
            sum by (cluster, node) (
              increase(drift_agent_resume_signals_total{class=~"suspend|pause|stall"}[%(resumeWithin)s])
            ) > 0
          ||| % thresholds,
          'Clock of ' + text.node + ' is ' + text.offset + ' after the machine was resumed.',
          'Within the last %(resumeWithin)s the machine did not run for a while, ' % thresholds +
          'and neither its time daemon nor the agent has corrected its clock since.',
        ),
        lib.alert(
          'TimeDaemonDeceived',
          'warning',
          "a node's time daemon reports an offset within the threshold, and the clock is certainly outside: " +
          'chrony, for ten minutes after a resume',
          |||
            0 * (
              max by (cluster, node, daemon) (abs(drift_agent_daemon_offset_seconds))
                <= on (cluster, node) group_left ()
              max by (cluster, node) (drift_agent_threshold_seconds)
            )
              + on (cluster, node) group_left ()
            cluster_node:drift_agent_offset_seconds:max
              and on (cluster, node)
            cluster_node:drift_agent_certain_excess_seconds:max > 0
          |||,
          'Clock of ' + text.node + ' is ' + text.offset + ', and {{ $labels.daemon }} does not report it.',
          'The time daemon reports an offset within the threshold: it will not correct the clock soon, and monitoring of ' +
          'the daemon alone shows no problem.',
        ),
        lib.alert(
          'ClockStepped',
          'info',
          "a node's clock was stepped",
          steps('stepped'),
          'Clock of ' + text.node + ' was stepped ({{ $labels.method }}).',
          'Its time jumped: logs and leases of this node may be inconsistent around that instant.' + text.offsetNow,
        ),
        lib.alert(
          'ClockStepFailed',
          'warning',
          "a step of a node's clock failed",
          steps('failed'),
          'Clock of ' + text.node + ' could not be stepped ({{ $labels.method }}).',
          'A step was due and failed; its log and an event have the reason.' + text.offsetNow,
        ),
      ],
    }],
  },
}
