{{- define "causeway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The pod's fields that all have. */ -}}
{{- define "causeway.pod" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "causeway.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "causeway.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Root by name, with one capability: a user that is not root would not get it. */ -}}
{{- define "causeway.confinedBut" -}}
runAsNonRoot: false
runAsUser: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL], add: [{{ . }}]}
{{- end }}

{{- /* Peers of a rule; an empty list is nobody, where Kubernetes would read everybody. */ -}}
{{- define "causeway.rule" -}}
{{- if .from }}
- from: {{- toYaml .from | nindent 2 }}
  ports:
{{- range .ports }}
  - {{ . }}
{{- end }}
{{- end }}
{{- end }}
