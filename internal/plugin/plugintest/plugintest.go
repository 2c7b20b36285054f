// Package plugintest prepares Python for tests of plugins.
package plugintest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/driftmesh/driftmesh/internal/plugin"
)

// Root is the folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Prepare makes .venv, as `make .venv` does, if it is not there yet, and lets plugins
// of this process and its children run on its Python.
func Prepare() error {
	out, err := exec.Command(filepath.Join(Root(), "python", "venv.sh")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("python/venv.sh: %w\n%s", err, out)
	}
	return os.Setenv(plugin.PythonEnv, filepath.Join(Root(), ".venv", "bin", "python"))
}

// Need is Prepare for one test.
func Need(t testing.TB) {
	t.Helper()
	if err := Prepare(); err != nil {
		t.Fatal(err)
	}
}
