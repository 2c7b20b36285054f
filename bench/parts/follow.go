package parts

import (
	"context"
	"errors"
	"flag"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// use is the first use of a version in a process.
type use struct {
	Version uint64  `json:"version"`
	Stamp   int64   `json:"stamp"` // of the learner, when it proposed the version; Unix nanoseconds
	At      int64   `json:"at"`    // Unix nanoseconds
	Sum     float64 `json:"sum"`   // of the parameters: every one was read
}

// runFollow is a worker node that follows a job's parameters as samplers do, and
// does nothing with them but read them once.
func runFollow(ctx context.Context, args []string) (err error) {
	fl := flag.NewFlagSet("follow", flag.ContinueOnError)
	id := fl.String("cluster", "", "cluster `UUID`")
	join := fl.String("join", "", "gRPC `address` of a server")
	jobID := fl.String("job", "", "`job` to follow")
	dir := fl.String("cache", "", "`folder` that the followers share")
	profile := fl.String("profile", "", "CPU profile `file`")
	if err := fl.Parse(args); err != nil {
		return err
	}
	stop, err := Profiled(*profile)
	if err != nil {
		return err
	}
	defer stop()
	node := uuid.NewString()
	client, err := cluster.Dial(*join, cluster.DialOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	reply, err := client.Join(ctx, &wire.JoinRequest{ClusterID: *id, NodeID: node})
	if err != nil {
		return err
	}
	cache, err := fanout.OpenCache(*dir)
	if err != nil {
		return err
	}
	listener, err := cluster.Security{}.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	mesh, err := cluster.NewMesh(cluster.MeshConfig{
		NodeID: node, ClusterID: *id, Role: cluster.RoleWorker, Bind: "127.0.0.1:0",
		GRPCAddr: listener.Addr().String(), Group: cache.ID(), Preset: cluster.Local(),
	})
	if err != nil {
		return err
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err = errors.Join(err, mesh.Close(sctx))
	}()
	if err := mesh.Join(ctx, reply.Gossip...); err != nil {
		return err
	}
	servers := func() (out []string) {
		for _, m := range mesh.Members() {
			if m.Role == cluster.RoleServer {
				out = append(out, m.GRPCAddr)
			}
		}
		return append(out, *join)
	}
	leader := cluster.NewLeader(*id, servers, cluster.DialOptions{})
	defer leader.Close()
	if _, err := leader.Find(ctx); err != nil {
		return err
	}
	parameters := fanout.NewNode(fanout.Config{
		ClusterID: *id, Node: node, Addr: listener.Addr().String(), Mesh: mesh, Leader: leader.Known, Cache: cache,
	})
	defer parameters.Close()
	rpc := cluster.NewServer(cluster.ServerOptions{ClusterID: func() string { return *id }})
	cluster.RegisterParameters(rpc, parameters)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer rpc.Stop()
	serving.Go(func() {
		if err := rpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			Say(Ready{Addr: err.Error()})
		}
	})
	published, err := parameters.Subscribe(*jobID)
	if err != nil {
		return err
	}
	defer published.Close()
	if err := Say(Ready{Node: node}); err != nil {
		return err
	}
	return follow(ctx, published)
}

// follow uses every version once, as soon as it is there.
func follow(ctx context.Context, published *fanout.Subscription) error {
	var last wire.Position
	for {
		snapshot, changed := published.Latest()
		if snapshot != nil && last.Before(snapshot.Position()) {
			last = snapshot.Position()
			params, err := snapshot.Params()
			if err != nil {
				return err
			}
			sum := 0.0
			for _, x := range params {
				sum += float64(x)
			}
			if err := Say(use{Version: last.Version, Stamp: snapshot.Head.Stamp, At: time.Now().UnixNano(), Sum: sum}); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-published.Ended():
			return published.Err()
		case <-ctx.Done():
			return nil
		}
	}
}
