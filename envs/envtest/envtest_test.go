package envtest_test

import (
	"errors"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/envtest"
)

// liar is a correct environment with wrong facts.
type liar struct {
	subsets
	facts envs.Facts
}

func (l liar) Facts() envs.Facts { return l.facts }

func TestWrongFacts(t *testing.T) {
	truth := envs.FactsOf(subsets{})
	for what, lie := range map[string]func(*envs.Facts){
		"steps":  func(f *envs.Facts) { f.MaxSteps++ },
		"cells":  func(f *envs.Facts) { f.Cells = wrong(f.Cells) },
		"log Z":  func(f *envs.Facts) { f.LogZ = wrong(f.LogZ) },
		"reward": func(f *envs.Facts) { f.MaxReward = wrong(f.MaxReward) },
		"modes":  func(f *envs.Facts) { f.Modes = wrong(f.Modes) },
	} {
		env, noticed := liar{facts: truth}, false
		lie(&env.facts)
		for _, c := range envtest.Checks() {
			noticed = noticed || c.Run(env) != nil
		}
		if !noticed {
			t.Errorf("wrong %s: not noticed", what)
		}
	}
}

func wrong(v *float64) *float64 {
	w := *v + 1
	return &w
}

// TestNotListed: without a list the checks of lists are skipped, not failed.
func TestNotListed(t *testing.T) {
	var env envs.Env = struct{ envs.Env }{subsets{}}
	skipped := 0
	for _, c := range envtest.Checks() {
		switch err := c.Run(env); {
		case errors.Is(err, envs.ErrNotEnumerable):
			skipped++
		case err != nil:
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	if skipped != 5 {
		t.Errorf("%d checks skipped", skipped)
	}
	envtest.Run(t, env)
}

func TestSubsets(t *testing.T) { envtest.Run(t, subsets{}) }

// TestFaults breaks the environment in one place at a time: the named check has
// to notice.
func TestFaults(t *testing.T) {
	checks := map[string]envtest.Check{}
	for _, c := range envtest.Checks() {
		checks[c.Name] = c
	}
	for _, c := range []struct{ check, fault string }{
		{"spec", "nameless"},
		{"spec", "started"},
		{"spec", "short"},
		{"walks", "long"},
		{"walks", "mask too wide"},
		{"walks", "no end"},
		{"walks", "dead end"},
		{"walks", "back mask too wide"},
		{"walks", "no forced step"},
		{"walks", "undo wrong"},
		{"walks", "redo wrong"},
		{"walks", "back elsewhere"},
		{"illegal actions", "lenient"},
		{"illegal actions", "moves then fails"},
		{"illegal actions", "only anywhere"},
		{"illegal actions", "back elsewhere"},
		{"batches are atomic", "half a batch"},
		{"batches are atomic", "lenient"},
		{"copy and reset", "reset halfway"},
		{"copy and reset", "copy unfinished"},
		{"copy and reset", "copy spills"},
		{"features", "many features"},
		{"features", "features outside"},
		{"features", "features overwrite"},
		{"keys", "key without end"},
		{"keys", "coarse key"},
		{"keys", "key overwrites"},
		{"rewards", "early reward"},
		{"rewards", "infinite reward"},
		{"text", "credulous"},
		{"text", "parse changes"},
		{"numbering", "load ends"},
		{"numbering", "load mixes up"},
		{"numbering", "load repeats"},
		{"numbering", "load flips"},
		{"numbering", "child goes down"},
		{"numbering", "child outside"},
		{"reachable", "phantom state"},
		{"reachable", "phantom object"},
		{"listing equals stepping", "child elsewhere"},
		{"listing equals stepping", "child never ends"},
		{"listing equals stepping", "object elsewhere"},
		{"listing equals stepping", "objects differ"},
		{"listing equals stepping", "rewards differ"},
		{"listing equals sampling", "child elsewhere"},
		{"listing equals sampling", "objects differ"},
		{"modes", "mode outside"},
		{"modes", "phantom mode"},
		{"modes", "modes overwrite"},
		{"modes", "modes differ"},
		{"modes", "mode twice"},
	} {
		t.Run(c.check+"/"+c.fault, func(t *testing.T) {
			check, ok := checks[c.check]
			if !ok {
				t.Fatalf("no check %q", c.check)
			}
			if check.Run(subsets{fault: c.fault}) == nil {
				t.Error("not noticed")
			}
		})
	}
}
