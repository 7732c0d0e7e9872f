// What the rules and the dashboard can be told. This is the one place for thresholds: monitoring/render writes the two
// marked blocks into the chart's values.yaml, comments and all.
{
  _config+:: {
    // The label `job` of the agents' targets.
    job: 'drift-agent',
    // Where the runbooks can be read; `/ALERT.md` is put behind it.
    runbookBaseUrl: 'docs/runbooks',
    // Whether to watch services that export jwt_age_at_verify_seconds.
    tokens: false,

    // The threshold of a drift is not here: it is what each agent runs with (`config.threshold`, 100 ms).
    // begin thresholds
    thresholds: {
      // -- `ClockDriftExceeded` is critical from this offset on, in seconds: tokens carry whole ones.
      criticalDriftSeconds: 1,
      // -- `ClockPairwiseSkewHigh`: seconds between the two clocks of a cluster that are furthest apart.
      pairwiseSkewSeconds: 1,
      // -- `ClockDriftBudgetBurn`: percentage of node-minutes that shall be within the threshold of a drift, over 30 days.
      sloPercent: 99.9,
      // -- How many times too fast the budget is used up for the fast pair of windows: `14.4` is 2% of it within an hour.
      burnRateFast: 14.4,
      // -- The same for the slow pair: `3` is 10% of it within a day.
      burnRateSlow: 3,
      // -- `ClockPoolUnreachable`: percentage of nodes that must have lost the pool.
      poolUnreachablePercent: 50,
      // -- `ClockFrequencyHigh`: error of the oscillator, in millionths. Linux cannot correct more than 500.
      frequencyPpm: 200,
      // -- `VMResumeUncorrected`: how long after a resume a drift is put down to it.
      resumeWithin: '1h',
      // -- `ClockStepped` and `ClockStepFailed`: how long a step is told of.
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
