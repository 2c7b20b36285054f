package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
)

// ensemble is one node of a replicated log that is measured by itself.
type ensemble interface {
	// lead founds the cluster and takes the peers in as voters.
	lead(ctx context.Context, peers []peer) error
	// encode makes the entry of the next state. One goroutine at a time calls it.
	encode() ([]byte, error)
	// propose puts an entry into the log; the answer comes once.
	propose(entry []byte) (answer <-chan error)
	// size is that of an entry of one state, bytes.
	size() int
	addr() string
	close() error
}

type peer struct{ id, addr string }

// voterReady is the first line of a voter.
type voterReady struct {
	Addr string `json:"addr"`
	Size int    `json:"entry_bytes"`
}

// committing is what a voter that leads measured.
type committing struct {
	Rate    float64 `json:"commits_per_second"`
	Bytes   float64 `json:"bytes_per_second"` // of entries
	Latency float64 `json:"commit_ms_p50"`
	CPU     float64 `json:"leader_cpu_ms_per_commit"`
	All     float64 `json:"cpu_ms_per_commit,omitempty"` // of all voters
}

// fields are its numbers.
func (c *committing) fields() []*float64 {
	return []*float64{&c.Rate, &c.Bytes, &c.Latency, &c.CPU, &c.All}
}

// runVoter is one process of a replicated log. One that founds it makes a
// measurement for each line of its standard input, which names the time, and ends
// with it; the others end with theirs.
func runVoter(ctx context.Context, args []string) (err error) {
	fl := flag.NewFlagSet("voter", flag.ContinueOnError)
	bare := fl.Bool("bare", false, "hashicorp/raft alone, with a state machine that does nothing")
	dir := fl.String("dir", "", "data `folder`")
	id := fl.String("id", "", "of the node")
	found := fl.Bool("found", false, "found the cluster and lead it")
	peers := fl.String("peers", "", "`id=address,…` of the other voters")
	params := fl.Int("params", 71_000, "parameters of the model")
	size := fl.Int("size", 0, "bytes of an entry, if bare")
	jobFile := fl.String("job", "", "`file` of a job that the one who leads trains, instead of committing what there is")
	batch := fl.Int("batch", 64, "of the job")
	profile := fl.String("profile", "", "CPU profile `file`")
	if err := fl.Parse(args); err != nil {
		return err
	}
	others, err := parsePeers(*peers)
	if err != nil {
		return err
	}
	var node ensemble
	if *bare {
		node, err = openBare(*dir, *id, *found, *size)
	} else {
		node, err = openReplica(*dir, *id, *found, len(others) == 0, *params)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string)
	go func() { // ends with the process
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	if *found {
		if err := node.lead(ctx, others); err != nil {
			return err
		}
	}
	answer := func(ctx context.Context, line string) (any, error) { return commit(ctx, node, line) }
	if *found && *jobFile != "" {
		spec, err := loadJob(*jobFile, fmt.Sprintf("train.batch=%d", *batch))
		if err != nil {
			return err
		}
		s, err := newSchooling(ctx, node.(*ours).replica, spec)
		if err != nil {
			return err
		}
		answer = s.answer
	}
	stop, err := parts.Profiled(*profile)
	if err != nil {
		return err
	}
	defer stop()
	if err := parts.Say(voterReady{node.addr(), node.size()}); err != nil {
		return err
	}
	for {
		select {
		case line := <-lines:
			measured, err := answer(ctx, line)
			if err != nil {
				return err
			}
			if err := parts.Say(measured); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// commit answers a line, a duration, of what commits.
func commit(ctx context.Context, e ensemble, line string) (any, error) {
	d, err := time.ParseDuration(line)
	if err != nil {
		return nil, err
	}
	return pump(ctx, e, d)
}

// answer answers a line, "alone" or "commit" and a duration, of what trains.
func (s *schooling) answer(ctx context.Context, line string) (any, error) {
	how, length, _ := strings.Cut(line, " ")
	d, err := time.ParseDuration(length)
	if err != nil {
		return nil, err
	}
	return s.train(ctx, d, how == "commit")
}

func parsePeers(text string) (out []peer, err error) {
	for one := range strings.SplitSeq(text, ",") {
		if one == "" {
			continue
		}
		id, addr, ok := strings.Cut(one, "=")
		if !ok || id == "" || addr == "" {
			return nil, fmt.Errorf("-peers %q: want id=address", one)
		}
		out = append(out, peer{id, addr})
	}
	return out, nil
}

// inFlight is a learner's: paramserver.MaxInFlight commits are unanswered at most.
const inFlight = 2

// pump proposes one state after the other, as many unanswered as a learner has at
// most, for d. The next one is encoded meanwhile.
func pump(ctx context.Context, e ensemble, d time.Duration) (*committing, error) {
	type flight struct {
		answer <-chan error
		sent   time.Time
	}
	entries := make(chan []byte, inFlight)
	var encoding errgroup.Group
	encoding.Go(func() error {
		defer close(entries)
		for began := time.Now(); time.Since(began) < d; {
			entry, err := e.encode()
			if err != nil {
				return err
			}
			select {
			case entries <- entry:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	var flying []flight
	var took []float64
	began, cpu := time.Now(), parts.OwnCPU()
	for next := entries; next != nil || len(flying) > 0; {
		room := next
		if len(flying) == inFlight {
			room = nil
		}
		var first <-chan error
		if len(flying) > 0 {
			first = flying[0].answer
		}
		select {
		case entry, more := <-room:
			if !more {
				next = nil
				continue
			}
			flying = append(flying, flight{e.propose(entry), time.Now()})
		case err := <-first:
			if err != nil {
				return nil, err
			}
			took = append(took, time.Since(flying[0].sent).Seconds())
			flying = flying[1:]
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := encoding.Wait(); err != nil {
		return nil, err
	}
	seconds, n := time.Since(began).Seconds(), float64(len(took))
	return &committing{
		Rate: n / seconds, Bytes: n * float64(e.size()) / seconds, Latency: 1e3 * chaos.Quantile(took, 0.5),
		CPU: 1e3 * (parts.OwnCPU() - cpu).Seconds() / n,
	}, nil
}
