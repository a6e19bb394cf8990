// Command kube-proxy is upstream's cmd/kube-proxy, unchanged in what it does. It exists here because a main package of
// another module (k8s.io/kubernetes) can't be built with the replace directives that k8s.io/kubernetes needs; see
// ../../go.mod.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() {
	os.Exit(cli.Run(app.NewProxyCommand()))
}
