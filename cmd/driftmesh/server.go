package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/faults"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// serverFlags are those of a node that has the replicated log: a server, or a
// learner's node.
type serverFlags struct {
	nodeFlags
	role   cluster.Role
	grpc   string
	raft   string
	init   bool
	single bool
	idle   bool

	archive   string // URL of a bucket, "" for this node's folder
	deadAfter time.Duration
	scrub     time.Duration
	rate      int // MiB per second of a scrub

	snapshotBytes int64
}

func newServerCmd() *cobra.Command {
	f := serverFlags{role: cluster.RoleServer}
	cmd := &cobra.Command{
		Use:   "server --data DIR (--init | --join ADDR)",
		Short: "Run a parameter server node",
		Long: `Run a parameter server node. The first server of a cluster is started with
--init, further ones with --join and the gRPC address of a running server. Once
they have caught up they become voters, as many as make an odd number: one of two
servers votes, three of three and of four. The others are spares, and take the
place of a voter that dies. A directory that has been used before needs neither
flag: it knows the other servers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := f.onLeash(cmd.Context())
			defer cancel()
			return serve(ctx, &f, f.logger())
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.init, "init", false, "found a new cluster if the directory is new")
	fl.BoolVar(&f.idle, "no-train", false, "leave training to others: learners' nodes, or other servers")
	fl.BoolVar(&f.single, "single", false, "timings of a cluster that stays at one voter: quick start, no fault tolerance")
	fl.DurationVar(&f.deadAfter, "dead-server-after", 10*time.Minute, "`time` until a dead server is removed without a spare for it")
	return cmd
}

// add adds the flags that servers and learners' nodes have in common.
func (f *serverFlags) add(cmd *cobra.Command) {
	f.nodeFlags.add(cmd)
	fl := cmd.Flags()
	listen := "127.0.0.1:0"
	if f.role == cluster.RoleServer {
		listen = "127.0.0.1:7400"
	}
	fl.StringVar(&f.grpc, "grpc", listen, "`address` of the mesh protocol")
	fl.StringVar(&f.raft, "raft", "127.0.0.1:0", "`address` of the raft transport")
	fl.StringVar(&f.archive, "archive", "", "`URL` of a bucket for archive segments, one for all nodes; default: folders of servers")
	fl.DurationVar(&f.scrub, "scrub-every", time.Hour, "`time` between two searches of disk and memory for damage")
	fl.IntVar(&f.rate, "scrub-rate", 8, "`MiB` per second that such a search reads")
	fl.Int64Var(&f.snapshotBytes, "snapshot-bytes", 0, "`bytes` of log after which a snapshot is due, and which stay behind it (for tests; 0: 64 MiB)")
	if err := fl.MarkHidden("snapshot-bytes"); err != nil {
		panic(err) // it is defined above
	}
}

// serve wires a node that has the replicated log and ends it in reverse order:
// identity → gRPC listener → gossip → replica → server loops → gRPC.
func serve(ctx context.Context, f *serverFlags, logger *slog.Logger) (err error) {
	if err := errors.Join(f.check(map[string]string{"--grpc": f.grpc, "--raft": f.raft}), f.checkCare(), f.checkArchive()); err != nil {
		return err
	}
	endPlugins, err := permit(ctx, f.allow, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endPlugins()) }()
	id, fresh, err := serverIdentity(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, id.Close()) }()
	logger = logger.With("node", id.NodeID())
	book := openBook(id.Dir(), logger)

	links, err := f.links(id.NodeID(), logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, links.Close()) }()
	listener, err := links.security.Listen(ctx, f.grpc)
	if err != nil {
		return err
	}
	defer listener.Close()
	addr := listener.Addr().String()

	metrics, err := f.openHTTP(ctx)
	if err != nil {
		return err
	}
	defer metrics.Close()

	// Gossip carries the raft address, which is known only once the replica
	// listens; the replica resolves peers through gossip.
	var rep *replica.Replica
	var mesh *cluster.Mesh
	var peers *paramserver.Peers
	var meshReady sync.WaitGroup
	meshReady.Add(1)
	rep, err = replica.Open(replica.Config{
		Dir: filepath.Join(id.Dir(), raftDir), ID: id.NodeID(), Listen: rebind(f.raft, book.Raft),
		Resolve: func(id string) (string, bool) { meshReady.Wait(); return mesh.Resolve(id) },
		Single:  f.single, Bootstrap: f.init && fresh, Logger: logger,
		ClusterID: id.ClusterID(), Generation: id.Generation(), Dial: links.Dialer(faults.Raft),
		ScrubEvery: f.scrub, ScrubRate: int64(f.rate) << 20,
		SnapshotBytes: f.snapshotBytes, TrailingBytes: min(f.snapshotBytes, 64<<20),
		ReadIndex: func(ctx context.Context) (uint64, error) {
			return peers.ReadIndex(ctx, func() string { id, _ := rep.Leader(); return id })
		},
	})
	if err != nil {
		meshReady.Done()
		return err
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, rep.Shutdown(sctx))
	}()
	preset, err := cluster.PresetByName(f.preset)
	if err == nil {
		mesh, err = cluster.NewMesh(cluster.MeshConfig{
			NodeID: id.NodeID(), ClusterID: id.ClusterID(), Role: f.role,
			Bind: rebind(f.gossip, book.Gossip), GRPCAddr: addr, RaftAddr: rep.Addr(), Level: fsm.Supported(), Preset: preset, Log: logger,
			Security: links.security, Transport: links.transport(),
		})
	}
	if err != nil {
		mesh = nil
		meshReady.Done()
		return err
	}
	meshReady.Done()
	links.Names(faults.Members(mesh))
	defer func() {
		sctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err = errors.Join(err, mesh.Close(sctx))
	}()

	peers = paramserver.NewPeers(mesh, links.dial(faults.RPC))
	defer func() { err = errors.Join(err, peers.Close()) }()
	members := paramserver.NewMembership(paramserver.MembershipConfig{Replica: rep, Mesh: mesh, Peers: peers, Node: id.NodeID(), Rules: f.rules(), Clock: clock.Real{}, Logger: logger})
	segments, err := openArchive(ctx, f.archive, f.role == cluster.RoleLearner, id, rep, mesh, links.dial(faults.RPC), logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, segments.Close(), segments.Store.Close()) }()
	srv := paramserver.NewServer(paramserver.Config{
		Replica: rep, Mesh: mesh, Node: id.NodeID(), Addr: addr, Clock: clock.Real{}, Logger: logger, Peers: peers,
		Dedicated: f.role == cluster.RoleLearner, Idle: f.idle, Journal: links.journal, Telemetry: metrics.Registry,
		Archive: segments, Objects: paramserver.ArchivedObjects(segments, rep), Draw: newEvalDrawer,
	})
	rpc := cluster.NewServer(cluster.ServerOptions{
		ClusterID: id.ClusterID, Security: links.security, Log: logger,
		Refused: func(method, code string) { metrics.Registry.Add(telemetry.BadRequests, 1, method, code) },
	})
	cluster.RegisterMesh(rpc, srv)
	cluster.RegisterParameters(rpc, srv)
	cluster.RegisterMembership(rpc, members)
	cluster.RegisterLearning(rpc, srv)
	cluster.RegisterArchive(rpc, segments)
	metrics.start(telemetry.Probes{Healthy: srv.Healthy, Ready: srv.Ready}, logger, id.NodeID(), id.ClusterID(), string(f.role), version)
	logger.Info("serving", "grpc", addr, "gossip", mesh.Addr(), "raft", rep.Addr(), "cluster", id.ClusterID())
	if f.single {
		logger.Info("one voter has no peers: the loss of its disk is the loss of its jobs")
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loops sync.WaitGroup
	loops.Go(func() {
		if err := rpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			cancel(fmt.Errorf("mesh protocol: %w", err))
		}
	})
	loops.Go(func() {
		if err := srv.Run(ctx); err != nil {
			cancel(err)
		}
	})
	loops.Go(func() {
		if err := members.Run(ctx); err != nil {
			cancel(err)
		}
	})
	loops.Go(func() { segments.Run(ctx) })
	loops.Go(func() { book.keep(ctx, mesh, rep.Addr()) })
	loops.Go(func() { f.seekServers(ctx, mesh, links.dial(faults.RPC), logger) })
	err = enter(ctx, f, id, book, mesh, rep, addr, links)
	if err == nil && ctx.Err() == nil {
		err = atomicfile.WriteBytes(filepath.Join(id.Dir(), votedFile), 0o644, nil)
	}
	if err != nil {
		cancel(err)
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	rpc.Stop() // streams end; workers look for another server
	loops.Wait()
	if errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

// raftDir is the folder of a data directory that holds log and snapshots.
const raftDir = "raft"

// serverIdentity opens the data directory. A new one must be told, by --init or
// --join, which cluster it is to be part of.
func serverIdentity(ctx context.Context, f *serverFlags) (id *cluster.Identity, fresh bool, err error) {
	if unused, err := emptyDir(f.data); err != nil {
		return nil, false, err
	} else if unused && !f.init && len(f.join) == 0 {
		return nil, false, fielderr.New("--join", nil, fmt.Sprintf("the gRPC address of a server of a cluster, or --init to found one, because the folder %s is new", f.data))
	}
	id, err = cluster.LoadOrCreate(f.data)
	if err != nil {
		return nil, false, err
	}
	if id.ClusterID() != "" {
		// Founded, perhaps by `up`, and perhaps never started.
		if fresh, err = neverVoted(id.Dir()); err != nil {
			return nil, false, errors.Join(err, id.Close())
		}
		return id, fresh, nil
	}
	if f.init {
		if err := id.Close(); err != nil {
			return nil, false, err
		}
		id, err = cluster.Init(f.data)
		return id, true, err
	}
	if err := needJoin(f.join); err != nil {
		return nil, false, errors.Join(err, id.Close())
	}
	reply, err := f.introduce(ctx, &wire.JoinRequest{NodeID: id.NodeID()}, cluster.DialOptions{Security: f.security()})
	if err == nil {
		err = id.SetClusterID(reply.ClusterID)
	}
	if err != nil {
		return nil, false, errors.Join(err, id.Close())
	}
	return id, true, nil
}

// votedFile marks a data directory whose log has been part of a quorum.
const votedFile = "voted"

// neverVoted says whether a directory's log is still to begin. One that has
// begun and is gone is damage: a voter that came back under its old ID without
// its log could vote twice in one term and lose a committed entry.
func neverVoted(dir string) (bool, error) {
	log := filepath.Join(dir, raftDir)
	used, err := replica.Initialised(log)
	if err != nil {
		return false, err
	}
	if !used && exists(dir, votedFile) {
		return false, fmt.Errorf("%w: %s: the log that this node had is gone; move %s away and start a server with a new directory and --join (one voter alone cannot be replaced: its jobs are lost)", replica.ErrDamaged, log, dir)
	}
	return !used, nil
}

// emptyDir says whether a directory is missing or empty.
func emptyDir(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}
