package plugin_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/driftmesh/driftmesh/internal/plugin"
)

// TestTextsOfPlugins: what a plugin says is short and cannot speak to a terminal.
func TestTextsOfPlugins(t *testing.T) {
	permit(t)
	const says = `\x1b[2J\nred\u202e xxxxx`
	plain := func(mode string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), says) || !strings.HasSuffix(err.Error(), "x…") {
			t.Errorf("%s: %.300q", mode, err)
		} else if text := err.Error(); len(text) > 700 || strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, "\u202e") {
			t.Errorf("%s: %d bytes, %.300q", mode, len(text), text)
		}
	}
	_, _, err := ask(open(t, plugin.Command{}, "faulty.py", "shouts"), 2)
	plain("error", err)
	_, faults, err := ask(open(t, plugin.Command{}, "faulty.py", "shouts of one"), 2)
	if err != nil || len(faults) != 1 {
		t.Fatal(faults, err)
	}
	plain("errors", faults[0].Err)
}

// TestScriptsThatCannotStart: a program that ends twice alike before it answers at all
// is not asked again and again, and the error says what is missing.
func TestScriptsThatCannotStart(t *testing.T) {
	permit(t)
	starts := filepath.Join(t.TempDir(), "starts")
	p := open(t, plugin.Command{}, "faulty.py", "broken", starts)
	for round, want := range []int{2, 3} { // whoever asks later may find it mended
		_, _, err := ask(p, 16)
		if !errors.Is(err, plugin.ErrFailed) || !strings.HasSuffix(err.Error(), `plugin failed: it cannot start: the process died (exit status 1): no module of that name \x1b[2J`) {
			t.Errorf("round %d: %v", round, err)
		}
		if got, err := os.ReadFile(starts); err != nil || len(got) != want {
			t.Errorf("round %d: it was started %d times in all, want %d (%v)", round, len(got), want, err)
		}
	}
	for _, c := range []struct{ mode, says string }{
		{"missing", "ModuleNotFoundError: No module named 'no_such_module'; it ran on " + os.Getenv(plugin.PythonEnv)},
		{"unserved", "it cannot start: it ended without serving (exit status 0); a script of Python ends with driftmesh.serve(...)"},
		{"chatty", "standard output belongs to the protocol until driftmesh.serve(...) has taken it: print nothing before"},
	} {
		if _, _, err := ask(open(t, plugin.Command{}, "faulty.py", c.mode), 2); !errors.Is(err, plugin.ErrFailed) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.mode, err)
		}
	}
}

// TestWhatItStarted ends with it, even in a session of its own and when the plugin is
// dead already.
func TestWhatItStarted(t *testing.T) {
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("only Linux says what a process was started by:", err)
	}
	permit(t)
	for _, mode := range []string{"detached", "orphan"} {
		held := filepath.Join(t.TempDir(), "held")
		if err := syscall.Mkfifo(held, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(held, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, _, err := ask(open(t, plugin.Command{Timeout: time.Second, Retries: -1}, "faulty.py", mode, held), 1); err == nil && mode == "detached" {
			t.Errorf("%s: an answer", mode)
		}
		f.SetReadDeadline(time.Now().Add(10 * time.Second))
		if said, err := io.ReadAll(f); err != nil || string(said) != "here" { // the end comes when nobody holds it any more
			t.Errorf("%s: %q, %v: its child lives on", mode, said, err)
		}
	}
}
