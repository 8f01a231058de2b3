{{/* The beginning of every object's name: the release's, with the chart's name in it. */}}
{{- define "onthedot.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the pods of a component; (list $ "handler"). Never changed: a Deployment's selector cannot be. */}}
{{- define "onthedot.selector" -}}
app.kubernetes.io/name: {{ default (index . 0).Chart.Name (index . 0).Values.nameOverride }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels and annotations of an object of a component; (list $ "handler" annotations labels). */}}
{{- define "onthedot.metadata" -}}
{{- $ := index . 0 -}}
{{- $chart := printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" -}}
{{- $labels := merge (dict "app.kubernetes.io/managed-by" $.Release.Service "helm.sh/chart" $chart) (index . 3) -}}
{{- include "onthedot.podMetadata" (list $ (index . 1) (index . 2) $labels) }}
{{- end -}}

{{/* The same of a pod, which need not be exchanged because the chart was. */}}
{{- define "onthedot.podMetadata" -}}
{{- $ := index . 0 -}}
labels:
  {{- include "onthedot.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: onthedot
  app.kubernetes.io/version: {{ default $.Chart.AppVersion $.Values.image.tag | quote }}
  {{- with merge (dict) (index . 3) $.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 2) $.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The name of an image, by its digest where there is one; (dict "repository" "tag" "digest"). */}}
{{- define "onthedot.image" -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{/* The image of the services. */}}
{{- define "onthedot.ownImage" -}}
image: {{ include "onthedot.image" (dict "repository" .Values.image.repository "tag" (default .Chart.AppVersion .Values.image.tag) "digest" .Values.image.digest) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{/* What every pod may not do. */}}
{{- define "onthedot.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* What every container may not do. */}}
{{- define "onthedot.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* DATABASE_URL, from the Secret that has it: the operator's, for a database of the chart. */}}
{{- define "onthedot.databaseUrl" -}}
{{- if .Values.postgres.cluster.enabled -}}
name: {{ include "onthedot.name" . }}-postgres-app
key: uri
{{- else -}}
name: {{ required "postgres.existingSecret: name a Secret that holds the database's URL under postgres.secretKey, or set postgres.cluster.enabled" .Values.postgres.existingSecret }}
key: {{ .Values.postgres.secretKey }}
{{- end -}}
{{- end -}}

{{/* The environment of every process of ours: the servers by reference, and settings; (list $ settings). */}}
{{- define "onthedot.env" -}}
{{- $ := index . 0 -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- include "onthedot.databaseUrl" $ | nindent 6 }}
{{- if $.Values.redis.valkey.enabled }}
- name: VALKEY_PASSWORD
  valueFrom:
    secretKeyRef:
      {{- include "onthedot.valkeyPassword" $ | nindent 6 }}
- name: REDIS_URL
  value: redis://:$(VALKEY_PASSWORD)@{{ include "onthedot.name" $ }}-valkey:6379/0
{{- else }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.existingSecret: name a Secret that holds Redis's URL under redis.secretKey, or set redis.valkey.enabled" $.Values.redis.existingSecret }}
      key: {{ $.Values.redis.secretKey }}
{{- end }}
{{- /* A number is written as JSON writes it: Helm would say 6.7108864e+07. */}}
{{- range $name, $value := merge (dict) (index . 1) $.Values.settings }}
- name: {{ $name }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end -}}

{{/* Alive while it answers at all, ready when it can serve; two minutes to start. */}}
{{- define "onthedot.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 2
{{- end -}}

{{- define "onthedot.valkeyPassword" -}}
name: {{ required "redis.valkey.existingSecret: name a Secret that holds a password of letters and digits under redis.valkey.passwordKey" .Values.redis.valkey.existingSecret }}
key: {{ .Values.redis.valkey.passwordKey }}
{{- end -}}

{{/* Where the pods of a component run; (list $ "handler" .Values.handler). */}}
{{- define "onthedot.placement" -}}
{{- $component := index . 2 -}}
{{- with $component.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $component.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $component.topologyKeys }}
topologySpreadConstraints:
  {{- range $component.topologyKeys }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "onthedot.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The service account of the long-running pods. */}}
{{- define "onthedot.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "onthedot.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* Rules of egress that each process needs: names, and Postgres. */}}
{{- define "onthedot.egressToPostgres" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: {{ .Values.networkPolicy.dnsPort }}, protocol: UDP}
    - {port: {{ .Values.networkPolicy.dnsPort }}, protocol: TCP}
- ports:
    - {port: {{ .Values.postgres.cluster.enabled | ternary 5432 .Values.postgres.port }}, protocol: TCP}
  {{- if .Values.postgres.cluster.enabled }}
  to:
    - podSelector:
        matchLabels:
          cnpg.io/cluster: {{ include "onthedot.name" . }}-postgres
  {{- else if .Values.postgres.peers }}
  to:
    {{- toYaml .Values.postgres.peers | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* And Redis. */}}
{{- define "onthedot.egressToRedis" -}}
- ports:
    - {port: {{ .Values.redis.valkey.enabled | ternary 6379 .Values.redis.port }}, protocol: TCP}
  {{- if .Values.redis.valkey.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "onthedot.selector" (list . "valkey") | nindent 10 }}
  {{- else if .Values.redis.peers }}
  to:
    {{- toYaml .Values.redis.peers | nindent 4 }}
  {{- end }}
{{- end -}}
