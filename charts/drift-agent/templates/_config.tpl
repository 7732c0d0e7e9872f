{{- /* Milliseconds of a duration that the schema accepts: a whole number and one unit. */ -}}
{{- define "drift-agent.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) $unit) }}
{{- end }}

{{- /* What a schema cannot check: values that are valid alone, but not together. */ -}}
{{- define "drift-agent.check" -}}
{{- $interval := include "drift-agent.milliseconds" .Values.config.interval | int64 }}
{{- if lt (include "drift-agent.milliseconds" .Values.config.staleAfter | int64) (mul 3 $interval) }}
{{- fail (printf "config.staleAfter: invalid value %q: expected at least three times config.interval (%s), or one lost packet makes the clock unknown" .Values.config.staleAfter .Values.config.interval) }}
{{- end }}
{{- if lt (include "drift-agent.milliseconds" .Values.config.step.maxOffset | int64) (include "drift-agent.milliseconds" .Values.config.step.minOffset | int64) }}
{{- fail (printf "config.step.maxOffset: invalid value %q: expected at least config.step.minOffset (%s), or no clock is ever stepped" .Values.config.step.maxOffset .Values.config.step.minOffset) }}
{{- end }}
{{- if and (eq .Values.config.step.mode "chrony") (eq .Values.chronyFolder "none") }}
{{- fail "chronyFolder: invalid value \"none\": expected wait or create with config.step.mode chrony, which needs chrony's socket" }}
{{- end }}
{{- range .Values.config.step.windows }}
{{- if and .minOffset (lt (include "drift-agent.milliseconds" $.Values.config.step.maxOffset | int64) (include "drift-agent.milliseconds" .minOffset | int64)) }}
{{- fail (printf "config.step.windows: invalid value %q of minOffset: expected at most config.step.maxOffset (%s)" .minOffset $.Values.config.step.maxOffset) }}
{{- end }}
{{- end }}
{{- if lt (include "drift-agent.milliseconds" .Values.config.leeway.maximum | int64) (include "drift-agent.milliseconds" .Values.config.leeway.minimum | int64) }}
{{- fail (printf "config.leeway.maximum: invalid value %q: expected at least config.leeway.minimum (%s)" .Values.config.leeway.maximum .Values.config.leeway.minimum) }}
{{- end }}
{{- $seen := dict }}
{{- range .Values.config.lastResort }}
{{- $target := include "drift-agent.httpTarget" .url }}
{{- $path := regexReplaceAll "^http://[^/]*/?([^#]*).*$" .url "${1}" }}
{{- if ne (include "drift-agent.isPool" $target) "yes" }}
{{- fail (printf "config.lastResort: invalid value %q: expected http://HOST, with :PORT if not 80 and a path if needed" .url) }}
{{- end }}
{{- if hasKey $seen (print $target "/" $path) }}
{{- fail (printf "config.lastResort: invalid value %q: expected each URL once, because a server cannot confirm itself" .url) }}
{{- end }}
{{- $_ := set $seen (print $target "/" $path) true }}
{{- end }}
{{- include "drift-agent.checkPools" (list "config.pools" .Values.config.allowSinglePool .Values.config.pools) }}
{{- range $region, $own := .Values.config.regions }}
{{- include "drift-agent.checkPools" (list (printf "config.regions.%s.pools" $region) $.Values.config.allowSinglePool $own.pools) }}
{{- end }}
{{- end }}

{{- /* Of (list KEY ALLOW-SINGLE POOLS): fails unless each is a pool, each is there once, and they are two or more. */ -}}
{{- define "drift-agent.checkPools" -}}
{{- $key := first . }}
{{- $names := list }}
{{- range last . }}
{{- $names = append $names (include "drift-agent.poolName" .) }}
{{- if and (kindIs "map" .) (eq .name "auto") .rootDistance }}
{{- fail (printf "%s: invalid value \"auto\": expected auto without rootDistance: its servers are the cloud's" $key) }}
{{- end }}
{{- end }}
{{- if and (lt (len $names) 2) (not (index . 1)) (not (has "auto" $names)) }}
{{- fail (printf "%s: invalid value %q: expected at least two pools, because one pool alone is not trusted; a site that has one alone sets config.allowSinglePool" $key (include "drift-agent.poolName" (first (last .)))) }}
{{- end }}
{{- $seen := dict }}
{{- range last . }}
{{- $pool := include "drift-agent.pool" . }}
{{- if ne (include "drift-agent.isPool" $pool) "yes" }}
{{- fail (printf "%s: invalid value %q: expected HOST, HOST:PORT, an IPv4 address, or [IPv6]:PORT, with a port from 1 to 65535" $key (include "drift-agent.poolName" .)) }}
{{- end }}
{{- if hasKey $seen $pool }}
{{- fail (printf "%s: invalid value %q: expected each pool once, because a pool cannot confirm itself" $key (include "drift-agent.poolName" .)) }}
{{- end }}
{{- $_ := set $seen $pool true }}
{{- end }}
{{- end }}

{{- /* The name of a pool, which is a text, or has more keys. */ -}}
{{- define "drift-agent.poolName" -}}
{{- if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* The canonical form of a pool: in lower case, with its port. */ -}}
{{- define "drift-agent.pool" -}}
{{- $pool := include "drift-agent.poolName" . | lower }}
{{- if regexMatch "^\\[.*\\]$" $pool }}{{ $pool }}:123
{{- else if regexMatch "^[^\\[]*:[^\\[]*:" $pool }}[{{ $pool }}]:123
{{- else if regexMatch ":[0-9]+$" $pool }}{{ $pool }}
{{- else }}{{ $pool }}:123
{{- end }}
{{- end }}

{{- /* Of a pool as "drift-agent.pool" writes it: "yes" if the agent accepts it. */ -}}
{{- define "drift-agent.isPool" -}}
{{- $port := regexFind "[0-9]+$" . | atoi }}
{{- $host := regexReplaceAll ":[0-9]+$" . "" }}
{{- $isHost := false }}
{{- if hasPrefix "[" $host }}
{{- $group := "[0-9a-f]{1,4}" }}
{{- $forms := list (printf "(%s:){7}%s" $group $group) (printf "(%s:){1,7}:" $group) (printf ":(:%s){1,7}" $group) "::" }}
{{- range $left := untilStep 1 7 1 }}
{{- $forms = append $forms (printf "(%s:){1,%d}(:%s){1,%d}" $group $left $group (sub 7 $left)) }}
{{- end }}
{{- $isHost = regexMatch (printf "^\\[(%s)\\]$" (join "|" $forms)) $host }}
{{- else if regexMatch "(^|\\.)[0-9]+\\.?$" $host }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" }}
{{- $isHost = regexMatch (printf "^%s(\\.%s){3}$" $octet $octet) $host }}
{{- else }}
{{- $label := "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?" }}
{{- $isHost = and (le (len $host) 253) (regexMatch (printf "^%s(\\.%s)*\\.?$" $label $label) $host) }}
{{- end }}
{{- if and $isHost (ge $port 1) (le $port 65535) }}yes{{ end }}
{{- end }}

{{- /* Of an http:// URL: HOST:PORT, in lower case. */ -}}
{{- define "drift-agent.httpTarget" -}}
{{- $authority := regexReplaceAll "^http://([^/]*).*$" . "${1}" | lower }}
{{- if regexMatch ":[0-9]+$" $authority }}{{ $authority }}{{ else }}{{ $authority }}:80{{ end }}
{{- end }}

{{- define "drift-agent.httpPorts" -}}
{{- $ports := list }}
{{- range .Values.config.lastResort }}
{{- $ports = append $ports (regexFind "[0-9]+$" (include "drift-agent.httpTarget" .url)) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{- define "drift-agent.poolPorts" -}}
{{- $pools := .Values.config.pools }}
{{- range .Values.config.regions }}
{{- $pools = concat $pools .pools }}
{{- end }}
{{- $ports := list }}
{{- range $pools }}
{{- $ports = append $ports (regexFind "[0-9]+$" (include "drift-agent.pool" .)) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}
