// Package probe finds out what a machine lets this process use. A node says what
// it found, never what a label claims.
package probe

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/job"
)

// Host returns the processors, memory and GPUs that this process may use.
// Processors are those of its affinity mask and its control group's quota,
// memory is the smaller of the machine's and the group's limit, and a GPU is a
// device of the NVIDIA driver. What cannot be read counts as none, processors
// excepted.
func Host() job.Resources { return read("/") }

// read is Host with the file system at root, for tests.
func read(root string) job.Resources {
	r := job.Resources{CPUs: runtime.NumCPU()}
	if quota := cpuQuota(root); quota > 0 {
		r.CPUs = max(1, min(r.CPUs, quota))
	}
	r.MemoryMB = int(memory(root) >> 20)
	gpus, _ := filepath.Glob(filepath.Join(root, "proc/driver/nvidia/gpus/*"))
	r.GPUs = len(gpus)
	return r
}

// cpuQuota is the whole processors of the control group, version 2 or 1; 0 for
// no limit.
func cpuQuota(root string) int {
	if f := strings.Fields(text(root, "sys/fs/cgroup/cpu.max")); len(f) == 2 {
		return ratio(f[0], f[1])
	}
	return ratio(text(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us"), text(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us"))
}

func ratio(quota, period string) int {
	q, errQ := strconv.ParseInt(quota, 10, 64)
	p, errP := strconv.ParseInt(period, 10, 64)
	if errQ != nil || errP != nil || q <= 0 || p <= 0 {
		return 0
	}
	return int(max(1, q/p))
}

// memory is what the process may have, in bytes.
func memory(root string) int64 {
	total := int64(0)
	for line := range strings.Lines(text(root, "proc/meminfo")) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			total = kib << 10
		}
	}
	for _, name := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if limit, err := strconv.ParseInt(text(root, name), 10, 64); err == nil && limit > 0 && (total == 0 || limit < total) {
			total = limit
		}
	}
	return total
}

func text(root, name string) string {
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return "" // not that kind of machine
	}
	return strings.TrimSpace(string(data))
}
