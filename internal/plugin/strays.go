package plugin

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// markEnv is the environment variable that a plugin and all that it starts have. Its
// value is that process's alone.
const markEnv = "DRIFTMESH_PLUGIN"

// newMark is the environment of one plugin beside that of this process.
func newMark() string { return markEnv + "=" + rand.Text() }

// killMarked ends the processes that a plugin started and that left its process group,
// where there is a /proc to find them in. One that has changed its environment is not
// found. It looks until it has found none twice, since they may start others meanwhile,
// and in the midst of an exec a process shows no environment.
func killMarked(mark string) {
	empty := 0
	for range 6 {
		empty++
		paths, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range paths {
			if !marked(path, mark) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				continue
			}
			p, err := os.FindProcess(pid)
			if err != nil {
				continue
			}
			if marked(path, mark) { // still: the number is not another process's by now
				empty = 0
				p.Kill()
			}
			p.Release()
		}
		if empty == 2 {
			return
		}
		time.Sleep(time.Millisecond) // an exec takes less
	}
}

// marked says whether that environment has the mark. Those of others cannot be read.
func marked(path, mark string) bool {
	env, err := os.ReadFile(path)
	return err == nil && bytes.Contains(env, []byte(mark))
}
