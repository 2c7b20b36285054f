package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/nice"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/sampler"
)

type workerFlags struct {
	nodeFlags
	slots int
	nice  int
	grpc  string
	cache string
}

func newWorkerCmd() *cobra.Command {
	var f workerFlags
	cmd := &cobra.Command{
		Use:   "worker --data DIR --join ADDR",
		Short: "Run a sampler worker",
		Long: `Run a sampler worker: one process with one or more slots. It asks a server for
the cluster's identity, finds the others by gossip, and samples for the jobs that
the leader assigns to its slots.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := f.onLeash(cmd.Context())
			defer cancel()
			return work(ctx, &f, f.logger())
		},
	}
	f.nodeFlags.add(cmd)
	cmd.Flags().IntVar(&f.slots, "slots", 1, "sampler loops in this process")
	cmd.Flags().StringVar(&f.grpc, "grpc", "", "`address` to hand parameters on at (default a free port beside --gossip)")
	cmd.Flags().StringVar(&f.cache, "cache", "", "`folder` of parameters that workers here share, or none (default one per user and cluster)")
	cmd.Flags().IntVar(&f.nice, "nice", 10, "scheduling priority: servers elect and commit first")
	return cmd
}

// work wires a worker: identity → gossip → slots.
func work(ctx context.Context, f *workerFlags, logger *slog.Logger) (err error) {
	if err := f.check(map[string]string{"--grpc": f.serveAt()}); err != nil {
		return err
	}
	if f.slots < 1 || f.slots > 1024 {
		return fielderr.New("--slots", f.slots, "1 to 1024")
	}
	if err := needJoin(f.join); err != nil {
		return err
	}
	endPlugins, err := permit(ctx, f.allow, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endPlugins()) }()
	if err := nice.Process(f.nice); err != nil {
		logger.Warn("priority not set", "nice", f.nice, "error", err)
	}
	id, err := cluster.LoadOrCreate(f.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, id.Close()) }()
	links, err := f.links(id.NodeID(), logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, links.Close()) }()
	reply, err := f.introduce(ctx, &wire.JoinRequest{ClusterID: id.ClusterID(), NodeID: id.NodeID()}, links.dial(faults.RPC))
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end before a server was there
		}
		return err
	}
	if err := id.SetClusterID(reply.ClusterID); err != nil {
		return err
	}
	logger = logger.With("node", id.NodeID())
	preset, err := cluster.PresetByName(f.preset)
	if err != nil {
		return err
	}
	cache, err := openCache(f.cache, id.ClusterID(), logger)
	if err != nil {
		return err
	}
	group := ""
	if cache != nil {
		group = cache.ID()
	}
	metrics, err := f.openHTTP(ctx)
	if err != nil {
		return err
	}
	defer metrics.Close()
	listener, err := links.security.Listen(ctx, f.serveAt())
	if err != nil {
		return err
	}
	defer listener.Close()
	mesh, err := cluster.NewMesh(cluster.MeshConfig{
		NodeID: id.NodeID(), ClusterID: id.ClusterID(), Role: cluster.RoleWorker,
		Bind: f.gossip, GRPCAddr: listener.Addr().String(), Group: group,
		Slots: f.slots, Preset: preset, Log: logger,
		Security: links.security, Transport: links.transport(),
	})
	if err != nil {
		return err
	}
	links.Names(faults.Members(mesh))
	defer func() {
		sctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err = errors.Join(err, mesh.Leave(sctx), mesh.Close(sctx))
	}()
	if err := mesh.Join(ctx, reply.Gossip...); err != nil {
		return err
	}
	logger.Info("working", "gossip", mesh.Addr(), "grpc", listener.Addr().String(), "slots", f.slots, "cluster", id.ClusterID())

	// The servers of the gossip, and those named at start.
	candidates := func() []string {
		var out []string
		for _, m := range mesh.Members() {
			if m.Role == cluster.RoleServer && m.State == cluster.Alive {
				out = append(out, m.GRPCAddr)
			}
		}
		return append(out, f.join...)
	}
	leader := cluster.NewLeader(id.ClusterID(), candidates, links.dial(faults.RPC))
	defer func() { err = errors.Join(err, leader.Close()) }()
	parameters := fanout.NewNode(fanout.Config{
		ClusterID: id.ClusterID(), Node: id.NodeID(), Addr: listener.Addr().String(),
		Mesh: mesh, Dial: links.dial(faults.Parameters), Leader: leader.Known, Cache: cache, Logger: logger,
	})
	defer parameters.Close()
	rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: id.ClusterID, Security: links.security, Log: logger})
	cluster.RegisterParameters(rpc, parameters)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := rpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			logger.Error("parameters are not handed on", "error", err)
		}
	})
	seeking, found := context.WithCancel(ctx)
	serving.Go(func() { f.seekServers(seeking, mesh, links.dial(faults.RPC), logger) })
	defer serving.Wait()
	defer found()
	defer rpc.Stop()
	meter := newWorkerMeter(mesh, parameters.Egress())
	var slots sync.WaitGroup
	for i := range f.slots {
		w := &sampler.Worker{Observe: meter.adopted,
			ClusterID: id.ClusterID(), Node: id.NodeID(), Slot: i, Leader: leader, Parameters: parameters, Logger: logger, Journal: links.journal}
		meter.slots = append(meter.slots, w)
		slots.Go(func() {
			if err := w.Run(ctx); err != nil {
				logger.Error("slot ended", "slot", i, "error", err)
			}
		})
	}
	metrics.Registry.Read(meter.collect)
	metrics.start(telemetry.Probes{Ready: meter.ready}, logger, id.NodeID(), id.ClusterID(), string(cluster.RoleWorker), version)
	slots.Wait()
	return nil
}

// serveAt is the address at which the node hands parameters on.
func (f *workerFlags) serveAt() string {
	if f.grpc != "" {
		return f.grpc
	}
	host, _, err := net.SplitHostPort(f.gossip)
	if err != nil {
		host = "127.0.0.1" // and --gossip is refused
	}
	return net.JoinHostPort(host, "0")
}

// noCache is what --cache says to share nothing.
const noCache = "none"

// openCache opens the folder of parameters. A default one that cannot be used
// costs the sharing; one that was asked for is an error.
func openCache(dir, clusterID string, logger *slog.Logger) (*fanout.Cache, error) {
	switch dir {
	case noCache:
		return nil, nil
	case "":
		cache, err := fanout.OpenCache(fanout.DefaultCacheDir(clusterID))
		if err != nil {
			logger.Warn("parameters are not shared with other workers of this machine", "error", err)
			return nil, nil
		}
		return cache, nil
	}
	return fanout.OpenCache(dir)
}
