// Package pilot decides who votes. The leader looks at its members every moment,
// and Plan, a pure function, says what to change.
//
// It stands where hashicorp/raft-autopilot usually does, with that package's
// words for a node's condition, but not its loop: autopilot removes a failed
// server as soon as it is told of it and lets a promoter only object, so it cannot
// keep a paused voter until a spare has caught up and for ten minutes otherwise;
// it collects log positions by calling every server, which the leader knows
// already; and it takes any healthy server for a voter, which would make one of
// every preemptible learner.
package pilot

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"
)

// Role of a member. Only servers ever vote.
type Role string

// Roles.
const (
	Server  Role = "server"
	Learner Role = "learner"
	Unknown Role = "" // not heard of since the leader started
)

// Member is what the leader knows of one member of the raft configuration.
type Member struct {
	ID    string
	Role  Role
	Voter bool
	// Status is Alive while the member answers the leader or gossip; Left after
	// a good-bye.
	Status autopilot.NodeStatus
	// Down is for how long the leader has seen it as not alive.
	Down time.Duration
	// CaughtUp says that its log is close to the end of the leader's.
	CaughtUp bool
}

func (m Member) alive() bool { return m.Status == autopilot.NodeAlive }

// View is what the leader decides from.
type View struct {
	Leader  string // node ID of the leader, which is the one that plans
	Members []Member
	Rules
}

// Rules are the constants of the decision.
type Rules struct {
	// MaxVoters is the most voters wanted, odd.
	MaxVoters int
	// MinVoters is never undercut by removing the dead.
	MinVoters int
	// ReplaceAfter is for how long a voter must be down before a spare takes its
	// vote: longer than an election and a pause of the scheduler.
	ReplaceAfter time.Duration
	// DeadAfter is for how long a member must be down to be removed without
	// anyone in its place.
	DeadAfter time.Duration
}

// Defaults returns the rules that hold without flags.
func Defaults() Rules {
	return Rules{MaxVoters: 5, MinVoters: 3, ReplaceAfter: 2 * time.Second, DeadAfter: 10 * time.Minute}
}

// Kind of an Action.
type Kind string

// Kinds.
const (
	Promote Kind = "promote" // a non-voter becomes a voter
	Demote  Kind = "demote"  // a voter becomes a non-voter
	Remove  Kind = "remove"  // a member is no longer one
)

// Action is one change of the raft configuration.
type Action struct {
	Kind   Kind
	Node   string
	Reason string // for the operator
}

// Quorum is how many of n voters must agree.
func Quorum(n int) int { return n/2 + 1 }

