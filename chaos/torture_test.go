package chaos

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTorture is three rounds of `make torture`.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and breaks them for half a minute")
	}
	spec := endless(t, "name=torture", "mesh.window_ms=20", "policy.hidden=[128,128]")
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	rounds, err := Torture(ctx, TortureConfig{
		Binary: binary(t), Dir: dir, Spec: spec, Rounds: 3, Seed: 1, Fixed: true,
		Kinds:   []string{"kill-leader", "stop-learner", "cut-one-way"},
		Servers: 3, Workers: 2, Slots: 2,
		StopFor: 2 * time.Second, Hold: 2 * time.Second, Linearize: 2, Log: t.Logf,
	})
	if err != nil {
		t.Error(err)
	}
	if len(rounds) != 3 {
		t.Errorf("%d rounds", len(rounds))
	}
	for _, r := range rounds {
		if r.Verdict != Valid {
			t.Errorf("%+v", r)
		}
	}
	if t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(dir, "mesh", "*.log"))
		for _, path := range logs {
			text, _ := os.ReadFile(path)
			t.Logf("%s:\n%s", filepath.Base(path), text[max(0, len(text)-3000):])
		}
	}
}
