package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// olderBuild builds the command as the release before it: it supports level 1.
func olderBuild(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "driftmesh-older")
	cmd := exec.CommandContext(patience(t), "go", "build", "-o", path,
		"-ldflags", "-X github.com/driftmesh/driftmesh/paramserver/fsm.levelCap=1", ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// trio is a cluster of three servers whose binaries a test may exchange.
type trio struct {
	t     *testing.T
	root  string
	addrs [3]string
	procs [3]*process
}

// start starts server i with a binary, at the address that it had before.
func (c *trio) start(i int, binary string) {
	c.t.Helper()
	args := []string{"server", "--data", filepath.Join(c.root, "s"+strconv.Itoa(i)), "--grpc", "127.0.0.1:0"}
	if c.addrs[i] != "" {
		args[len(args)-1] = c.addrs[i]
	}
	joins := false
	for j, addr := range c.addrs {
		if j != i && addr != "" {
			args, joins = append(args, "--join", addr), true
		}
	}
	if !joins {
		args = append(args, "--init")
	}
	p := startBinary(c.t, binary, args...)
	p.until(c.t, "server "+strconv.Itoa(i)+" serves", func() bool {
		if m := servingAt.FindStringSubmatch(p.stderr.String()); m != nil {
			c.addrs[i] = m[1]
			return true
		}
		return false
	})
	c.procs[i] = p
}

// stop ends server i in good order.
func (c *trio) stop(i int) {
	c.t.Helper()
	c.procs[i].interrupt(c.t)
	if code := c.procs[i].wait(c.t); code != exitOK {
		c.t.Errorf("server %d: exit %d", i, code)
	}
}

// leader is the number of the server that leads, -1 while none is known.
func (c *trio) leader() int {
	for _, addr := range c.addrs {
		if r := command(c.t, "status", "--json", "--server", addr); r.code == exitOK {
			leader, _ := decode(c.t, r.stdout)["leader"].(string)
			return slices.Index(c.addrs[:], leader)
		}
	}
	return -1
}

// version is the committed version of the job as server i has it, -1 while it
// does not answer.
func (c *trio) version(i int) float64 {
	if r := command(c.t, "status", "quick", "--json", "--server", c.addrs[i]); r.code == exitOK {
		if jobs, _ := decode(c.t, r.stdout)["jobs"].([]any); len(jobs) == 1 {
			return jobs[0].(map[string]any)["version"].(float64)
		}
	}
	return -1
}

// trains waits until every server that is up has the job further than it was.
func (c *trio) trains(what string) {
	c.t.Helper()
	var from float64
	until(c.t, what+": a version is known", func() bool { from = c.version(max(0, c.leader())); return from >= 0 })
	for i := range c.procs {
		until(c.t, what+": server "+strconv.Itoa(i)+" follows", func() bool { return c.version(i) > from })
	}
}

// TestRollingUpgrade exchanges the binaries of a cluster that trains, one after
// the other, in both orders, and back again while that is possible.
func TestRollingUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary and starts processes")
	}
	older := olderBuild(t)
	newer, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, leaderFirst := range []bool{false, true} {
		t.Run("leader first "+strconv.FormatBool(leaderFirst), func(t *testing.T) {
			c := &trio{t: t, root: t.TempDir()}
			for i := range c.procs {
				c.start(i, older)
			}
			startBinary(t, older, "worker", "--data", filepath.Join(c.root, "w"), "--join", c.addrs[0], "--join", c.addrs[1], "--join", c.addrs[2])
			until(t, "the job is submitted", func() bool {
				return command(t, "submit", quickJob, "--set", "train.updates=100000000", "--server", c.addrs[0]).code == exitOK
			})
			c.trains("as the older version")

			order := []int{0, 1, 2}
			slices.SortFunc(order, func(a, b int) int {
				leads := c.leader()
				switch {
				case (a == leads) == (b == leads):
					return a - b
				case (a == leads) == leaderFirst:
					return -1
				}
				return 1
			})
			for n, i := range order {
				c.stop(i)
				c.start(i, newer)
				c.trains("after " + strconv.Itoa(n+1) + " upgrades")
				if n == 1 { // and back again: nothing of the new level is in the log
					c.stop(i)
					c.start(i, older)
					c.trains("after a downgrade")
					if level(t, c.addrs[i]) != "" {
						t.Error("a level was activated that one server does not support")
					}
					c.stop(i)
					c.start(i, newer)
				}
			}
			until(t, "the level is activated", func() bool { return level(t, c.addrs[0]) == "2" })
			c.trains("after the activation")

			c.stop(order[0])
			back := startBinary(t, older, "server", "--data", filepath.Join(c.root, "s"+strconv.Itoa(order[0])), "--grpc", c.addrs[order[0]],
				"--join", c.addrs[order[1]], "--join", c.addrs[order[2]])
			if code := back.wait(t); code == exitOK {
				t.Error("an older version goes on after the activation")
			}
			if text := back.stderr.String(); !strings.Contains(text, "feature level 2") || !strings.Contains(text, "this build") {
				t.Errorf("the older version says\n%s", text)
			}
			c.start(order[0], newer)
			c.trains("with the newer version again")
		})
	}
}

// level is the feature level that the events tell of, "" for none.
func level(t *testing.T, addr string) (out string) {
	t.Helper()
	for _, e := range events(t, addr) {
		if e.Kind == fsm.EventActivated {
			out = e.Detail
		}
	}
	return out
}
