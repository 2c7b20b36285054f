package fsm

import "strconv"

// FeatureLevel is the newest semantics that this build understands. Adding a
// command, or a field to one, needs a new level. A cluster uses a level only
// after an Activate of it is committed.
const FeatureLevel = 2

// levelCap makes a build pretend to be an older one, for upgrade tests:
// go build -ldflags "-X …/paramserver/fsm.levelCap=1".
var levelCap string

// Supported is the feature level up to which this build decodes commands and
// snapshots: FeatureLevel, unless the build was capped.
func Supported() uint8 {
	if n, err := strconv.ParseUint(levelCap, 10, 8); err == nil && n >= 1 && n < FeatureLevel {
		return uint8(n)
	}
	return FeatureLevel
}

// Level is the lowest feature level that has the command's kind and all its
// set fields: what a cluster must have activated before the command is
// proposed. An Activate needs the level that it activates, so that an older
// build stops at it. Level is 0 for what is no command.
func Level(cmd any) uint8 {
	switch _, v := kindOf(cmd); c := v.(type) {
	case nil:
		return 0
	case CreateJob:
		if c.Weight != 0 || c.Priority != 0 {
			return 2
		}
	case Grant:
		if c.Reason != "" {
			return 2
		}
	case Commit:
		if len(c.Segments) > 0 {
			return 2
		}
	case Chunk, SetShare, Compact, Note:
		return 2
	case Activate:
		return max(2, c.Level)
	}
	return 1
}

// FeatureLevel is the level that the cluster has activated; 1 at first.
func (s *State) FeatureLevel() uint8 { return max(1, s.level) }

// activate raises the feature level. A level that this build does not have
// never gets here: see Level.
func (s *State) activate(c Activate) Result {
	old := s.FeatureLevel()
	if c.Level <= old {
		return Result{Outcome: AlreadyApplied}
	}
	s.level = c.Level
	if old < 2 {
		// Events are kept since level 2; this one is still known.
		s.record(Event{Stamp: s.created, Kind: EventInit, Detail: s.cluster})
	}
	return Result{Outcome: Applied}
}
