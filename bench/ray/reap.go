package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// marker is the environment variable that every process of a run carries, and
// the processes that those start: Ray's daemons outlive their parent.
const marker = "DRIFTMESH_BENCH_RUN"

// adopt makes this process the parent of what its children leave behind, so that
// reap can take leave of it: not every container has an init that does.
func adopt() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// reap kills what carries the marker of this run, and says how many there were.
// It looks twice before it says that none is left: in the midst of an exec a
// process shows no environment.
func reap(id string) (n int, err error) {
	want := []byte(marker + "=" + id)
	killed := map[int]bool{}
	empty := 0 // looks in a row that found none
	for range 50 {
		pids, err := carriers(want)
		if err != nil {
			return len(killed), err
		}
		for _, pid := range pids {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed[pid] = true
			}
		}
		for pid := range killed {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // fails for those that others wait for
		}
		if empty++; len(pids) > 0 {
			empty = 0
		}
		if empty == 2 {
			return len(killed), nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return len(killed), errors.New("processes of this run do not end")
}

// carriers are the processes, but for this one, with an entry in their environment.
func carriers(entry []byte) (pids []int, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", d.Name(), "environ"))
		if err != nil {
			continue // it has ended, or is another user's
		}
		for field := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(field, entry) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}
