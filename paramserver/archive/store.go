package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// ErrNotHeld: the segment is not in this store.
var ErrNotHeld = errors.New("archive segment is not held")

// Store holds the segments of all jobs: in a folder of this node, or in a bucket
// that all nodes share. It is safe for concurrent use.
type Store struct {
	bucket *blob.Bucket
	root   string // folder; "" for a bucket
	shared bool
	still  bool     // changes nothing
	synced sync.Map // jobs' folders whose names are durable
}

// suffix is the end of a segment's file name; damaged is what is added to one
// whose bytes are not what they were.
const (
	suffix  = ".parquet"
	damaged = ".damaged"
)

// OpenFolder opens the segments of this node in a folder, and makes it. One
// process at a time may.
func OpenFolder(dir string) (*Store, error) {
	s, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	for _, pattern := range []string{".*.tmp-*", "*.tmp"} { // half-written at a crash; the second by fileblob, once
		leftovers, lerr := filepath.Glob(filepath.Join(dir, "*", pattern))
		err = errors.Join(err, lerr)
		for _, path := range leftovers {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

func openFolder(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	bucket, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o755})
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", dir, err)
	}
	s := &Store{bucket: bucket, root: dir}
	if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("archive %s: %w", dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

// OpenStill opens the segments in a folder that no process uses, to read them and
// change nothing.
func OpenStill(dir string) (*Store, error) {
	bucket, err := fileblob.OpenBucket(dir, nil)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", dir, err)
	}
	return &Store{bucket: bucket, root: dir, still: true}, nil
}

// Shared says whether all nodes use the same store.
func (s *Store) Shared() bool { return s.shared }

// Close releases the store.
func (s *Store) Close() error {
	if err := s.bucket.Close(); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

func key(job, id string) (string, error) {
	if err := wire.CheckFileName("job", job); err != nil {
		return "", err
	}
	if err := wire.CheckFileName("segment", id); err != nil {
		return "", err
	}
	return job + "/" + id + suffix, nil
}

// Put writes a segment and returns once it would survive a power cut. Repeating
// it is harmless.
func (s *Store) Put(ctx context.Context, job, id string, data []byte) error {
	k, err := key(job, id)
	if err != nil {
		return err
	}
	if s.root != "" {
		err = s.writeFile(ctx, k, data)
	} else {
		err = s.upload(ctx, k, data)
	}
	if err != nil {
		return fmt.Errorf("archive: write %s: %w", k, err)
	}
	return nil
}

// upload writes a blob. One that could not be written whole is given up before it
// is closed: closing is what makes it appear under its name.
func (s *Store) upload(ctx context.Context, k string, data []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, k, &blob.WriterOptions{ContentType: "application/vnd.apache.parquet"})
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		cancel()
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

// writeFile writes a blob of a folder. fileblob would not do: it syncs nothing, so
// that a power cut could leave a name with nothing behind it, and so can its
// WriteAll on a full disk.
func (s *Store) writeFile(ctx context.Context, k string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := s.path(k)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(path, 0o644, data); err != nil {
		return err
	}
	if _, known := s.synced.Load(dir); known {
		return nil
	}
	err := atomicfile.SyncDir(s.root) // the job's folder may be new
	if err == nil {
		s.synced.Store(dir, true)
	}
	return err
}

func (s *Store) path(k string) string { return filepath.Join(s.root, filepath.FromSlash(k)) }

// Get returns a segment, its hash compared: ErrNotHeld where it is missing, and
// ErrSegment where its bytes are not what they were; those are put aside.
func (s *Store) Get(ctx context.Context, n *wire.SegmentName) ([]byte, error) {
	k, err := key(n.Job, n.ID)
	if err != nil {
		return nil, err
	}
	data, err := s.read(ctx, k, n.Size)
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return nil, fmt.Errorf("%w: %s", ErrNotHeld, k)
	case err != nil && !errors.Is(err, wire.ErrFrame):
		return nil, fmt.Errorf("archive: read %s: %w", k, err)
	}
	if err == nil {
		err = wire.CheckSegment(n, data)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSegment, k, errors.Join(err, s.putAside(k)))
	}
	return data, nil
}

// read returns a blob of a known size; one of another size is wire.ErrFrame.
func (s *Store) read(ctx context.Context, k string, size int64) ([]byte, error) {
	r, err := s.bucket.NewReader(ctx, k, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() != size || size > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes; want %d", wire.ErrFrame, r.Size(), size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	return data, nil
}

// putAside renames what is damaged: it counts as missing from now on, and
// whoever wants to look at it can.
func (s *Store) putAside(k string) error {
	if s.shared || s.still {
		return nil // another reader's network may be at fault
	}
	return os.Rename(s.path(k), s.path(k+damaged))
}

// Size is the size of a segment in bytes, −1 where it is not here. Its bytes are
// not looked at.
func (s *Store) Size(ctx context.Context, job, id string) (int64, error) {
	k, err := key(job, id)
	if err != nil {
		return 0, err
	}
	a, err := s.bucket.Attributes(ctx, k)
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return -1, nil
	case err != nil:
		return 0, fmt.Errorf("archive: look for %s: %w", k, err)
	}
	return a.Size, nil
}

// Delete removes a segment, and what was put aside of it.
func (s *Store) Delete(ctx context.Context, job, id string) error {
	k, err := key(job, id)
	if err != nil {
		return err
	}
	for _, k := range []string{k, k + damaged} {
		if err := s.bucket.Delete(ctx, k); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return fmt.Errorf("archive: delete %s: %w", k, err)
		}
	}
	return nil
}

// Blob is one segment as a store has it.
type Blob struct {
	ID      string
	Size    int64
	ModTime time.Time
	Damaged bool // put aside
}

// List returns what the store has of a job, by ID.
func (s *Store) List(ctx context.Context, job string) ([]Blob, error) {
	if err := wire.CheckFileName("job", job); err != nil {
		return nil, err
	}
	var out []Blob
	for it := s.bucket.List(&blob.ListOptions{Prefix: job + "/"}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			slices.SortFunc(out, func(a, b Blob) int { return strings.Compare(a.ID, b.ID) })
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("archive: list %s: %w", job, err)
		}
		name, aside := strings.CutSuffix(strings.TrimPrefix(o.Key, job+"/"), damaged)
		if id, ok := strings.CutSuffix(name, suffix); ok {
			out = append(out, Blob{ID: id, Size: o.Size, ModTime: o.ModTime, Damaged: aside})
		}
	}
}

// SegmentName is how a listed segment is asked for.
func SegmentName(job string, g *fsm.Segment) *wire.SegmentName {
	return &wire.SegmentName{Job: job, ID: g.ID, Hash: g.Hash[:], Size: g.Bytes}
}

// promise names content as it is.
func promise(job, id string, data []byte) *wire.SegmentName {
	hash := sha256.Sum256(data)
	return &wire.SegmentName{Job: job, ID: id, Hash: hash[:], Size: int64(len(data))}
}
