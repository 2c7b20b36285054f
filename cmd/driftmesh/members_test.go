package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/wire"
)

func TestMemberByPrefix(t *testing.T) {
	list := []wire.LogMember{
		{ID: "aa1", Standing: wire.StandingVoter}, {ID: "aa2", Standing: wire.StandingNonvoter},
		{ID: "b", Standing: wire.StandingVoter}, {ID: "c", Standing: wire.StandingNone},
	}
	for prefix, want := range map[string]string{"aa1": "aa1", "b": "b", "aa": "", "c": "", "x": "", "": ""} {
		if got, err := memberByPrefix(list, prefix); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", prefix, got, err, want)
		}
	}
}

// TestServersFindEachOtherAgain kills three servers at once and starts them again,
// the founder last and none with --join. Then one is removed.
func TestServersFindEachOtherAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	names := []string{"one", "two", "three"}
	run := func(name string, args ...string) (*process, string) {
		p := start(t, append([]string{"server", "--grpc", "127.0.0.1:0", "--data", filepath.Join(dir, name)}, args...)...)
		var addr string
		p.until(t, name+" serves", func() bool {
			if m := servingAt.FindStringSubmatch(p.stderr.String()); m != nil {
				addr = m[1]
			}
			return addr != ""
		})
		return p, addr
	}
	// whole says whether all vote and one leads.
	whole := func(addr string) bool {
		r := command(t, "members", "--server", addr, "--json")
		if r.code != exitOK {
			return false
		}
		reply := decode(t, r.stdout)
		q := reply["quorum"].(map[string]any)
		return reply["leader"] != "" && q["voters"] == 3.0 && q["alive"] == 3.0
	}
	var servers []*process
	var first string
	for i, name := range names {
		args := []string{"--init"}
		if i > 0 {
			args = []string{"--join", first}
		}
		p, addr := run(name, args...)
		if i == 0 {
			first = addr
		}
		servers = append(servers, p)
	}
	until(t, "three voters", func() bool { return whole(first) })
	for _, p := range servers {
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.wait(t)
	}
	_, addr := run("three")
	run("two")
	run("one", "--init")
	until(t, "the cluster is whole again", func() bool { return whole(addr) })

	text := ok(t, "members", "--server", addr)
	for _, want := range []string{"leader", "voter", "LAST INDEX", "3 voters, of which 3 answer; 2 must agree"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	members := decode(t, ok(t, "members", "--server", addr, "--json"))["members"].([]any)
	gone := members[0].(map[string]any)["id"].(string)
	if r := command(t, "members", "remove", gone[:8], "--server", addr); r.code != exitOK || !strings.Contains(r.stdout, gone) {
		t.Fatalf("%+v", r)
	}
	if r := command(t, "members", "remove", gone, "--server", addr); r.code != exitBadInput || !strings.Contains(r.stderr, "driftmesh members lists them") {
		t.Errorf("a second time: %+v", r)
	}
}
