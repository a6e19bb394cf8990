// A gRPC client that finds its backends over xDS (google.golang.org/grpc/xds), and such backends.
//
//	grpc-client backend          serves the health service on a port of loopback, and prints its address
//	grpc-client call xds:///name makes one call for each line that it reads, and prints how it went as JSON
//
// Both end when their input ends. Where the xDS server is says GRPC_XDS_BOOTSTRAP_CONFIG.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
)

func main() {
	err := fmt.Errorf("usage: grpc-client backend | call TARGET")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "backend":
		err = backend()
	case len(os.Args) == 3 && os.Args[1] == "call":
		err = call(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc-client:", err)
		os.Exit(1)
	}
}

func backend() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// outcome of one call: which backend answered, or why none did.
type outcome struct {
	Peer  string `json:"peer"`
	Code  string `json:"code"`
	Error string `json:"error"`
}

func call(target string) error {
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	client := healthpb.NewHealthClient(connection)
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := out.Encode(one(client)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func one(client healthpb.HealthClient) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var from peer.Peer
	_, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&from))
	result := outcome{Code: status.Code(err).String()}
	if err != nil {
		result.Error = err.Error()
	} else {
		result.Peer = from.Addr.String()
	}
	return result
}
