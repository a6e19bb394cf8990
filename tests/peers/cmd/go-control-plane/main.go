// Command go-control-plane serves the benchmark's world (tests/benches/xds/world.rs) with go-control-plane's server,
// and is told what to change by lines on its standard input, as the benchmark's other servers are.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Zones that a service's endpoints are spread over.
const zones = 2

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	// The words before the flags say what to serve; this program serves one thing.
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	flags := flag.NewFlagSet("go-control-plane", flag.ContinueOnError)
	services := flags.Int("services", 1000, "services of the world")
	endpoints := flags.Int("endpoints", 20, "endpoints of each")
	flags.Bool("allocations", false, "taken for the other servers' sake; the heap is always counted")
	flags.Int("ack-timeout-ms", 0, "taken for the other servers' sake; there is no such deadline here")
	if err := flags.Parse(args); err != nil {
		return err
	}

	world := newWorld(*services, *endpoints)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer(grpc.MaxConcurrentStreams(1 << 20))
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(context.Background(), world.mux, nil))
	go func() {
		if err := grpcServer.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	fmt.Printf("ready %d\n", listener.Addr().(*net.TCPAddr).Port)
	return world.obey(bufio.NewScanner(os.Stdin))
}

// world has a linear cache for each type under a mux, as the project's docs have it for what all proxies share.
type world struct {
	services, endpoints int
	next, revision      int
	assignments         *cache.LinearCache
	mux                 *cache.MuxCache
}

func newWorld(services, endpoints int) *world {
	clusters := make(map[string]types.Resource, services)
	assignments := make(map[string]types.Resource, services)
	for n := range services {
		clusters[name(n)] = newCluster(n)
		assignments[name(n)] = newAssignment(n, endpoints, 0)
	}
	eds := cache.NewLinearCache(resource.EndpointType, cache.WithInitialResources(assignments))
	return &world{
		services: services, endpoints: endpoints, assignments: eds,
		mux: &cache.MuxCache{
			Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
			ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
			Caches: map[string]cache.Cache{
				resource.ClusterType:  cache.NewLinearCache(resource.ClusterType, cache.WithInitialResources(clusters)),
				resource.EndpointType: eds,
				resource.ListenerType: cache.NewLinearCache(resource.ListenerType),
				resource.RouteType:    cache.NewLinearCache(resource.RouteType),
			},
		},
	}
}

// obey ends when the driver closes its end.
func (w *world) obey(lines *bufio.Scanner) error {
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		number, _ := strconv.Atoi(rest)
		var err error
		switch word {
		case "change":
			first := w.next
			w.next = (w.next + number) % w.services
			err = w.change(first, min(number, w.services))
		case "same":
			err = w.change(number, 1)
		case "allocated":
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			fmt.Printf("allocated %d\n", stats.HeapAlloc+stats.StackInuse)
		default:
			err = fmt.Errorf("%q is no command", lines.Text())
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

func (w *world) change(first, count int) error {
	w.revision++
	changed := make(map[string]types.Resource, count)
	for n := first; n < first+count; n++ {
		service := n % w.services
		changed[name(service)] = newAssignment(service, w.endpoints, w.revision)
	}
	return w.assignments.UpdateResources(changed, nil)
}

func name(service int) string {
	return fmt.Sprintf("service-%05d.shop.svc:8080", service)
}

func newCluster(service int) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 name(service),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{
			EdsConfig: &core.ConfigSource{
				ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
				ResourceApiVersion:    core.ApiVersion_V3,
			},
		},
		ConnectTimeout: durationpb.New(5 * time.Second),
	}
}

// newAssignment gives another revision another first address.
func newAssignment(service, endpoints, revision int) *endpoint.ClusterLoadAssignment {
	assignment := &endpoint.ClusterLoadAssignment{ClusterName: name(service)}
	for zone := range zones {
		locality := &endpoint.LocalityLbEndpoints{
			Locality:            &core.Locality{Region: "eu", Zone: fmt.Sprintf("eu-%d", zone)},
			LoadBalancingWeight: wrapperspb.UInt32(1),
		}
		for n := zone; n < endpoints; n += zones {
			locality.LbEndpoints = append(locality.LbEndpoints, newEndpoint(service, n, revision))
		}
		assignment.Endpoints = append(assignment.Endpoints, locality)
	}
	return assignment
}

func newEndpoint(service, number, revision int) *endpoint.LbEndpoint {
	ip := fmt.Sprintf("10.%d.%d.%d", service>>8&127, service&255, number)
	if number == 0 {
		ip = fmt.Sprintf("10.%d.%d.%d", 128+(revision>>16&127), revision>>8&255, revision&255)
	}
	return &endpoint.LbEndpoint{
		HealthStatus:        core.HealthStatus_HEALTHY,
		LoadBalancingWeight: wrapperspb.UInt32(1),
		HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
			Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
				Address:       ip,
				PortSpecifier: &core.SocketAddress_PortValue{PortValue: 8080},
			}}},
		}},
	}
}
