// The definitions of the Prometheus operator, for tests of what is given to it.
module causeway.dev/tests/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
