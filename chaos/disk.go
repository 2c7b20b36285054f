package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
)

// diskSize is that of the small file system, in bytes: some segments of the log
// and some snapshots.
const diskSize = 192 << 20

func diskDir(dir string) string { return filepath.Join(dir, "disk") }

// Unmount takes away the small file system of a torture in dir that was killed.
func Unmount(dir string) error {
	switch err := syscall.Unmount(diskDir(dir), 0); {
	case err == nil, errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EPERM): // there is none
		return nil
	default:
		return fmt.Errorf("unmount %s: %w", diskDir(dir), err)
	}
}

// mount gives one server a small file system of its own, where that is possible
// and asked for.
func (t *torture) mount() error {
	if os.Geteuid() != 0 || len(t.Kinds) > 0 && !slices.Contains(t.Kinds, "full-disk") || t.Servers < 3 {
		return nil
	}
	dir := diskDir(t.Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Log("no small file system: %v", err)
		return nil
	}
	t.disk = fmt.Sprintf("server-%d", t.Servers)
	t.unmount = func() error { return Unmount(t.Dir) }
	return nil
}

func (t *torture) dirOf(name string) string {
	if name == t.disk {
		return filepath.Join(diskDir(t.Dir), name)
	}
	return filepath.Join(t.Dir, "mesh", name)
}

// fullDisk fills the small file system until the server that lives on it stops,
// frees it, and starts the server again.
func fullDisk(ctx context.Context, a *attempt) error {
	n := a.rig.Node(a.disk)
	if n == nil {
		return fmt.Errorf("%w: filling a disk needs root, for a small file system", errSkip)
	}
	filler := filepath.Join(diskDir(a.Dir), "filler")
	a.note("%s", n.Name)
	exited, _ := n.Exit()
	err := a.strike(ctx, func() error { return fill(filler) })
	select {
	case <-exited:
		a.note("stopped: %.200s", lastLine(n.Tail(2000)))
	case <-time.After(a.Recovery): // it has room in what it holds, and goes on
		a.note("did not need space")
		a.missed = true
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	a.to = time.Now()
	err = errors.Join(err, os.Remove(filler))
	if !n.Running() {
		if text := n.Tail(2000); err == nil && !strings.Contains(text, "no space left") {
			err = fmt.Errorf("%s stopped on a full disk without saying so: %s", n.Name, lastLine(text))
		}
		err = errors.Join(err, a.rig.Restart(n))
	}
	return err
}

// fill writes a file until there is no space left.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for {
		if _, err = f.Write(block); err != nil {
			if len(block) == 1 {
				break
			}
			block = block[:max(1, len(block)/16)]
		}
	}
	if err = errors.Join(f.Close()); errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return err
}

func lastLine(text string) string {
	return text[strings.LastIndex(text, "\n")+1:]
}

// flipBytes damages the log of a server that was killed, or its newest snapshot,
// or both. It must refuse to start; then another one takes its place, in a new
// directory and under a new identity.
func flipBytes(ctx context.Context, a *attempt) error {
	var candidates []*Node
	for _, n := range a.rig.Nodes(cluster.RoleServer) {
		if n.Name != a.disk {
			candidates = append(candidates, n)
		}
	}
	n := a.pick(candidates)
	id, err := n.ID()
	if err != nil {
		return err
	}
	a.note("%s", n.Name)
	if err := a.strike(ctx, n.Kill); err != nil {
		return err
	}
	damaged, err := a.damage(n.Dir)
	if err != nil {
		return err
	}
	if len(damaged) == 0 { // it has written next to nothing yet
		a.missed = true
		return a.rig.Restart(n)
	}
	a.note("damaged %s", strings.Join(damaged, " "))
	if err := a.rig.Restart(n); err != nil {
		return err
	}
	exited, code := n.Exit()
	select {
	case <-exited:
	case <-time.After(a.Recovery):
		return fmt.Errorf("%w: %s serves with a damaged log", ErrDamageUnseen, n.Name)
	case <-ctx.Done():
		return ctx.Err()
	}
	if text := n.Tail(4000); code() == 0 || !strings.Contains(text, "damaged") {
		return fmt.Errorf("%w: %s ended with code %d and said %s", ErrDamageUnseen, n.Name, code(), lastLine(text))
	}
	if err := a.rig.Forget(n); err != nil {
		return err
	}
	fresh, err := a.rig.Add(cluster.RoleServer)
	if err != nil {
		return err
	}
	a.note("replaced by %s", fresh.Name)
	return a.within(ctx, a.Recovery, func(ctx context.Context) error { return a.rig.Replaced(ctx, id, fresh) })
}

// ErrDamageUnseen: a server started on damaged files as if nothing had happened.
var ErrDamageUnseen = errors.New("damage was not detected")

// damage flips bytes of every file of the log, of the newest snapshot, or of
// both, and returns the names of those files.
func (a *attempt) damage(dir string) (names []string, err error) {
	log, err := filepath.Glob(filepath.Join(dir, "raft", "log", "*.wal"))
	if err != nil {
		return nil, err
	}
	snapshots, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*-*", "state.bin"))
	if err != nil {
		return nil, err
	}
	snapshots = slices.DeleteFunc(snapshots, func(path string) bool { return strings.HasSuffix(filepath.Dir(path), ".tmp") })
	paths := log
	if len(snapshots) > 0 {
		newest := slices.MaxFunc(snapshots, func(x, y string) int { return cmp.Compare(modified(x), modified(y)) })
		paths = [][]string{log, {newest}, append(log, newest)}[a.random.IntN(3)]
	}
	for _, path := range paths {
		flipped, err := a.flip(path)
		if err != nil {
			return names, err
		}
		if flipped {
			names = append(names, filepath.Base(path))
		}
	}
	return names, nil
}

func modified(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// flip changes bytes in the last quarter of what was written to a file, if that
// is more than a header. What stands at the beginning of a log is no longer part
// of it, perhaps: a snapshot took its place.
func (a *attempt) flip(path string) (bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	end := len(data) // segments are allocated ahead: what is written ends before
	for end > 0 && data[end-1] == 0 {
		end--
	}
	if end < 1024 {
		return false, nil
	}
	for range 16 {
		data[end-1-a.random.IntN(end/4)] ^= byte(1 + a.random.IntN(255))
	}
	return true, os.WriteFile(path, data, 0o600)
}
