package replica

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// faultyLog is raft's in-memory log with failures on request.
type faultyLog struct {
	*raft.InmemStore
	failing error
}

func (f *faultyLog) StoreLogs(logs []*raft.Log) error {
	if f.failing != nil {
		return f.failing
	}
	return f.InmemStore.StoreLogs(logs)
}

func (f *faultyLog) Close() error { return nil }

// mutate changes a stored entry behind the store's back.
func (f *faultyLog) mutate(t *testing.T, index uint64, change func(*raft.Log)) {
	t.Helper()
	var l raft.Log
	if err := f.GetLog(index, &l); err != nil {
		t.Fatal(err)
	}
	l.Data, l.Extensions = bytes.Clone(l.Data), bytes.Clone(l.Extensions)
	change(&l)
	if err := f.InmemStore.StoreLog(&l); err != nil {
		t.Fatal(err)
	}
}

// checked returns a store with entries 1 to n, and the failures it reported.
func checked(t *testing.T, n uint64) (*checkedStore, *faultyLog, *[]error) {
	t.Helper()
	tail, err := openTail(filepath.Join(t.TempDir(), tailName))
	if err != nil {
		t.Fatal(err)
	}
	below := &faultyLog{InmemStore: raft.NewInmemStore()}
	var failures []error
	s := &checkedStore{wal: below, tail: tail, fail: func(err error) { failures = append(failures, err) }}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	for i := uint64(1); i <= n; i++ {
		if err := s.StoreLog(&raft.Log{Index: i, Term: 1 + i/4, Data: []byte{byte(i), 7}, Extensions: []byte("e")}); err != nil {
			t.Fatal(err)
		}
	}
	return s, below, &failures
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	s, _, failures := checked(t, 5)
	var l raft.Log
	if err := s.GetLog(3, &l); err != nil || !bytes.Equal(l.Data, []byte{3, 7}) || string(l.Extensions) != "e" {
		t.Fatalf("%+v, %v", l, err)
	}
	if err := s.GetLog(9, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatal(err)
	}
	if err := s.verify(0); err != nil {
		t.Fatal(err)
	}
	if !s.IsMonotonic() || len(*failures) != 0 {
		t.Fatal(*failures)
	}
}

