package probe

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
)

func TestHost(t *testing.T) {
	if h := Host(); h.CPUs < 1 || h.CPUs > runtime.NumCPU() || runtime.GOOS == "linux" && h.MemoryMB < 1 {
		t.Errorf("this machine has %+v", h)
	}
}

func TestRead(t *testing.T) {
	all := runtime.NumCPU()
	for name, c := range map[string]struct {
		files map[string]string
		want  job.Resources
	}{
		"nothing to read": {nil, job.Resources{CPUs: all}},
		"a machine": {map[string]string{
			"proc/meminfo":                 "MemTotal:        4194304 kB\nMemFree: 1 kB\n",
			"sys/fs/cgroup/cpu.max":        "max 100000\n",
			"sys/fs/cgroup/memory.max":     "max\n",
			"proc/driver/nvidia/gpus/a/i":  "",
			"proc/driver/nvidia/gpus/b/i":  "",
			"proc/driver/nvidia/version":   "",
			"proc/driver/nvidia/params/no": "",
		}, job.Resources{CPUs: all, MemoryMB: 4096, GPUs: 2}},
		"a small group": {map[string]string{
			"proc/meminfo":             "MemTotal:        4194304 kB\n",
			"sys/fs/cgroup/cpu.max":    "50000 100000\n",
			"sys/fs/cgroup/memory.max": "1073741824\n",
		}, job.Resources{CPUs: 1, MemoryMB: 1024}},
		"version 1": {map[string]string{
			"proc/meminfo":                                "MemTotal:        4194304 kB\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":          "100000",
			"sys/fs/cgroup/cpu/cpu.cfs_period_us":         "100000",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":  "9223372036854771712",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":  "1",
			"sys/fs/cgroup/memory/memory.something_other": "x",
		}, job.Resources{CPUs: 1, MemoryMB: 4096}},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			path := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(root); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
