package pilot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"
	"pgregory.net/rapid"
)

// parse reads members such as "a:voter b:spare:down=3s c:learner:left".
func parse(t *testing.T, text string) []Member {
	t.Helper()
	var out []Member
	for _, word := range strings.Fields(text) {
		parts := strings.Split(word, ":")
		m := Member{ID: parts[0], Status: autopilot.NodeAlive, CaughtUp: true, Role: Server}
		for _, p := range parts[1:] {
			switch {
			case p == "voter":
				m.Voter = true
			case p == "spare":
			case p == "learner":
				m.Role = Learner
			case p == "unknown":
				m.Role = Unknown
			case p == "behind":
				m.CaughtUp = false
			case p == "left":
				m.Status = autopilot.NodeLeft
			case strings.HasPrefix(p, "down="):
				d, err := time.ParseDuration(p[5:])
				if err != nil {
					t.Fatal(err)
				}
				m.Status, m.Down, m.CaughtUp = autopilot.NodeFailed, d, false
			default:
				t.Fatalf("%q in %q", p, word)
			}
		}
		out = append(out, m)
	}
	return out
}

func TestPlan(t *testing.T) {
	for _, c := range []struct{ name, members, want string }{
		{"one server", "a:voter", ""},
		{"a second server is a spare", "a:voter b:spare", ""},
		{"two more make three", "a:voter b:spare c:spare", "promote b, promote c"},
		{"one of two is behind", "a:voter b:spare c:spare:behind", ""},
		{"the fourth is a spare", "a:voter b:voter c:voter d:spare", ""},
		{"five", "a:voter b:voter c:voter d:spare e:spare", "promote d, promote e"},
		{"never seven", "a:voter b:voter c:voter d:voter e:voter f:spare g:spare", ""},
		{"learners never", "a:voter b:learner c:learner d:learner", ""},
		{"nor a node of unknown role", "a:voter b:unknown c:unknown", ""},
		{"two voters want a third", "a:voter b:voter c:spare", "promote c"},
		{"two voters stay", "a:voter b:voter", ""},
		{"a learner that votes", "a:voter b:voter c:voter:learner", "demote c"},

		{"a pause is borne", "a:voter b:voter c:voter:down=1s d:spare", ""},
		{"a dead voter is replaced", "a:voter b:voter c:voter:down=3s d:spare", "promote d, demote c"},
		{"not by one that is behind", "a:voter b:voter c:voter:down=3s d:spare:behind", ""},
		{"not by a learner", "a:voter b:voter c:voter:down=3s d:learner", ""},
		{"without a spare it stays", "a:voter b:voter c:voter:down=9m", ""},
		{"also for long, where two would be left", "a:voter b:voter c:voter:down=11m", ""},
		{"replaced after long", "a:voter b:voter c:voter:down=11m d:spare", "promote d, demote c, remove c"},
		{"one of five, without a spare", "a:voter b:voter c:voter d:voter e:voter:down=9m", ""},
		{"removed after long, and odd again", "a:voter b:voter c:voter d:voter e:voter:down=11m", "remove e, demote d"},
		{"two of five", "a:voter b:voter c:voter d:voter:down=11m e:voter:down=11m", "remove d, remove e"},
		{"two of five, one spare", "a:voter b:voter c:voter d:voter:down=3s e:voter:down=3s f:spare", "promote f, demote d"},
		{"cut short between two steps", "a:voter b:voter c:voter:down=3s d:voter", "demote c"},
		{"a spare that comes back", "a:voter b:voter c:spare d:voter", ""},
		{"no growth at a risk", "a:voter b:voter c:voter:down=1s d:spare e:spare", "promote d, promote e"},

		{"a dead learner", "a:voter b:learner:down=9m", ""},
		{"dead for long", "a:voter b:learner:down=11m", "remove b"},
		{"a learner that left", "a:voter b:learner:left", "remove b"},
		{"a spare that left", "a:voter b:voter c:voter d:spare:left", "remove d"},
		{"of unknown role and dead for long", "a:voter b:unknown:down=11m", "remove b"},
		{"the leader is never touched", "a:voter:down=11m b:voter c:voter d:spare", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := Plan(View{Leader: "a", Members: parse(t, c.members), Rules: Defaults()})
			var got []string
			for _, a := range plan {
				if a.Reason == "" {
					t.Errorf("%+v has no reason", a)
				}
				got = append(got, fmt.Sprintf("%s %s", a.Kind, a.Node))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("planned %q, want %q", s, c.want)
			}
		})
	}
}

