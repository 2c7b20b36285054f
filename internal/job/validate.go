package job

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// Names become folders: plain ASCII, no separators, nothing that hides or
// climbs ("." and ".." begin with a dot).
const (
	namePattern = `^[A-Za-z0-9_][A-Za-z0-9._-]*$`
	wantName    = "a file name of at most 64 letters, digits, dots, dashes and underscores that does not begin with a dot or dash"
)

var safeName = regexp.MustCompile(namePattern)

// Validate checks the structure of the job: ranges, enumerations, names, finite
// numbers, capped sizes. It joins all faults as *fielderr.Error in the order of
// the fields. Whether the environment and the loss exist, and what their
// parameters mean, is for their own packages to say.
func (s *Spec) Validate() error {
	c := &checker{}
	c.walk("", reflect.ValueOf(s).Elem())
	if !safeName.MatchString(s.Name) || len(s.Name) > maxName {
		c.fault("name", given(s.Name), wantName)
	}
	if !safeName.MatchString(s.Env.Name) || len(s.Env.Name) > maxName {
		c.fault("env.name", given(s.Env.Name), "an environment, such as hypergrid")
	}
	if d := s.Loss.Divergence; d == "" || len(d) > maxMember || strings.ContainsFunc(d, unicode.IsControl) {
		c.fault("loss.divergence", given(shorten(d)), fmt.Sprintf("a member of the f-TB family such as hellinger, on one line of at most %d characters", maxMember))
	}
	c.policy(s.Policy)
	if s.Train.Batch <= maxBatch && 1 <= s.Mesh.ReplayMax && s.Mesh.ReplayMax < s.Train.Batch {
		c.fault("mesh.replay_max", s.Mesh.ReplayMax, fmt.Sprintf("at least train.batch (%d), or the learner never fills a batch", s.Train.Batch))
	}
	if s.Eval.TopK > 0 && s.Eval.Samples == 0 {
		c.fault("eval.top_k", s.Eval.TopK, "eval.samples to be set too: the best are picked from the samples")
	}
	if _, err := ParseArchive(s.Mesh.Archive); err != nil {
		c.faults = append(c.faults, err)
	}
	c.objective(s)
	c.free("env.params", s.Env.Params, 0)
	c.reward(s.Reward)
	return errors.Join(c.faults...)
}

type checker struct{ faults []error }

func (c *checker) fault(path string, value any, want string) {
	c.faults = append(c.faults, fielderr.New(path, value, want))
}

// given makes an empty text a missing one.
func given(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func shorten(text string) string {
	if len(text) > 80 {
		return text[:77] + "..."
	}
	return text
}

// walk applies the table of fields to every field below v.
func (c *checker) walk(path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	f := fields[path]
	switch x := v.Interface().(type) {
	case schedule.Value:
		c.schedule(path, f, x)
		return
	case []int:
		for i, n := range x[:min(len(x), maxLayers)] { // a longer one is a fault as a whole
			c.number(fmt.Sprintf("%s[%d]", path, i), f, float64(n), "an integer", n)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			c.walk(joinPath(path, yamlName(v.Type().Field(i))), v.Field(i))
		}
	case reflect.String:
		c.text(path, f, v.String())
	case reflect.Int, reflect.Int64:
		c.number(path, f, float64(v.Int()), "an integer", v.Int())
	case reflect.Float64:
		c.number(path, f, v.Float(), "a number", v.Float())
	}
}

func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (c *checker) text(path string, f field, s string) {
	if f.enum == nil || slices.Contains(f.enum, s) || f.optional && s == "" {
		return
	}
	named := slices.DeleteFunc(slices.Clone(f.enum), func(v string) bool { return v == "" }) // "" is not given
	want := strings.Join(named, ", ")
	if len(named) > 1 {
		want = "one of " + want
	}
	if near := suggest.Closest(s, f.enum); near != "" {
		want += fmt.Sprintf("; did you mean %s?", near)
	}
	c.fault(path, given(shorten(s)), want)
}

func (c *checker) number(path string, f field, x float64, kind string, value any) {
	if !f.contains(x) {
		c.fault(path, value, f.want(kind))
	}
}

func (c *checker) schedule(path string, f field, v schedule.Value) {
	switch err := v.Validate(); {
	case err != nil:
		c.faults = append(c.faults, trimPath(fielderr.Prefix(path, err)))
	case !v.IsSet():
		c.fault(path, nil, f.want("a number"))
	case !f.contains(v.Min()) || !f.contains(v.Max()):
		if v.IsConst() {
			c.fault(path, v.From, f.want("a number"))
		} else {
			c.fault(path, v.String(), f.want("a number")+" at every update")
		}
	}
}

// trimPath undoes the dot that Prefix puts after a path when the fault is of
// the value as a whole.
func trimPath(err error) error {
	var fe *fielderr.Error
	if errors.As(err, &fe) {
		fe.Path = strings.TrimSuffix(fe.Path, ".")
	}
	return err
}

func (f field) contains(x float64) bool {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return false
	case x < f.min || x > f.max:
		return false
	}
	return !(f.above && x == f.min) && !(f.below && x == f.max)
}

// want says in words which values of a kind ("an integer", "a number") the
// field takes.
func (f field) want(kind string) string {
	num := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	low, high := " of at least "+num(f.min), "at most "+num(f.max)
	if f.above {
		low = " above " + num(f.min)
	}
	if f.below {
		high = "below " + num(f.max)
	}
	switch {
	case math.IsInf(f.min, -1) && math.IsInf(f.max, 1):
		return "a finite number"
	case math.IsInf(f.max, 1):
		return kind + low
	case f.above || f.below:
		return kind + low + " and " + high
	}
	return fmt.Sprintf("%s from %s to %s", kind, num(f.min), num(f.max))
}

// maxParamDepth bounds nested parameters, which JSON would otherwise follow
// without end.
const maxParamDepth = 16

// free checks a value without a declared type: what JSON can carry, finite.
func (c *checker) free(path string, value any, depth int) {
	if depth > maxParamDepth {
		c.fault(path, "...", fmt.Sprintf("at most %d levels", maxParamDepth))
		return
	}
	switch x := value.(type) {
	case nil, bool, string, int, int64:
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			c.fault(path, x, "a finite number")
		}
	case []any:
		for i, item := range x {
			c.free(fmt.Sprintf("%s[%d]", path, i), item, depth+1)
		}
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if !safeName.MatchString(k) || len(k) > maxName {
				c.fault(path, shorten(k), "names of letters, digits, dashes and underscores")
				continue
			}
			c.free(joinPath(path, k), x[k], depth+1)
		}
	default:
		c.fault(path, fmt.Sprintf("%T", x), "a number, text, true or false, a list, or a mapping")
	}
}