// Plan returns the changes that are due, to be made one after the other; each
// leaves a quorum of live voters if those before it were made. The same view
// gives the same plan.
func Plan(v View) []Action {
	p := &planner{View: v}
	p.Members = slices.Clone(v.Members)
	slices.SortFunc(p.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for {
		before := len(p.actions)
		p.misplaced()
		p.replace()
		p.grow()
		p.bury()
		p.even()
		p.forget()
		if len(p.actions) == before {
			return p.actions
		}
	}
}

type planner struct {
	View
	actions []Action
}

// misplaced takes the vote of learners: no rule of ours gives it to them.
func (p *planner) misplaced() {
	for i, m := range p.Members {
		if m.Voter && m.Role == Learner && m.ID != p.Leader && p.safeWithout(i) {
			p.demote(i, "learners never vote")
		}
	}
}

// replace gives the vote of a voter that is down to a spare that has caught up.
// The dead voter stays as a non-voter, and is the next spare if it comes back.
func (p *planner) replace() {
	for i, m := range p.Members {
		if !m.Voter || m.alive() || m.Down < p.ReplaceAfter || m.ID == p.Leader {
			continue
		}
		s := p.spare()
		// In between there is one voter more, with as many that are down.
		if s < 0 || p.live()+1 < Quorum(p.voters()+1) {
			return
		}
		p.promote(s, fmt.Sprintf("in place of %s, which has not answered for %s", m.ID, m.Down.Round(time.Second)))
		p.demote(i, fmt.Sprintf("no answer for %s; %s votes in its place", m.Down.Round(time.Second), p.Members[s].ID))
	}
}

// grow promotes spares as long as that makes the next odd number of voters.
func (p *planner) grow() {
	for {
		now := p.voters()
		want := now + 1 + now%2 // the next odd number
		if want > p.MaxVoters || p.spares() < want-now {
			return
		}
		for p.voters() < want {
			s := p.spare()
			// One that is down must not make the newcomers a risk.
			if p.live()+1 < Quorum(p.voters()+1) {
				return
			}
			p.promote(s, fmt.Sprintf("%d voters", want))
		}
	}
}

// bury removes voters that have been down for long, as far as MinVoters allows.
func (p *planner) bury() {
	for i := 0; i < len(p.Members); i++ {
		m := p.Members[i]
		if !m.Voter || m.alive() || m.Down < p.DeadAfter || m.ID == p.Leader {
			continue
		}
		if p.voters()-1 < p.MinVoters || !p.safeWithout(i) {
			continue
		}
		p.remove(i, fmt.Sprintf("no answer for %s", m.Down.Round(time.Second)))
		i--
	}
}

// even makes an even number of four or more voters odd: one less bears the loss
// of as many. Two voters stay two, because one would keep everything on one disk.
func (p *planner) even() {
	if n := p.voters(); n < 4 || n%2 != 0 {
		return
	}
	for _, down := range []bool{true, false} { // a dead one first, whose spare is in already
		for i := len(p.Members) - 1; i >= 0; i-- {
			m := p.Members[i]
			if !m.Voter || m.ID == p.Leader || m.alive() == down || !p.safeWithout(i) || down && m.Down < p.ReplaceAfter {
				continue
			}
			p.demote(i, "an odd number of voters")
			return
		}
	}
}

// forget removes non-voters that said good-bye or have been down for long.
func (p *planner) forget() {
	for i := 0; i < len(p.Members); i++ {
		m := p.Members[i]
		switch {
		case m.Voter || m.alive():
			continue
		case m.Status == autopilot.NodeLeft:
			p.remove(i, "it left")
		case m.Down >= p.DeadAfter:
			p.remove(i, fmt.Sprintf("no answer for %s", m.Down.Round(time.Second)))
		default:
			continue
		}
		i--
	}
}

func (p *planner) promote(i int, why string) {
	p.Members[i].Voter = true
	p.actions = append(p.actions, Action{Promote, p.Members[i].ID, why})
}

func (p *planner) demote(i int, why string) {
	p.Members[i].Voter = false
	p.actions = append(p.actions, Action{Demote, p.Members[i].ID, why})
}

func (p *planner) remove(i int, why string) {
	p.actions = append(p.actions, Action{Remove, p.Members[i].ID, why})
	p.Members = slices.Delete(p.Members, i, i+1)
}

// spare is a live server that has caught up and does not vote; -1 for none.
func (p *planner) spare() int {
	return slices.IndexFunc(p.Members, isSpare)
}

func isSpare(m Member) bool { return !m.Voter && m.Role == Server && m.alive() && m.CaughtUp }

func (p *planner) spares() (n int) {
	for _, m := range p.Members {
		if isSpare(m) {
			n++
		}
	}
	return n
}

func (p *planner) voters() (n int) {
	for _, m := range p.Members {
		if m.Voter {
			n++
		}
	}
	return n
}

// live counts the voters that answer.
func (p *planner) live() (n int) {
	for _, m := range p.Members {
		if m.Voter && m.alive() {
			n++
		}
	}
	return n
}

// safeWithout says whether the other voters still make a quorum without one.
func (p *planner) safeWithout(i int) bool {
	live := p.live()
	if p.Members[i].alive() {
		live--
	}
	return p.voters() > 1 && live >= Quorum(p.voters()-1)
}

// CheckRemoval says why a member must not be removed now, with the arithmetic;
// nil if it may be. members are those of the raft configuration.
func CheckRemoval(members []Member, node string) error {
	p := &planner{View: View{Members: members}}
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == node })
	if i < 0 || !members[i].Voter {
		return nil
	}
	left, live := p.voters()-1, p.live()
	if members[i].alive() {
		live--
	}
	switch {
	case left == 0:
		return fmt.Errorf("%s is the only voter: without it there is no cluster", node)
	case live < Quorum(left):
		return fmt.Errorf("%d voters would be left, of which %d answer, and %d must agree; bring a server back or add one first", left, live, Quorum(left))
	}
	return nil
}
