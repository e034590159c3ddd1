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
{{- if not .root.Values.tls.enabled }}
- {name: ROMANA_{{ .service }}__INSECURE, value: "true"}
{{- end }}
{{- end }}

{{- /* What the `romana` command needs. */ -}}
{{- define "romana.operator" -}}
- {name: ROMANA_TOPOLOGY, value: "{{ include "romana.at" "topology" }}:9610"}
- {name: ROMANA_IPAM, value: "{{ include "romana.at" "ipam" }}:9620"}
- {name: ROMANA_POLICY, value: "{{ include "romana.at" "policy" }}:9630"}
{{- if not .Values.tls.enabled }}
- {name: ROMANA_INSECURE, value: "true"}
{{- end }}
{{- end }}
