package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tailRecord remembers, apart from the log itself, what the log must hold.
// Without it a log that lost its end is indistinguishable from a shorter one.
type tailRecord struct {
	seq     uint64 // of this write; the higher slot counts
	last    uint64 // index of the last entry stored; 0 while the log is empty
	term    uint64 // its term
	removed uint64 // a snapshot must cover the log through this index
}

// Two slots are written in turn, each in a page of its own, so that a write
// torn by a power cut leaves the other one whole.
const (
	tailSlot  = 4096
	tailBytes = 8 * 4 // the four numbers; a CRC32C follows
)

// tailFile is the record on disk. It has one writer, the log store.
type tailFile struct {
	f   *os.File
	rec tailRecord
}

// openTail reads the record, or creates an empty one durably if there is none.
func openTail(path string) (*tailFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return createTail(path)
	}
	if err != nil {
		return nil, err
	}
	t := &tailFile{f: f}
	found := false
	for slot := range int64(2) {
		var b [tailBytes + 4]byte
		if _, err := f.ReadAt(b[:], slot*tailSlot); err != nil {
			continue
		}
		if rec, ok := parseTail(b); ok && (!found || rec.seq > t.rec.seq) {
			t.rec, found = rec, true
		}
	}
	if !found {
		return nil, errors.Join(fmt.Errorf("%s is unreadable", path), f.Close())
	}
	return t, nil
}

func createTail(path string) (*tailFile, error) {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return nil, err
	}
	t := &tailFile{f: f}
	err = f.Truncate(2 * tailSlot)
	if err == nil {
		err = t.write(tailRecord{})
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// write makes rec durable before it returns.
func (t *tailFile) write(rec tailRecord) error {
	rec.seq = t.rec.seq + 1
	b := make([]byte, 0, tailBytes+4)
	for _, v := range []uint64{rec.seq, rec.last, rec.term, rec.removed} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := t.f.WriteAt(b, int64(rec.seq%2)*tailSlot); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil {
		return err
	}
	t.rec = rec
	return nil
}

func (t *tailFile) close() error { return t.f.Close() }

func parseTail(b [tailBytes + 4]byte) (tailRecord, bool) {
	if crc32.Checksum(b[:tailBytes], castagnoli) != binary.LittleEndian.Uint32(b[tailBytes:]) {
		return tailRecord{}, false
	}
	return tailRecord{
		seq:     binary.LittleEndian.Uint64(b[0:]),
		last:    binary.LittleEndian.Uint64(b[8:]),
		term:    binary.LittleEndian.Uint64(b[16:]),
		removed: binary.LittleEndian.Uint64(b[24:]),
	}, true
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
