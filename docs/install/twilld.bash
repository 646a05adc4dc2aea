# Completion of the flags of twilld and flanneld for bash; written from the table of flags by `npm run docs`.
_twilld() {
  local flag=${COMP_WORDS[COMP_CWORD - 1]} value=${COMP_WORDS[COMP_CWORD]}
  if [ "$value" = = ]; then value=; fi
  if [ "$flag" = = ]; then flag=${COMP_WORDS[COMP_CWORD - 2]}; fi
  case $flag in
    --etcd-proxy) COMPREPLY=($(compgen -W 'off environment' -- "$value")) ;;
    --set-node-network-unavailable) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --store) COMPREPLY=($(compgen -W 'etcd kube static' -- "$value")) ;;
    --kube-subnet-mgr) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --ip-masq) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --ip-masq-fully-random-disable) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --iptables-forward-rules) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --iptables-forward-first) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --ip-blackhole-route) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --source-check) COMPREPLY=($(compgen -W 'strict loose audit off' -- "$value")) ;;
    --lane) COMPREPLY=($(compgen -W 'auto off sparse all' -- "$value")) ;;
    --vxlan-tx-checksum) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --offload) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --udp-segment) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --udp-gro) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --tun-tso) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --tun-uso) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --merge-tcp) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --merge-udp) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --tun-queue-bound) COMPREPLY=($(compgen -W 'auto off' -- "$value")) ;;
    --path-probes) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --takeover) COMPREPLY=($(compgen -W 'true false' -- "$value")) ;;
    --log-format) COMPREPLY=($(compgen -W 'text json' -- "$value")) ;;
    --etcd-keyfile | --etcd-certfile | --etcd-cafile | --kubeconfig-file | --static-file | --subnet-file) COMPREPLY=($(compgen -f -- "$value")) ;;
    *) COMPREPLY=($(compgen -W '--etcd-endpoints --etcd-prefix --etcd-keyfile --etcd-certfile --etcd-cafile --etcd-username --etcd-password --etcd-proxy --subnet-lease-renew-margin --iface --iface-regex --iface-can-reach --public-ip --public-ipv6 --kube-api-url --kubeconfig-file --kube-annotation-prefix --net-config-path --set-node-network-unavailable --store --kube-subnet-mgr --static-file --subnet-file --ip-masq --ip-masq-fully-random-disable --iptables-resync --iptables-forward-rules --iptables-forward-first --ip-blackhole-route --source-check --queues --lane --vxlan-tx-checksum --offload --udp-segment --udp-gro --tun-tso --tun-uso --merge-tcp --merge-udp --tun-queue-bound --path-probes --healthz-ip --healthz-port --metrics-ip --metrics-port --control-socket --takeover --v --log-format --help --version' -- "$value")) ;;
  esac
}
complete -F _twilld twilld flanneld
