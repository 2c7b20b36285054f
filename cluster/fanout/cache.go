package fanout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/internal/filelock"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Cache is a folder that the worker processes of one machine share. For each
// job one of them, the holder, follows the mesh and writes every version to a
// file; the others follow the holder and open its files. The kernel frees a
// dead holder's lock, and another process takes over.
//
//	id                 names the folder, so that processes know that they share it
//	<job>.lock         locked by the holder
//	<job>.holder       its gRPC address
//	<job>-<version>…   one snapshot, complete and verified, never rewritten
type Cache struct {
	dir string
	id  string
}

// DefaultCacheDir is the folder that the processes of one user share for a
// cluster: in memory, where the system has such a place.
func DefaultCacheDir(clusterID string) string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "driftmesh", clusterID)
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("driftmesh-%d", os.Getuid()), clusterID)
}

// OpenCache opens the folder, made if missing. It must be its user's own,
// because workers sample with what lies there. Processes that cannot reach each
// other's addresses, in other network namespaces, share no cache: each
// namespace has a subfolder.
func OpenCache(dir string) (*Cache, error) {
	if ns, err := os.Readlink("/proc/self/ns/net"); err == nil {
		dir = filepath.Join(dir, strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, ns))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("parameter cache: %w", err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err == nil {
		err = private(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("parameter cache: %w", err)
	}
	c := &Cache{dir: dir}
	path := filepath.Join(dir, "id")
	id, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := c.name(path); err != nil {
			return nil, fmt.Errorf("parameter cache: %w", err)
		}
		id, err = os.ReadFile(path)
	}
	if err == nil {
		err = uuid.Validate(string(id))
	}
	if err != nil {
		return nil, fmt.Errorf("parameter cache: %s: %w", path, err)
	}
	c.id = string(id)
	return c, nil
}

// name gives the folder its ID; of several processes the first one does.
func (c *Cache) name(path string) error {
	tmp, err := c.temp(func(w io.Writer) error {
		_, err := io.WriteString(w, uuid.NewString())
		return err
	})
	if err != nil {
		return err
	}
	err = os.Link(tmp, path)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(tmp))
}

// ID names the folder, whoever opens it.
func (c *Cache) ID() string { return c.id }

// temp writes a file that nobody looks for yet. It is not synced: a cache has
// nothing to say after a crash of the machine.
func (c *Cache) temp(fill func(io.Writer) error) (string, error) {
	f, err := os.CreateTemp(c.dir, ".tmp-*")
	if err != nil {
		return "", err
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// place is temp and a rename.
func (c *Cache) place(name string, content []byte) error {
	tmp, err := c.temp(func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, name)); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// prefix stands for a job, whose name may hold anything, in names of files.
func prefix(job string) string {
	sum := sha256.Sum256([]byte(job))
	return hex.EncodeToString(sum[:8])
}

// holder returns the address of the process that holds a job, "" if none does.
func (c *Cache) holder(job string) (string, error) {
	f, err := os.Open(filepath.Join(c.dir, prefix(job)+".holder"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("parameter cache: %w", err)
	}
	defer f.Close()
	addr, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", fmt.Errorf("parameter cache: %w", err)
	}
	return string(addr), nil
}

// open reads a snapshot that the holder named. It may be gone: a newer one has
// come.
func (c *Cache) open(job, file string, size int64) ([]byte, error) {
	if file != filepath.Base(file) || !strings.HasPrefix(file, prefix(job)+"-") {
		return nil, fmt.Errorf("%w: a snapshot in file %q", wire.ErrFrame, file)
	}
	f, err := os.Open(filepath.Join(c.dir, file))
	if err != nil {
		return nil, fmt.Errorf("parameter cache: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("parameter cache: %w", err)
	} else if info.Size() != size {
		return nil, fmt.Errorf("%w: %s has %d bytes, its head says %d", ErrWrongBytes, file, info.Size(), size)
	}
	data := make([]byte, size) // the caller has checked the cap, and so much is there
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("parameter cache: %w", err)
	}
	return data, nil
}

// keptFiles is how many snapshots of a job stay, so that a process that was told
// of one finds it although the next has come.
const keptFiles = 2

// holding is a job's lock in this process.
type holding struct {
	cache *Cache
	job   string

	mu    sync.Mutex
	lock  *os.File // nil once released
	files []string // written, oldest first
}

// hold takes a job's lock and tells the others where they find it. It fails
// with filelock.ErrHeld while another process has it.
func (c *Cache) hold(job, addr string) (*holding, error) {
	lock, err := filelock.Acquire(filepath.Join(c.dir, prefix(job)+".lock"))
	if err != nil {
		return nil, fmt.Errorf("parameter cache: %w", err)
	}
	h := &holding{cache: c, job: job, lock: lock}
	// What a dead holder left is nobody's: its followers have lost it by now.
	old, err := filepath.Glob(filepath.Join(c.dir, prefix(job)+"-*"))
	for _, path := range old {
		err = errors.Join(err, os.Remove(path))
	}
	if err = errors.Join(err, c.place(prefix(job)+".holder", []byte(addr))); err != nil {
		return nil, errors.Join(fmt.Errorf("parameter cache: %w", err), lock.Close())
	}
	return h, nil
}

// write puts a verified snapshot into a file and returns its name; those before
// the last one go. A process that has one open keeps it.
func (h *holding) write(s *Snapshot) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lock == nil {
		return "", errors.New("parameter cache: released")
	}
	p := s.Position()
	name := fmt.Sprintf("%s-%d-%d-%x", prefix(h.job), p.Generation, p.Version, s.Head.Hash[:min(4, len(s.Head.Hash))])
	if slices.Contains(h.files, name) {
		return name, nil
	}
	if err := h.cache.place(name, s.Data); err != nil {
		return "", fmt.Errorf("parameter cache: %w", err)
	}
	h.files = append(h.files, name)
	for len(h.files) > keptFiles {
		if err := os.Remove(filepath.Join(h.cache.dir, h.files[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("parameter cache: %w", err)
		}
		h.files = h.files[1:]
	}
	return name, nil
}

// release lets another process hold the job.
func (h *holding) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, name := range append(h.files, prefix(h.job)+".holder") {
		if err := os.Remove(filepath.Join(h.cache.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	lock := h.lock
	h.lock = nil
	if err := errors.Join(append(errs, lock.Close())...); err != nil {
		return fmt.Errorf("parameter cache: %w", err)
	}
	return nil
}
