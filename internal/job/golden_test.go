package job

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
)

var update = flag.Bool("update", false, "rewrite the expected messages")

// TestBadJobs compares every message with testdata/bad/*.want. The overrides
// of a case, if it has any, are the lines of its .sets file.
func TestBadJobs(t *testing.T) {
	cases, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		stem := strings.TrimSuffix(path, ".yaml")
		t.Run(filepath.Base(stem), func(t *testing.T) {
			var sets []string
			if data, err := os.ReadFile(stem + ".sets"); err == nil {
				sets = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
			}
			spec, _, err := Load(path, sets)
			if err == nil || spec != nil {
				t.Fatalf("was accepted: %+v", spec)
			}
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(stem+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(stem + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	_, _, err := Load("testdata/bad/unknown-field.yaml", nil)
	if !errors.Is(err, strictyaml.ErrUnknownField) {
		t.Errorf("%v is no ErrUnknownField", err)
	}
	_, _, err = Load("testdata/bad/negative-rate.yaml", nil)
	var fe *fielderr.Error
	if !errors.As(err, &fe) || fe.Path != "optimiser.learning_rate" {
		t.Errorf("%v is no fielderr.Error of the learning rate", err)
	}
	var fault *strictyaml.Fault
	if !errors.As(err, &fault) || fault.Line != 3 || fault.Column != 18 {
		t.Errorf("%v has no fault in line 3, column 18: %+v", err, fault)
	}
	_, _, err = Load("testdata/bad/empty.yaml", []string{"env.name=hypergrid"})
	if !errors.Is(err, strictyaml.ErrEmpty) {
		t.Errorf("%v is no ErrEmpty", err)
	}
}

func TestUnreadableFiles(t *testing.T) {
	_, _, err := Load("testdata/absent.yaml", nil)
	if want := "job file: open testdata/absent.yaml: no such file or directory"; !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("missing file: %v", err)
	}
	_, _, err = Load("testdata", nil)
	if want := "job file testdata: is a folder; want a YAML file such as examples/hypergrid-2d.yaml"; err == nil || err.Error() != want {
		t.Errorf("folder: %v", err)
	}
	huge := filepath.Join(t.TempDir(), "huge.yaml")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<33); err != nil { // sparse: 8 GiB that must not be read
		t.Fatal(err)
	}
	_, _, err = Load(huge, nil)
	if want := huge + ": too large for a job; want at most 1048576 bytes"; !errors.Is(err, ErrTooLarge) || err.Error() != want {
		t.Errorf("huge file: %v", err)
	}
	if _, _, err := Parse("x", make([]byte, maxEncoded+1), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge data: %v", err)
	}
}
