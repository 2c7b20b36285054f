package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ErrNotLoopback is returned for an address outside the loopback interface in
// insecure mode.
var ErrNotLoopback = errors.New("not a loopback address")

// Security says how the links of a node are protected. Its zero value is
// insecure mode, today the only one: nothing is encrypted and nobody is
// authenticated, so every listener, every advertised address and every dialled
// one must be on the loopback interface.
//
// Certificates, join tokens and the gossip key will be fields of this struct;
// every link of the mesh already takes its credentials from here.
type Security struct {
	// OpenNetwork lifts the restriction to loopback although nothing is
	// encrypted and nobody is authenticated: for networks where every machine
	// is trusted, and only on explicit request.
	OpenNetwork bool
}

// CheckAddr says whether a node may bind, advertise or dial addr (host:port).
// In insecure mode the host must be a loopback IP address or "localhost";
// anything else is ErrNotLoopback. An empty host would bind every interface and
// is refused likewise. With OpenNetwork any IP address that others can dial is
// accepted.
func (s Security) CheckAddr(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("cluster: address %q: want host:port: %w", addr, err)
	}
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	if s.OpenNetwork {
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			return fmt.Errorf("cluster: address %q: want the IP address that others reach this node at", addr)
		}
		return nil
	}
	return fmt.Errorf("cluster: address %q: %w: links are neither encrypted nor authenticated yet, so a node stays on its own machine; use 127.0.0.1 or [::1]", addr, ErrNotLoopback)
}

// Listen opens a TCP listener on addr, which CheckAddr must accept. Port 0
// takes a free one; the listener's Addr tells which.
func (s Security) Listen(ctx context.Context, addr string) (net.Listener, error) {
	if err := s.CheckAddr(addr); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cluster: listen on %s: %w", addr, err)
	}
	return l, nil
}

func (Security) credentials() credentials.TransportCredentials {
	return insecure.NewCredentials()
}
