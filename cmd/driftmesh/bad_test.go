package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/safetensors"
)

// TestBadInput holds the texts of errors, and that a command line at fault
// neither makes nor changes a file.
func TestBadInput(t *testing.T) {
	texts, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil || len(texts) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	badWorld(t, dir)
	for _, path := range texts {
		path = filepath.Join(home, path)
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Chdir(dir)
			before := contents(t, ".")
			cases := parseCases(read(t, path))
			var got strings.Builder
			for _, c := range cases {
				if c.command == "" {
					got.WriteString(c.text + "\n")
					continue
				}
				r := command(t, strings.Fields(c.command)...)
				text := strings.ReplaceAll(r.stderr, fmt.Sprintf("process %d", os.Getpid()), "process PID")
				text = digest.ReplaceAllString(text, "DIGEST…") // of trained parameters: not the same on every processor
				text = fmt.Sprintf("> %s\n%d\n%s", c.command, r.code, text)
				got.WriteString("\n" + text)
				if text = strings.TrimSpace(text); text != c.text && !*update {
					t.Errorf("got\n%s\nwant\n%s", text, c.text)
				}
				if r.stdout != "" {
					t.Errorf("%s: on standard output\n%s", c.command, r.stdout)
				}
				if after := contents(t, "."); !maps.Equal(before, after) {
					t.Fatalf("%s: changed files: %v", c.command, changes(before, after))
				}
			}
			if *update {
				write(t, path, got.String())
			}
		})
	}
}

var digest = regexp.MustCompile("[0-9a-f]{12}…")

// changes names the files that are not the same in two listings.
func changes(before, after map[string]string) (out []string) {
	all := maps.Clone(before)
	maps.Copy(all, after)
	for path := range all {
		if before[path] != after[path] {
			out = append(out, path)
		}
	}
	return out
}

// badCase is a paragraph of a file of cases: a comment when it has no command.
type badCase struct{ command, text string }

func parseCases(text string) []badCase {
	var out []badCase
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		part = strings.TrimSpace(part)
		first, _, _ := strings.Cut(part, "\n")
		if strings.HasPrefix(first, "#") {
			out = append(out, badCase{text: part})
			continue
		}
		out = append(out, badCase{strings.TrimPrefix(first, "> "), part})
	}
	return out
}

// badWorld fills a folder with the jobs of testdata/bad and with runs whose
// checkpoints are damaged in different ways.
func badWorld(t *testing.T, dir string) {
	t.Helper()
	jobs, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range jobs {
		write(t, filepath.Join(dir, filepath.Base(path)), read(t, path))
	}
	write(t, filepath.Join(dir, "file"), "a file where a folder should be\n")
	quick, root := filepath.Join(dir, "quick.yaml"), filepath.Join(dir, "runs")
	ok(t, "train", quick, "--runs", root)
	for _, name := range []string{"truncated", "flipped", "pytorch", "swapped", "locked"} {
		copied := filepath.Join(root, name)
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(root, "quick"))); err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(copied, runs.ConfigFile)
		write(t, config, strings.Replace(read(t, config), "name: quick", "name: "+name, 1))
	}
	params := func(name string) string {
		return filepath.Join(root, name, runs.CheckpointDir, runs.ParamsFile)
	}
	whole := read(t, params("truncated"))
	write(t, params("truncated"), whole[:len(whole)-1])
	write(t, params("flipped"), whole[:len(whole)-1]+string([]byte{whole[len(whole)-1] ^ 1}))

	// Another library's file, on its own and in the place of ours.
	file, err := os.Create(params("pytorch"))
	if err != nil {
		t.Fatal(err)
	}
	err = safetensors.Write(file, safetensors.File{
		Metadata: map[string]string{"format": "pt"},
		Tensors:  []safetensors.Tensor{safetensors.FromFloat32("layers.0.weight", []int{2, 2}, []float32{1, 2, 3, 4})},
	})
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "model"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "model", "model.safetensors"), read(t, params("pytorch")))

	// A sound checkpoint, of another network.
	ok(t, "train", quick, "--runs", filepath.Join(dir, "other"), "--set", "policy.hidden=[16]")
	swapped := filepath.Join(root, "swapped", runs.CheckpointDir)
	if err := errors.Join(os.RemoveAll(swapped), os.Rename(filepath.Join(dir, "other", "quick", runs.CheckpointDir), swapped), os.RemoveAll(filepath.Join(dir, "other"))); err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(read(t, swapped, runs.StateFile))) {
		t.Fatal("no checkpoint was swapped")
	}

	held, err := runs.Open(filepath.Join(root, "locked"), runs.Session{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := held.Close(); err != nil {
			t.Error(err)
		}
	})
}
