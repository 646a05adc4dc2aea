{{- /* What twill cannot do is said here, and not by daemons that end on every node. */ -}}
{{- define "twill.check" -}}
{{- if .Values.podCidrv6 }}
{{- fail (printf "podCidrv6 is %q: expected nothing, twill has no IPv6 yet" .Values.podCidrv6) }}
{{- end }}
{{- if not .Values.podCidr }}
{{- fail "podCidr is empty: expected the pod network of the cluster, such as \"10.244.0.0/16\"" }}
{{- end }}
{{- if not (has .Values.flannel.backend (list "vxlan" "host-gw" "udp")) }}
{{- fail (printf "flannel.backend is %q: expected vxlan, host-gw or udp" .Values.flannel.backend) }}
{{- end }}
{{- range .Values.flannel.args }}
{{- if and $.Values.flannel.healthz.port (regexMatch "^--?healthz-port(=|$)" .) }}
{{- fail (printf "flannel.args has %s: expected flannel.healthz.port instead" .) }}
{{- end }}
{{- end }}
{{- end }}
