package plugin_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/plugin"
)

// TestPermission: only files of the folder run, whatever a command says.
func TestPermission(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "plugins")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"outside.py": 0o755, "plugins/in.py": 0o644, "plugins/run": 0o755, "plugins/sub/deep.py": 0o644} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside.py", filepath.Join(dir, "link.py")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("in.py", filepath.Join(dir, "alias.py")); err != nil {
		t.Fatal(err)
	}
	open := func(args ...string) error {
		_, err := plugin.Open(plugin.Command{Args: args})
		return err
	}
	if err := open("python3", "in.py"); err == nil || !strings.Contains(err.Error(), "--allow-plugins") {
		t.Fatalf("nothing is permitted: %v", err)
	}
	h, err := plugin.Permit([]string{dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, good := range [][]string{{"python3", "in.py"}, {"python", "./sub/deep.py", "-c", "x"}, {"run"}, {"python3", "alias.py"}, {"python3", filepath.Join(dir, "in.py")}} {
		if err := open(good...); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	one := func(params map[string]any) *plugin.Pool {
		p, err := plugin.Open(plugin.Command{Args: []string{"python3", "in.py"}, Params: params})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if one(map[string]any{"a": "1 b:2"}) == one(map[string]any{"a": "1", "b": "2"}) || one(map[string]any{"a": "1"}) == one(map[string]any{"a": 1}) {
		t.Error("programs with other parameters are shared")
	}
	if one(map[string]any{"a": 1, "b": 2}) != one(map[string]any{"b": 2.0, "a": 1}) {
		t.Error("equal programs are not shared")
	}
	for _, bad := range [][]string{
		{}, {""}, {"python3"}, {"python3", "-c", "1"}, {"python3", "-m", "http.server"}, {"python3", "../outside.py"}, {"python3", "link.py"},
		{"python3", filepath.Join(root, "outside.py")}, {"python3", "sub"}, {"python3", "."}, {"sh", "-c", "1"}, {"/bin/sh"}, {"../outside.py"}, {"in.py"}, {"link.py"},
		{"python3.11", "in.py"}, {"/usr/bin/python3", "in.py"},
	} {
		if err := open(bad...); err == nil {
			t.Errorf("%q may run", bad)
		}
	}
	if _, err := plugin.Permit([]string{filepath.Join(root, "nowhere")}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--allow-plugins") {
		t.Error(err)
	}
}
