{{- define "towpath.image" -}}
{{ .Values.image.name }}:{{ .Values.image.tag }}
{{- end }}
{{- define "towpath.confined" -}}
seccompProfile:
  type: RuntimeDefault
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
{{- end }}
{{- define "towpath.prefix" -}}
{{- /* flannel's rule: without a slash one is put behind, with one a dash */ -}}
{{ .Values.annotationPrefix }}{{ if contains "/" .Values.annotationPrefix }}-{{ else }}/{{ end }}
{{- end }}
