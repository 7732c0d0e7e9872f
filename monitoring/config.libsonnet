// Settings of the rules and the dashboard. This is the one place for thresholds: monitoring/render writes the two
// marked blocks into the chart's values.yaml, with their comments.
{
  _config+:: {
    // The label `job` of the agents' targets.
    job: 'drift-agent',
    // Base URL of the runbooks; `/ALERT.md` is appended.
    runbookBaseUrl: 'docs/runbooks',
    // Whether to monitor services that export jwt_age_at_verify_seconds.
    tokens: false,

    // The threshold of a drift is not here: it is what each agent runs with (`config.threshold`, 100 ms).
    // begin thresholds
    thresholds: {
      // -- `ClockDriftExceeded` is critical from this offset on, in seconds: tokens carry whole ones.
      criticalDriftSeconds: 1,
      // -- `ClockPairwiseSkewHigh`: seconds between the two clocks of a cluster that are furthest apart.
      pairwiseSkewSeconds: 1,
      // -- `ClockDriftBudgetBurn`: objective: percentage of node-minutes within the threshold of a drift, over 30 days.
      sloPercent: 99.9,
      // -- Burn rate of the error budget for the fast pair of windows: `14.4` is 2% of it within an hour.
      burnRateFast: 14.4,
      // -- The same for the slow pair: `3` is 10% of it within a day.
      burnRateSlow: 3,
      // -- `ClockPoolUnreachable`: percentage of nodes that must have lost the pool.
      poolUnreachablePercent: 50,
      // -- `ClockFrequencyHigh`: error of the oscillator that is certain, in ppm. Linux cannot correct more than 500.
      frequencyPpm: 200,
      // -- `VMResumeUncorrected`: how long after a resume a drift is attributed to it.
      resumeWithin: '1h',
      // -- `ClockStepped` and `ClockStepFailed`: how long they fire after a step.
      steppedWithin: '15m',
      // -- `TokensFromTheFuture` and `TokenAgeShifted`: seconds that tokens' ages may be off.
      tokenAgeSeconds: 2,
    },
    // end thresholds

    // begin for
    pending: {
      ClockDriftExceeded: '2m',
      ClockDriftBudgetBurn: '2m',
      ClockPairwiseSkewHigh: '5m',
      ClockPoolsDisagree: '15m',
      ClockNotMeasured: '15m',
      ClockPoolUnreachable: '10m',
      ClockPoolWrong: '15m',
      ClockPoolsNotIndependent: '30m',
      ClockNotDisciplined: '10m',
      ClockFrequencyHigh: '1h',
      TimeDaemonDeceived: '1m',
      ClockStepped: '0s',
      ClockStepFailed: '0s',
      VMResumeUncorrected: '2m',
      DriftAgentDown: '10m',
      TokensFromTheFuture: '5m',
      TokenAgeShifted: '10m',
    },
    // end for
  },
}