func TestADamagedEntryIsFoundOnEveryRead(t *testing.T) {
	for name, change := range map[string]func(*raft.Log){
		"data":     func(l *raft.Log) { l.Data[1] ^= 1 },
		"length":   func(l *raft.Log) { l.Data = l.Data[:1] },
		"term":     func(l *raft.Log) { l.Term++ },
		"type":     func(l *raft.Log) { l.Type = raft.LogNoop },
		"checksum": func(l *raft.Log) { l.Extensions[len(l.Extensions)-1] ^= 1 },
		"missing":  func(l *raft.Log) { l.Extensions = nil },
	} {
		s, below, failures := checked(t, 5)
		below.mutate(t, 3, change)
		var l raft.Log
		if err := s.GetLog(3, &l); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if len(*failures) != 1 {
			t.Errorf("%s: the node was told %d times", name, len(*failures))
		}
		if err := s.verify(0); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAShorterLogIsFound(t *testing.T) {
	s, below, _ := checked(t, 5)
	if err := below.InmemStore.DeleteRange(5, 5); err != nil {
		t.Fatal(err)
	}
	if err := s.verify(0); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

func TestAnotherLogOfEqualLengthIsFound(t *testing.T) {
	s, below, _ := checked(t, 5)
	other, otherLog, _ := checked(t, 4)
	if err := other.StoreLog(&raft.Log{Index: 5, Term: 9}); err != nil {
		t.Fatal(err)
	}
	below.InmemStore = otherLog.InmemStore
	if err := s.verify(0); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

func TestTheRecordFollowsDeletions(t *testing.T) {
	s, _, _ := checked(t, 8)
	if err := s.DeleteRange(7, 8); err != nil { // a conflict with the leader
		t.Fatal(err)
	}
	if rec := s.tail.rec; rec.last != 6 || rec.term != 2 || s.verify(0) != nil {
		t.Fatalf("%+v", rec)
	}
	if err := s.DeleteRange(1, 4); err != nil { // behind a snapshot
		t.Fatal(err)
	}
	if rec := s.tail.rec; rec.last != 6 || rec.removed != 4 || s.verify(5) != nil {
		t.Fatalf("%+v", rec)
	}
	if err := s.verify(3); !errors.Is(err, ErrDamaged) {
		t.Fatal("a snapshot that does not reach the log:", err)
	}
	if err := s.DeleteRange(20, 30); err != nil || s.tail.rec.last != 6 {
		t.Fatal("nothing to delete:", err)
	}
	if err := s.DeleteRange(1, 6); err != nil { // an installed snapshot
		t.Fatal(err)
	}
	if rec := s.tail.rec; rec.last != 0 || s.verify(9) != nil {
		t.Fatalf("%+v", rec)
	}
	if err := s.verify(0); !errors.Is(err, ErrDamaged) {
		t.Fatal("an empty log without its snapshot:", err)
	}
}

func TestACutShortRemovalIsFinished(t *testing.T) {
	s, below, _ := checked(t, 6)
	if err := s.tail.write(tailRecord{removed: 1}); err != nil { // the crash came here
		t.Fatal(err)
	}
	if err := s.verify(9); err != nil {
		t.Fatal(err)
	}
	if last, err := below.LastIndex(); err != nil || last >= 6 {
		t.Fatal(last, err)
	}
}

func TestNothingIsWrittenAfterAFailedWrite(t *testing.T) {
	s, below, failures := checked(t, 2)
	full := errors.New("no space left on device")
	below.failing = full
	if err := s.StoreLog(&raft.Log{Index: 3, Term: 1}); !errors.Is(err, full) {
		t.Fatal(err)
	}
	below.failing = nil
	if err := s.StoreLog(&raft.Log{Index: 3, Term: 1}); !errors.Is(err, full) {
		t.Fatal(err)
	}
	if len(*failures) != 1 || s.tail.rec.last != 2 {
		t.Fatal(*failures, s.tail.rec)
	}
}

func TestATornRecordLeavesTheOneBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), tailName)
	tail, err := openTail(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		if err := tail.write(tailRecord{last: 10 + i, term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	newest := int64(tail.rec.seq % 2 * tailSlot)
	for _, tear := range []int64{newest, tailSlot - newest} {
		if _, err := tail.f.WriteAt([]byte{0xff}, tear+9); err != nil {
			t.Fatal(err)
		}
		again, err := openTail(path)
		if tear == newest {
			if err != nil || again.rec.last != 11 {
				t.Fatalf("%+v, %v", again, err)
			}
			again.close()
		} else if err == nil {
			t.Fatal("a record with no whole slot opened")
		}
	}
	tail.close()
}

// TestDamageToTheDirectoryIsNeverSilent damages one thing after the other in
// copies of a directory with two snapshots and a log, and opens each.
func TestDamageToTheDirectoryIsNeverSilent(t *testing.T) {
	dir := t.TempDir()
	cfg := founding(dir)
	cfg.TrailingBytes = 8 << 10
	r := start(t, cfg)
	lead(t, r)
	found(t, r)
	for v := range uint64(40) {
		mustApply(t, r, commit(v, 2000))
		if v%15 == 14 {
			if err := r.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop(t, r)
	names, err := snapshotNames(dir)
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	newest := filepath.Join(snapshotsName, names[1].name)

	for name, damage := range map[string]func(t *testing.T, dir string){
		"log entry in the middle":  func(t *testing.T, dir string) { flip(t, logEntry(t, dir, 38)) },
		"last log entry":           func(t *testing.T, dir string) { flip(t, logEntry(t, dir, 40)) },
		"log removed":              func(t *testing.T, dir string) { remove(t, dir, logName) },
		"log segment removed":      func(t *testing.T, dir string) { remove(t, logEntry(t, dir, 40).file, "") },
		"log record removed":       func(t *testing.T, dir string) { remove(t, dir, tailName) },
		"snapshot state":           func(t *testing.T, dir string) { flip(t, place{filepath.Join(dir, newest, "state.bin"), 300}) },
		"snapshot description":     func(t *testing.T, dir string) { flip(t, place{filepath.Join(dir, newest, "meta.json"), 0}) },
		"newest snapshot removed":  func(t *testing.T, dir string) { remove(t, dir, newest) },
		"all snapshots removed":    func(t *testing.T, dir string) { remove(t, dir, snapshotsName) },
		"snapshot without a state": func(t *testing.T, dir string) { remove(t, dir, filepath.Join(newest, "state.bin")) },
	} {
		t.Run(name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			damage(t, image)
			cfg := single(image)
			cfg.Listen = "127.0.0.1:0"
			r, err := Open(cfg)
			if err == nil {
				stop(t, r)
			}
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
		})
	}
}

type place struct {
	file   string
	offset int64
}

// logEntry finds the commit of a version within the log's segments, by the
// bytes of its first parameter and the zeros of its private state.
func logEntry(t *testing.T, dir string, version uint64) place {
	t.Helper()
	want := commit(version-1, 2000).Params
	files, err := filepath.Glob(filepath.Join(dir, logName, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, want); at >= 0 {
			return place{f, int64(at) + 50}
		}
	}
	t.Fatalf("version %d is in none of %d segments", version, len(files))
	return place{}
}

func flip(t *testing.T, p place) {
	t.Helper()
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	b = slices.Clone(b)
	b[p.offset] ^= 0x40
	if err := os.WriteFile(p.file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
