{{- /* Milliseconds of a length of time that the schema has let pass: a whole number and one unit. */ -}}
{{- define "drift-agent.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) $unit) }}
{{- end }}

{{- /* What no schema can say: values that are right alone, but not together. */ -}}
{{- define "drift-agent.check" -}}
{{- $interval := include "drift-agent.milliseconds" .Values.config.interval | int64 }}
{{- if lt (include "drift-agent.milliseconds" .Values.config.staleAfter | int64) (mul 3 $interval) }}
{{- fail (printf "config.staleAfter: %s is not right: at least three times config.interval (%s), or one lost packet makes the clock unknown" .Values.config.staleAfter .Values.config.interval) }}
{{- end }}
{{- if lt (include "drift-agent.milliseconds" .Values.config.step.maxOffset | int64) (include "drift-agent.milliseconds" .Values.config.step.minOffset | int64) }}
{{- fail (printf "config.step.maxOffset: %s is not right: not below config.step.minOffset (%s), or nothing is ever stepped" .Values.config.step.maxOffset .Values.config.step.minOffset) }}
{{- end }}
{{- if lt (include "drift-agent.milliseconds" .Values.config.leeway.maximum | int64) (include "drift-agent.milliseconds" .Values.config.leeway.minimum | int64) }}
{{- fail (printf "config.leeway.maximum: %s is not right: not below config.leeway.minimum (%s)" .Values.config.leeway.maximum .Values.config.leeway.minimum) }}
{{- end }}
{{- $seen := dict }}
{{- range .Values.config.lastResort }}
{{- $target := include "drift-agent.httpTarget" .url }}
{{- $path := regexReplaceAll "^http://[^/]*/?([^#]*).*$" .url "${1}" }}
{{- if ne (include "drift-agent.isPool" $target) "yes" }}
{{- fail (printf "config.lastResort: %s is not right: http://HOST, with :PORT if not 80 and a path if need be" .url) }}
{{- end }}
{{- if hasKey $seen (print $target "/" $path) }}
{{- fail (printf "config.lastResort: %s is not right: each URL once: a server cannot confirm itself" .url) }}
{{- end }}
{{- $_ := set $seen (print $target "/" $path) true }}
{{- end }}
{{- include "drift-agent.checkPools" (list "config.pools" .Values.config.pools) }}
{{- range $region, $own := .Values.config.regions }}
{{- include "drift-agent.checkPools" (list (printf "config.regions.%s.pools" $region) $own.pools) }}
{{- end }}
{{- end }}

{{- /* Of (list KEY POOLS): is each a pool, and another one? */ -}}
{{- define "drift-agent.checkPools" -}}
{{- $key := first . }}
{{- $seen := dict }}
{{- range last . }}
{{- $pool := include "drift-agent.pool" . }}
{{- if ne (include "drift-agent.isPool" $pool) "yes" }}
{{- fail (printf "%s: %s is not right: HOST, HOST:PORT, an IPv4 address, or [IPv6]:PORT, with a port from 1 to 65535" $key .) }}
{{- end }}
{{- if hasKey $seen $pool }}
{{- fail (printf "%s: %s is not right: each pool once: a pool cannot confirm itself" $key .) }}
{{- end }}
{{- $_ := set $seen $pool true }}
{{- end }}
{{- end }}

{{- /* The one way to write a pool that can be written in several: in small letters, with its port. */ -}}
{{- define "drift-agent.pool" -}}
{{- $pool := lower . }}
{{- if regexMatch "^\\[.*\\]$" $pool }}{{ $pool }}:123
{{- else if regexMatch "^[^\\[]*:[^\\[]*:" $pool }}[{{ $pool }}]:123
{{- else if regexMatch ":[0-9]+$" $pool }}{{ $pool }}
{{- else }}{{ $pool }}:123
{{- end }}
{{- end }}

{{- /* Of a pool as "drift-agent.pool" writes it: can the agent make something of it? */ -}}
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

{{- /* Of an http:// URL: HOST:PORT, in small letters. */ -}}
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
