#!/usr/bin/env bash
# Prints the bootstrap of the Envoy that stands for the pods: a listener for each NAME=PORT, which answers with the name.
#
#   backends.sh ADDRESS NAME=PORT...
set -euo pipefail
address=$1
shift
printf 'static_resources:\n  listeners:\n'
for pod in "$@"; do
  name=${pod%=*} port=${pod#*=}
  cat <<YAML
  - name: $name
    address: {socket_address: {address: $address, port_value: $port}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: $name
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                direct_response: {status: 200, body: {inline_string: "$name\n"}}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
YAML
done
