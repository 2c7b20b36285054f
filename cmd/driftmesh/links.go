package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/hashicorp/memberlist"
	"github.com/spf13/pflag"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/journal"
)

// addOpenNetwork adds the flag that lets links leave this machine.
func addOpenNetwork(fl *pflag.FlagSet, open *bool) {
	fl.BoolVar(open, "insecure-network", false, "allow addresses off loopback: nothing is encrypted, trusted networks only")
}

// security says how the links of a node are protected.
func (f *nodeFlags) security() cluster.Security { return cluster.Security{OpenNetwork: f.open} }

// links is what a node's connections go over: the network with the faults that
// tests inject, and its journal. Without their hidden flags both are nil.
type links struct {
	*faults.Network
	journal  *journal.Journal
	security cluster.Security

	cancel context.CancelFunc
	done   <-chan error // of the control listener
}

// links opens what --faults and --journal ask for.
func (f *nodeFlags) links(node string, logger *slog.Logger) (*links, error) {
	if f.open {
		logger.Warn("links are neither encrypted nor authenticated: whoever reaches this network can read and change everything; for trusted networks only")
	}
	l := &links{security: f.security()}
	var err error
	if l.journal, err = journal.Open(f.journal); err != nil || f.faults == "" {
		return l, err
	}
	l.Network = faults.New(node)
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	at, done, err := faults.Serve(ctx, l.Network, l.security, f.faults)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.done = done
	logger.Warn("faults of this node's links are controlled from outside", "at", at)
	return l, nil
}

// dial returns the options of connections on a plane.
func (l *links) dial(plane string) cluster.DialOptions {
	return cluster.DialOptions{Security: l.security, Dialer: l.Dialer(plane)}
}

// transport returns the hook for gossip, nil for none.
func (l *links) transport() func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
	if l.Network == nil {
		return nil
	}
	return l.Network.Transport
}

// Close ends fault control and breaks what is still connected.
func (l *links) Close() error {
	var err error
	if l.cancel != nil {
		l.cancel()
		if l.done != nil {
			err = <-l.done
		}
		l.Network.Close()
	}
	return errors.Join(err, l.journal.Close())
}
