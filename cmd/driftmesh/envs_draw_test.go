package main

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvsDraw(t *testing.T) {
	for name, args := range map[string][]string{
		"map":   {"hypergrid", "--set", "dim=2", "--set", "reward=deceptive"},
		"curve": {"bitseq", "--set", "n=8", "--set", "k=2", "--set", "modes=3"},
		"plane": {"diffusion"},
		"wells": {"diffusion", "--set", "target=manywell", "--set", "dim=2"},
		"flat":  {"ising", "--set", "l1=3", "--set", "l2=3", "--set", "sigma=0"},
	} {
		path := filepath.Join(t.TempDir(), name+".png")
		if _, err := runEnvs(t, append([]string{"draw", "--out", path}, args...)...); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(f)
		if err != nil || picture.Bounds().Dx() < 200 {
			t.Errorf("%s: %v, %v", name, picture.Bounds(), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	path := filepath.Join(t.TempDir(), "none.png")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--out", []string{"draw", "hypergrid"}},
		{"can be listed", []string{"draw", "bitseq", "--out", path}},
		{"params.dim: got 10; want 2", []string{"draw", "diffusion", "--set", "target=funnel", "--out", path}},
		{"params.height", []string{"draw", "hypergrid", "--set", "height=1", "--out", path}},
	} {
		if _, err := runEnvs(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("envs %v: %v; want %q", c.args, err, c.want)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a refused picture was written: %v", err)
	}
}
