#!/usr/bin/env bash
# Prints the Service checkout of one cluster, with two pods and their EndpointSlices. No controller runs beside the quick
# start's API servers, so it writes what a cluster's own would. Pods are ports of this machine: an API server takes no
# loopback address for a pod.
#
#   service.sh CLUSTER ADDRESS PORT1 PORT2
set -euo pipefail
cluster=$1 address=$2
cat <<YAML
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: checkout}
spec:
  ports: [{name: http, port: 8080, appProtocol: http}]
YAML
for i in 1 2; do
  port=$3
  shift
  cat <<YAML
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: checkout-$i, labels: {kubernetes.io/service-name: checkout}}
addressType: IPv4
ports: [{name: http, port: $port}]
endpoints:
- addresses: [$address]
  conditions: {ready: true, serving: true, terminating: false}
  nodeName: $cluster-node-1
  targetRef: {kind: Pod, namespace: shop, name: checkout-$cluster-$i}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: checkout-$cluster-$i, labels: {app: checkout}}
spec: {nodeName: $cluster-node-1, containers: [{name: main, image: example/app}]}
YAML
done