// TestNoStepLosesTheQuorum runs plans against random clusters, step by step.
func TestNoStepLosesTheQuorum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := View{Leader: "n0", Rules: Defaults()}
		for i := range rapid.IntRange(1, 9).Draw(t, "members") {
			m := Member{
				ID:       fmt.Sprintf("n%d", i),
				Role:     rapid.SampledFrom([]Role{Server, Server, Learner, Unknown}).Draw(t, "role"),
				Voter:    rapid.Bool().Draw(t, "voter"),
				Status:   rapid.SampledFrom([]autopilot.NodeStatus{autopilot.NodeAlive, autopilot.NodeAlive, autopilot.NodeFailed, autopilot.NodeLeft, autopilot.NodeUnknown}).Draw(t, "status"),
				Down:     time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute,
				CaughtUp: rapid.Bool().Draw(t, "caught up"),
			}
			if i == 0 {
				m = Member{ID: "n0", Role: Server, Voter: true, Status: autopilot.NodeAlive, CaughtUp: true}
			}
			v.Members = append(v.Members, m)
		}
		count := func() (voters, live int) {
			for _, m := range v.Members {
				if m.Voter {
					voters++
					if m.alive() {
						live++
					}
				}
			}
			return voters, live
		}
		if voters, live := count(); live < Quorum(voters) {
			t.Skip("no quorum to begin with: no leader plans")
		}
		for _, a := range Plan(v) {
			i := slices.IndexFunc(v.Members, func(m Member) bool { return m.ID == a.Node })
			m := &v.Members[i]
			switch {
			case a.Node == v.Leader:
				t.Fatalf("%+v is about the leader", a)
			case a.Kind == Promote && (m.Role != Server || !m.alive() || !m.CaughtUp || m.Voter):
				t.Fatalf("%+v of %+v", a, *m)
			case a.Kind == Demote && !m.Voter:
				t.Fatalf("%+v of %+v", a, *m)
			case a.Kind == Remove && m.alive():
				t.Fatalf("%+v of %+v", a, *m)
			}
			if a.Kind == Remove {
				v.Members = slices.Delete(v.Members, i, i+1)
			} else {
				m.Voter = a.Kind == Promote
			}
			if voters, live := count(); live < Quorum(voters) || voters > max(v.MaxVoters+1, 9) {
				t.Fatalf("after %+v: %d of %d voters live", a, live, voters)
			}
		}
		// Once carried out, nothing is left to do: no vote goes back and forth.
		if again := Plan(v); len(again) > 0 {
			t.Fatalf("planned again: %+v", again)
		}
	})
}

func TestARemovalThatLosesTheQuorumIsRefused(t *testing.T) {
	for _, c := range []struct{ members, node, want string }{
		{"a:voter b:voter c:voter", "c", ""},
		{"a:voter b:voter c:voter:down=1s", "c", ""},
		{"a:voter b:voter c:voter:down=1s", "b", "2 voters would be left, of which 1 answer, and 2 must agree"},
		{"a:voter", "a", "the only voter"},
		{"a:voter b:learner:down=1s", "b", ""},
		{"a:voter", "x", ""},
	} {
		err := CheckRemoval(parse(t, c.members), c.node)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s without %s: %v, want %q", c.members, c.node, err, c.want)
		}
	}
}

func TestNewsIsToldOnce(t *testing.T) {
	alive, failed, left := autopilot.NodeAlive, autopilot.NodeFailed, autopilot.NodeLeft
	seen := []Sighting{
		{"new", "server", alive}, {"same", "worker", alive}, {"died", "worker", failed}, {"back", "learner", alive},
		{"never seen alive", "worker", failed}, {"left", "worker", left}, {"unknown", "", autopilot.NodeUnknown},
	}
	recorded := map[string]autopilot.NodeStatus{"same": alive, "died": alive, "back": failed, "left": alive}
	names := func(list []Sighting) (out []string) {
		for _, s := range list {
			out = append(out, s.ID)
		}
		return out
	}
	if got := names(News(seen, recorded, true)); !slices.Equal(got, []string{"new", "died", "back", "left"}) {
		t.Error(got)
	}
	if got := names(News(seen, recorded, false)); !slices.Equal(got, []string{"died", "back", "left"}) {
		t.Error("with a history that was shortened:", got)
	}
	for _, s := range News(seen, recorded, true) {
		recorded[s.ID] = s.Status
	}
	if got := News(seen, recorded, true); len(got) != 0 {
		t.Error("told again:", got)
	}
}
