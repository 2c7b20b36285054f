package journal

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatIsWrittenIsReadInPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	for range 2 { // a restart appends
		j, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		j.Write(Entry{Kind: Sampled, Session: "s", First: 1, Last: 16, Version: 7})
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(0, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"k":"mark`); err != nil { // the process was killed here
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	got, size, err := Read(f)
	if err != nil || len(got) != 4 || got[0].Kind != Started || got[3].Last != 16 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := f.WriteString("ed\"}\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(size, 0); err != nil {
		t.Fatal(err)
	}
	if got, _, err := Read(f); err != nil || len(got) != 1 || got[0].Kind != Marked {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNoJournal(t *testing.T) {
	j, err := Open("")
	if j != nil || err != nil {
		t.Fatal(j, err)
	}
	j.Write(Entry{})
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
