// For services that export jwt_age_at_verify_seconds: a histogram of now - iat, observed where a token is verified.
local text = import '../lib/text.libsonnet';

{
  local config = self._config,
  local lib = (import '../lib/alert.libsonnet')(config),
  local thresholds = lib.thresholds,

  // Of one verifier: the clock in question is that of its node.
  local record(name, quantile, window) = {
    record: 'cluster_job_instance:jwt_age_at_verify_seconds:' + name,
    expr: std.stripChars(|||
      histogram_quantile(
        %s, sum by (cluster, job, instance, le) (rate(jwt_age_at_verify_seconds_bucket[%s]))
      )
    ||| % [quantile, window], '\n'),
  },
  local verifier = '{{ $labels.instance }} of {{ $labels.job }}' + text.inCluster,

  prometheusAlerts+:: {
    groups+: if !config.tokens then [] else [{
      name: 'drift-agent.tokens',
      rules: [
        record('p99_5m', '0.99', '5m'),
        record('p5_15m', '0.05', '15m'),
        lib.alert(
          'TokensFromTheFuture',
          'critical',
          'nearly all tokens that a service verifies come from its future (p99 of their age under -%(tokenAgeSeconds)s s)' %
          thresholds,
          'cluster_job_instance:jwt_age_at_verify_seconds:p99_5m < -%(tokenAgeSeconds)s' % thresholds,
          'Tokens that ' + verifier + ' verifies were issued ' + text.seconds + ' in its future.',
          'This is p99 of their age. The clock of the verifier is behind, or that of the issuer is ahead.',
        ),
        lib.alert(
          'TokenAgeShifted',
          'warning',
          'the age of the freshest tokens that a service verifies moved within an hour (p5, by %(tokenAgeSeconds)s s)' % thresholds,
          |||
            cluster_job_instance:jwt_age_at_verify_seconds:p5_15m
              - cluster_job_instance:jwt_age_at_verify_seconds:p5_15m offset 1h
              and
            abs(
              cluster_job_instance:jwt_age_at_verify_seconds:p5_15m
                - cluster_job_instance:jwt_age_at_verify_seconds:p5_15m offset 1h
            ) > %(tokenAgeSeconds)s
          ||| % thresholds,
          'Fresh tokens look ' + text.seconds + ' {{ if lt $value 0.0 }}younger{{ else }}older{{ end }} to ' + verifier +
          ' than an hour ago.',
          'This is p5 of their age: the clock of the verifier or of the issuer has moved.',
        ),
      ],
    }],
  },
}
