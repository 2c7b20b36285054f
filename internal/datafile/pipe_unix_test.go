//go:build unix

package datafile

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPipesAreRefused: opening one would wait for a writer, past every signal.
func TestPipesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.csv")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var fault *Error
	if _, err := Read(path); !errors.As(err, &fault) {
		t.Errorf("%v", err)
	}
}
