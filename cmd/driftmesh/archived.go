package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// jobArchive is a job's archive and its best objects.
type jobArchive interface {
	archive.Source
	best(context.Context) (*wire.BestReply, error)
	io.Closer
}

// openJob opens the archive of a job of a running cluster, or of a run of `up`
// whose folder is named.
func openJob(ctx context.Context, f *clientFlags, of string) (jobArchive, error) {
	if exists(of, meshDir) {
		return openStill(of)
	}
	if strings.ContainsRune(of, os.PathSeparator) || holdsRun(of) { // no job's name
		return nil, userFault{fmt.Errorf("%s: no archive: %w; want the folder of a run of driftmesh up, or the name of a job and --server", of, fs.ErrNotExist)}
	}
	return openRemote(ctx, f, of)
}

// remoteArchive reads a job's archive through the servers of a cluster.
type remoteArchive struct {
	clients   *cluster.Leader
	clusterID string
	job       string
	addrs     []string
}

func openRemote(ctx context.Context, f *clientFlags, job string) (*remoteArchive, error) {
	leader, known, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	r := &remoteArchive{clients: leader, clusterID: known.ClusterID, job: job, addrs: slices.Clone(f.servers)}
	for _, s := range known.Servers { // when the one that was named dies
		if s.Alive && !slices.Contains(r.addrs, s.Addr) {
			r.addrs = append(r.addrs, s.Addr)
		}
	}
	return r, nil
}

// Close ends every connection.
func (r *remoteArchive) Close() error { return r.clients.Close() }

// Manifest implements archive.Source.
func (r *remoteArchive) Manifest(ctx context.Context) (m *archive.Manifest, err error) {
	err = tryServers(ctx, r.clients, r.addrs, func(ctx context.Context, c *cluster.Client) error {
		m = &archive.Manifest{Job: r.job}
		return errors.Join(c.Manifest(ctx, &wire.ManifestRequest{ClusterID: r.clusterID, Job: r.job}, m.Take))
	})
	if err == nil {
		err = m.Whole()
	}
	return m, err
}

// Fetch implements archive.Source. Bytes that arrive damaged are asked of
// another server.
func (r *remoteArchive) Fetch(ctx context.Context, g *fsm.Segment) (data []byte, err error) {
	req := &wire.GetSegmentRequest{ClusterID: r.clusterID, Segment: *archive.SegmentName(r.job, g), Anywhere: true}
	err = tryServers(ctx, r.clients, r.addrs, func(ctx context.Context, c *cluster.Client) error {
		data, err = c.GetSegment(ctx, req)
		if errors.Is(err, wire.ErrFrame) {
			return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
		}
		return err
	})
	return data, err
}

// best asks for the best objects of the replicated state.
func (r *remoteArchive) best(ctx context.Context) (reply *wire.BestReply, err error) {
	err = tryServers(ctx, r.clients, r.addrs, func(ctx context.Context, c *cluster.Client) error {
		reply, err = c.Best(ctx, &wire.BestRequest{ClusterID: r.clusterID, Job: r.job})
		return err
	})
	return reply, err
}

// stillArchive reads the archive of a run whose servers have ended: the state of
// the one whose log goes furthest, and the segments of all.
type stillArchive struct {
	job    *fsm.Job
	state  *fsm.State
	stores []*archive.Store
}

// openStill changes nothing in the folder of the run.
func openStill(run string) (_ *stillArchive, err error) {
	dirs, err := filepath.Glob(filepath.Join(run, meshDir, "server-*", raftDir))
	if err != nil || len(dirs) == 0 {
		return nil, errors.Join(err, userFault{fmt.Errorf("%s holds no server of a mesh; its archive is on a cluster: want a job's name and --server", run)})
	}
	scratch, err := os.MkdirTemp("", "driftmesh-archive-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	r := &stillArchive{}
	last := uint64(0)
	for _, dir := range dirs {
		s, err := replica.Salvage(dir, scratch)
		if err != nil {
			return nil, errors.Join(userFault{fmt.Errorf("%w; while the run goes on, want its job's name and --server", err)}, r.Close())
		}
		if s.Damage == nil && s.Last >= last {
			r.state, last = s.State, s.Last
		}
		segments := filepath.Join(filepath.Dir(dir), archiveDir)
		if !exists(segments) {
			continue
		}
		store, err := archive.OpenStill(segments)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.stores = append(r.stores, store)
	}
	if r.state == nil || len(r.state.Jobs()) != 1 {
		return nil, errors.Join(userFault{fmt.Errorf("%s: no server's log is whole, or there is not one job in it", run)}, r.Close())
	}
	r.job = r.state.Jobs()[0]
	return r, nil
}

// Manifest implements archive.Source.
func (r *stillArchive) Manifest(context.Context) (*archive.Manifest, error) {
	m := archive.ManifestOf(r.state, r.job)
	return &m, nil
}

// Fetch implements archive.Source.
func (r *stillArchive) Fetch(ctx context.Context, g *fsm.Segment) ([]byte, error) {
	errs := []error{fmt.Errorf("segment %s is on no server of the run", g.ID)}
	for _, s := range r.stores {
		data, err := s.Get(ctx, archive.SegmentName(r.job.ID, g))
		if err == nil {
			return data, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (r *stillArchive) best(context.Context) (*wire.BestReply, error) {
	return archive.BestOf(r.state, r.job), nil
}

// Close releases the folders.
func (r *stillArchive) Close() error {
	var errs []error
	for _, s := range r.stores {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
