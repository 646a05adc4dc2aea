{{- /* What twill cannot do is said here, and not by daemons that end on every node. */ -}}
{{- define "twill.check" -}}
{{- if not (or .Values.podCidr .Values.podCidrv6) }}
{{- fail "podCidr is empty: expected the pod network of the cluster, such as \"10.244.0.0/16\"" }}
{{- end }}
{{- if contains ":" .Values.podCidr }}
{{- fail (printf "podCidr is %q: expected an IPv4 network, that of IPv6 is podCidrv6" .Values.podCidr) }}
{{- end }}
{{- if and .Values.podCidrv6 (not (contains ":" .Values.podCidrv6)) }}
{{- fail (printf "podCidrv6 is %q: expected an IPv6 network, such as \"fd00:244::/48\"" .Values.podCidrv6) }}
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
