package replica

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/hashicorp/raft"
)

// scrubStep is how much is read or hashed between two pauses.
const scrubStep = 1 << 20

// firstScrub is when the first pass begins after the start, which has verified
// log and newest snapshot already.
const firstScrub = time.Minute

// ScrubReport says what a pass has looked at.
type ScrubReport struct {
	Entries   int   // of the log
	Snapshots int   // files
	Blobs     int   // of jobs, in memory
	Bytes     int64 // of all of these
	Took      time.Duration
}

// Scrub reads the whole log, the snapshot files, and the state in memory once, at
// Config.ScrubRate, and compares all with their checksums. Damage stops the
// replica and is returned as ErrDamaged: nothing else would notice it before the
// bytes are needed. The replica also scrubs by itself every Config.ScrubEvery.
func (r *Replica) Scrub(ctx context.Context) (ScrubReport, error) {
	if !r.enter() {
		return ScrubReport{}, ErrClosed
	}
	defer r.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	s := &scrubber{r: r, start: time.Now()}
	err := errors.Join(s.log(ctx), s.snapshots(ctx), s.blobs(ctx))
	s.Took = time.Since(s.start)
	switch {
	case errors.Is(err, ErrDamaged):
		r.fail(err)
		return s.ScrubReport, err
	case ctx.Err() != nil:
		return s.ScrubReport, context.Cause(ctx)
	}
	return s.ScrubReport, err
}

// scrubLoop scrubs until the replica ends.
func (r *Replica) scrubLoop() {
	timer := time.NewTimer(min(firstScrub, r.cfg.ScrubEvery))
	defer timer.Stop()
	for {
		select {
		case <-r.life.Done():
			return
		case <-timer.C:
		}
		report, err := r.Scrub(r.life)
		switch {
		case err == nil:
			r.log.Info("scrubbed: all bytes are as they were written", "entries", report.Entries, "snapshots", report.Snapshots,
				"blobs", report.Blobs, "bytes", report.Bytes, "took", report.Took.Round(time.Millisecond))
		case r.life.Err() == nil:
			r.log.Warn("scrub did not finish", "error", err)
		}
		timer.Reset(r.cfg.ScrubEvery)
	}
}

// enter makes Shutdown wait until r.wg.Done is called; false after Shutdown.
func (r *Replica) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Add(1)
	return true
}

type scrubber struct {
	r     *Replica
	start time.Time
	ScrubReport
}

// pace counts bytes and waits as long as they are ahead of the rate.
func (s *scrubber) pace(ctx context.Context, n int) error {
	s.Bytes += int64(n)
	due := time.Duration(float64(s.Bytes) / float64(s.r.cfg.ScrubRate) * float64(time.Second))
	ahead := due - time.Since(s.start)
	if ahead < 10*time.Millisecond {
		return ctx.Err()
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *scrubber) log(ctx context.Context) error {
	store := s.r.store
	if store == nil {
		return nil // in memory
	}
	first, last, err := store.bounds()
	if err != nil {
		return err
	}
	var l raft.Log
	for i := first; i <= last && last > 0; i++ {
		if err := store.read(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			// The log moves on while it is read: its head goes into snapshots, and
			// a follower's end may be replaced.
			low, high, err := store.bounds()
			if err != nil {
				return err
			}
			if i >= low && i <= high {
				return damaged("log entry %d is missing", i)
			}
			i = max(i, low-1)
			continue
		} else if err != nil {
			return err
		}
		s.Entries++
		if err := s.pace(ctx, len(l.Data)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scrubber) snapshots(ctx context.Context) error {
	if s.r.store == nil {
		return nil
	}
	names, err := snapshotNames(s.r.cfg.Dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		err := s.snapshot(ctx, n)
		if errors.Is(err, ErrDamaged) {
			// Unless it was superseded and deleted meanwhile.
			if left, lerr := snapshotNames(s.r.cfg.Dir); lerr == nil && !slices.Contains(left, n) {
				continue
			}
		}
		if err != nil {
			return err
		}
		s.Snapshots++
	}
	return nil
}

func (s *scrubber) snapshot(ctx context.Context, n snapshotName) error {
	dir := filepath.Join(s.r.cfg.Dir, snapshotsName, n.name)
	text, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return unread(n, err)
	}
	var meta struct{ CRC []byte } // as raft's file store writes it
	if err := json.Unmarshal(text, &meta); err != nil {
		return unread(n, err)
	}
	f, err := os.Open(filepath.Join(dir, "state.bin"))
	if err != nil {
		return unread(n, err)
	}
	defer f.Close()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	for {
		copied, err := io.CopyN(sum, f, scrubStep)
		if err != nil && !errors.Is(err, io.EOF) {
			return unread(n, err)
		}
		if perr := s.pace(ctx, int(copied)); perr != nil {
			return perr
		}
		if err != nil {
			break
		}
	}
	if got := sum.Sum(nil); !slices.Equal(got, meta.CRC) {
		return damaged("snapshot %s at index %d has checksum %x, stored %x", n.name, n.index, got, meta.CRC)
	}
	return nil
}

// unread says what it means that a snapshot file cannot be read; see unopened.
func unread(n snapshotName, err error) error {
	if refused(err) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read snapshot %s: %w", n.name, err)
	}
	return damaged("snapshot %s at index %d: %w", n.name, n.index, err)
}

// blobs rehashes the parameters and private states that the replica holds in
// memory: a bit that flipped there would be served, and go into every snapshot.
func (s *scrubber) blobs(ctx context.Context) error {
	var jobs []*fsm.Job
	var index uint64
	s.r.Read(func(st *fsm.State) { jobs, index = st.Jobs(), st.Index() })
	for _, j := range jobs {
		if !j.HasState {
			continue
		}
		params, err := s.digest(ctx, j.Params)
		if err != nil {
			return err
		}
		private, err := s.digest(ctx, j.Private)
		if err != nil {
			return err
		}
		s.Blobs += 2
		switch {
		case params != j.ParamsHash:
			return damaged("in memory: the parameters of job %q, version %d, are not what was committed (state at index %d)", j.ID, j.Version, index)
		case sha256.Sum256(append(params[:], private[:]...)) != j.StateHash:
			return damaged("in memory: the private state of job %q, version %d, is not what was committed (state at index %d)", j.ID, j.Version, index)
		}
	}
	return nil
}

func (s *scrubber) digest(ctx context.Context, blob []byte) (out fsm.Hash, err error) {
	var h hash.Hash = sha256.New()
	for part := range slices.Chunk(blob, scrubStep) {
		h.Write(part)
		if err := s.pace(ctx, len(part)); err != nil {
			return out, err
		}
	}
	h.Sum(out[:0])
	return out, nil
}
