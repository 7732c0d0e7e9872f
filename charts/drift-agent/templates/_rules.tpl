{{- /* Of (list ROOT NAMES): the groups of rules with these names, from files/rules.json, as they are in force. */ -}}
{{- define "drift-agent.ruleGroups" -}}
{{- $root := first . }}
{{- $names := last . }}
{{- $values := $root.Values.prometheusRule }}
{{- $text := $root.Files.Get "files/rules.json" }}
{{- range $key, $value := $values.thresholds }}
{{- $text = replace (printf "@thresholds.%s@" $key) (toString $value) $text }}
{{- end }}
{{- range $alert, $pending := $values.for }}
{{- $text = replace (printf "@for.%s@" $alert) $pending $text }}
{{- end }}
{{- $text = replace "@runbookBaseUrl@" $values.runbookBaseUrl $text }}
{{- $text = replace "@job@" (default (include "drift-agent.name" $root) $values.job) $text }}
{{- with regexFind "@[a-zA-Z.]+@" $text }}
{{- fail (printf "prometheusRule.%s: has no value" (trimAll "@" .)) }}
{{- end }}
{{- $groups := list }}
{{- range (fromJson $text).groups }}
{{- if has .name $names }}
{{- $rules := list }}
{{- range .rules }}
{{- if not .alert }}
{{- $rules = append $rules . }}
{{- else if not (has .alert $values.defaultRules.disabled) }}
{{- /* The rule's own labels override alertLabels: routes depend on them. */ -}}
{{- $rules = append $rules (merge (dict "labels" (merge (dict) .labels $values.alertLabels)) .) }}
{{- end }}
{{- end }}
{{- if $rules }}
{{- $groups = append $groups (dict "name" .name "rules" $rules) }}
{{- end }}
{{- end }}
{{- end }}
{{- dict "groups" $groups | toYaml }}
{{- end }}
