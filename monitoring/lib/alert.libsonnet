// What every alert has. `about` is hidden from Prometheus: it is the alert's line in the README's table.
function(config) {
  // As text, without the digits that a float adds. (%g of some jsonnets cannot do 0.)
  thresholds: std.mapWithKey(
    function(_, value) if std.isNumber(value) && value != 0 then '%g' % value else '%s' % value,
    config.thresholds
  ),

  alert(name, severity, about, expr, summary, description):: {
    alert: name,
    expr: std.stripChars(expr, '\n'),
    'for': config.pending[name],
    labels: { severity: severity, component: 'drift-agent' },
    annotations: {
      summary: summary,
      description: description,
      runbook_url: '%s/%s.md' % [config.runbookBaseUrl, name],
    },
    about:: about,
  },
}
