package fielderr

import (
	"errors"
	"fmt"
	"testing"
)

// TestPrefixKeepsAnErrorOfTwo whole: fmt.Errorf with two %w unwraps like errors.Join,
// and is one message.
func TestPrefixKeepsAnErrorOfTwo(t *testing.T) {
	a, b := errors.New("no answer"), errors.New("the process died")
	got := Prefix("env", fmt.Errorf("%w: %w", a, b))
	if got.Error() != "env: no answer: the process died" || !errors.Is(got, a) || !errors.Is(got, b) {
		t.Errorf("%q", got)
	}
	if got := Prefix("env", errors.Join(a, b)); got.Error() != "env: no answer\nenv: the process died" {
		t.Errorf("%q", got)
	}
	var fe *Error
	if got := Prefix("env", fmt.Errorf("%w: %w", a, New("dim", 0, "1 or more"))); !errors.As(got, &fe) || fe.Path != "env.dim" || !errors.Is(got, a) {
		t.Errorf("%q", got)
	}
}
