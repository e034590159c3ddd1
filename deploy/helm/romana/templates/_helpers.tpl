{{- define "romana.labels" -}}
app.kubernetes.io/name: romana
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "romana.image" -}}
{{- $image := get .root.Values.images .name -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* Where a Service is. Nothing here needs DNS, whose pods get their addresses from here: kubelet tells
a container of the Services of its namespace. */ -}}
{{- define "romana.at" -}}
$({{ printf "romana-%s" . | upper | replace "-" "_" }}_SERVICE_HOST)
{{- end }}

{{- define "romana.etcd" -}}
{{- if .Values.etcd.endpoints -}}
{{ join "," .Values.etcd.endpoints }}
{{- else -}}
{{ include "romana.at" "etcd" }}:{{ .Values.etcd.port }}
{{- end -}}
{{- end }}

{{- /* Pods that others get their addresses from run before any does: on their nodes' own network, and on
nodes that are not ready for others. */ -}}
{{- define "romana.early" -}}
hostNetwork: true
tolerations:
  - {key: node.kubernetes.io/not-ready, operator: Exists}
  - {key: node.kubernetes.io/network-unavailable, operator: Exists}
  - {key: node.cloudprovider.kubernetes.io/uninitialized, operator: Exists}
  - {key: node-role.kubernetes.io/control-plane, operator: Exists}
  - {key: node-role.kubernetes.io/master, operator: Exists}
  - {key: node.romana.io/agent-not-ready, operator: Exists}
{{- end }}

{{- define "romana.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* A service's settings beyond those that the chart makes. */ -}}
{{- define "romana.env" -}}
{{- range $key, $value := .env }}
- name: ROMANA_{{ upper $.service }}__{{ $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* One replica on a node. */ -}}
{{- define "romana.placement" -}}
nodeSelector: {{- toJson .values.nodeSelector | nindent 2 }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "romana.labels" (dict "component" .component) | nindent 12 }}
{{- end }}

{{- /* Where a client finds the three services. */ -}}
{{- define "romana.client" -}}
- {name: ROMANA_{{ .service }}__TOPOLOGY, value: "{{ include "romana.at" "topology" }}:9610"}
- {name: ROMANA_{{ .service }}__IPAM, value: "{{ include "romana.at" "ipam" }}:9620"}
- {name: ROMANA_{{ .service }}__POLICY, value: "{{ include "romana.at" "policy" }}:9630"}
- {name: ROMANA_{{ .service }}__LOG__FORMAT, value: json}
{{- if .root.Values.tls.enabled }}
{{ include "romana.tlsfiles" (dict "prefix" (printf "ROMANA_%s__TLS__" .service) "at" .tls) }}
{{- else }}
- {name: ROMANA_{{ .service }}__INSECURE, value: "true"}
{{- end }}
{{- end }}

{{- /* What the `romana` command needs. */ -}}
{{- define "romana.operator" -}}
- {name: ROMANA_TOPOLOGY, value: "{{ include "romana.at" "topology" }}:9610"}
- {name: ROMANA_IPAM, value: "{{ include "romana.at" "ipam" }}:9620"}
- {name: ROMANA_POLICY, value: "{{ include "romana.at" "policy" }}:9630"}
{{- if .Values.tls.enabled }}
- {name: ROMANA_TLS_CA, value: /etc/romana-tls/ca.crt}
- {name: ROMANA_TLS_CERT, value: /etc/romana-tls/tls.crt}
- {name: ROMANA_TLS_KEY, value: /etc/romana-tls/tls.key}
{{- else }}
- {name: ROMANA_INSECURE, value: "true"}
{{- end }}
{{- end }}

{{- /* The pod that makes and renews certificates. */ -}}
{{- define "romana.certifying" -}}
{{ include "romana.early" . }}
priorityClassName: system-cluster-critical
serviceAccountName: romana-certificates
restartPolicy: OnFailure
imagePullSecrets: {{- toJson .Values.images.pullSecrets | nindent 2 }}
securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001}
containers:
  - name: certificates
    image: {{ include "romana.image" (dict "root" . "name" "service") }}
    imagePullPolicy: {{ .Values.images.pullPolicy }}
    command:
      - romana
      - certificates
      - kubernetes
      - --namespace={{ .Release.Namespace }}
      - --days={{ .Values.tls.days }}
      - --within={{ .Values.tls.renewWithin }}
      - --host=romana
      {{- range list "topology" "ipam" "policy" "kubernetes" }}
      - --host=romana-{{ . }}.{{ $.Release.Namespace }}.svc
      - --host={{ include "romana.at" . }}
      {{- end }}
      {{- if .Values.etcd.endpoints }}
      - --no-etcd
      {{- else }}
      - --host={{ include "romana.at" "etcd" }}
      {{- end }}
      - --host=127.0.0.1
    resources: {requests: {cpu: 50m, memory: 64Mi}}
    securityContext: {{- include "romana.unprivileged" . | nindent 6 }}
{{- end }}

{{- /* Files of a Secret of TLS, by settings. */ -}}
{{- define "romana.tlsfiles" -}}
- {name: {{ .prefix }}CA, value: {{ .at }}/ca.crt}
- {name: {{ .prefix }}CERTIFICATE, value: {{ .at }}/tls.crt}
- {name: {{ .prefix }}KEY, value: {{ .at }}/tls.key}
{{- end }}
