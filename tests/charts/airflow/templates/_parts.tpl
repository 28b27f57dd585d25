{{- /* The name that the pod template asks the chart for. */ -}}
{{- define "airflow_config" -}}
{{ .Release.Name }}-config
{{- end }}

{{- /* What runs Airflow: of (root, name, arguments, more of env). */ -}}
{{- define "gleaner.container" -}}
{{- $root := index . 0 -}}
- name: {{ index . 1 }}
  image: {{ printf "%s:%s" $root.Values.images.airflow.repository $root.Values.images.airflow.tag }}
  args: {{- tpl (toYaml (index . 2)) $root | nindent 4 }}
  {{- with $root.Values.extraEnvFrom }}
  envFrom: {{- tpl . $root | nindent 4 }}
  {{- end }}
  env:
    {{- range $root.Values.env }}
    - name: {{ .name }}
      value: {{ .value | quote }}
    {{- end }}
    {{- range $name, $key := dict
      "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" (list $root.Values.data.metadataSecretName "metadata" "connection")
      "AIRFLOW__CORE__FERNET_KEY" (list $root.Values.fernetKeySecretName "fernet-key" "fernet-key")
      "AIRFLOW__API__SECRET_KEY" (list $root.Values.apiSecretKeySecretName "api-secret-key" "api-secret-key")
      "AIRFLOW__API_AUTH__JWT_SECRET" (list $root.Values.jwtSecretName "jwt-secret" "jwt-secret") }}
    - name: {{ $name }}
      valueFrom:
        secretKeyRef:
          name: {{ index $key 0 | default (printf "%s-%s" $root.Release.Name (index $key 1)) }}
          key: {{ index $key 2 }}
    {{- end }}
    {{- with index . 3 }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumeMounts:
    - name: config
      mountPath: /opt/airflow/airflow.cfg
      subPath: airflow.cfg
    {{- if eq (index . 1) "scheduler" }}
    - name: config
      mountPath: /opt/airflow/pod_templates/pod_template_file.yaml
      subPath: pod_template_file.yaml
    {{- end }}
{{- end }}
