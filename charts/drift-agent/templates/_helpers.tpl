{{- define "drift-agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "drift-agent.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "drift-agent.selector" -}}
app.kubernetes.io/name: {{ include "drift-agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "drift-agent.labels" -}}
{{- /* The chart's own labels override common ones: the selector depends on them. */ -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge (include "drift-agent.selector" . | fromYaml) $own .Values.commonLabels | toYaml }}
{{- end }}

{{- define "drift-agent.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "drift-agent.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the service account that exists, or let serviceAccount.create be true" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "drift-agent.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default (printf "%s%s" $.Chart.AppVersion (ternary "-step" "" (eq (include "drift-agent.stepsKernel" $) "yes"))) .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "drift-agent.hasPolicies" -}}
{{- if and .Values.nodePolicy.enabled (eq .Values.config.kubernetes "on") (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") }}yes{{ end }}
{{- end }}

{{- /* The step profile: what the agent may use to step the clock. */ -}}
{{- define "drift-agent.stepsKernel" -}}
{{- if has .Values.config.step.mode (list "kernel" "auto") }}yes{{ end }}
{{- end }}

{{- define "drift-agent.stepsChrony" -}}
{{- if has .Values.config.step.mode (list "chrony" "auto") }}yes{{ end }}
{{- end }}

{{- define "drift-agent.mountsChrony" -}}
{{- if and (include "drift-agent.stepsChrony" .) (ne .Values.chronyFolder "none") }}yes{{ end }}
{{- end }}

{{- define "drift-agent.readsRequests" -}}
{{- if and (ne .Values.config.step.mode "off") .Values.config.step.onRequest (eq .Values.config.kubernetes "on") }}yes{{ end }}
{{- end }}

{{- /* chronyd's socket, and the socket that it answers to, are open to chronyd's own user, and to a user with DAC_OVERRIDE. */ -}}
{{- define "drift-agent.podSecurityContext" -}}
{{- $context := deepCopy .Values.podSecurityContext }}
{{- if include "drift-agent.mountsChrony" . }}
{{- if .Values.chronyUser }}
{{- $_ := set $context "runAsUser" (int64 .Values.chronyUser) }}
{{- else }}
{{- $context = mustMergeOverwrite $context (dict "runAsUser" 0 "runAsNonRoot" false) }}
{{- end }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{- define "drift-agent.securityContext" -}}
{{- $context := deepCopy .Values.securityContext }}
{{- $capabilities := list }}
{{- if include "drift-agent.stepsKernel" . }}
{{- $capabilities = append $capabilities "SYS_TIME" }}
{{- end }}
{{- if and (include "drift-agent.mountsChrony" .) (not .Values.chronyUser) }}
{{- $capabilities = append $capabilities "DAC_OVERRIDE" }}
{{- end }}
{{- if $capabilities }}
{{- $before := dig "capabilities" "add" list $context }}
{{- $context = mustMergeOverwrite $context (dict "capabilities" (dict "add" (concat $before $capabilities | uniq))) }}
{{- end }}
{{- toYaml $context }}
{{- end }}
