package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// userFault marks an error that only the user can mend, whatever its kind. It
// adds nothing to the text.
type userFault struct{ error }

func (f userFault) Unwrap() error { return f.error }

// checkVerb refuses a word that should be a verb and is none. Cobra itself
// looks at flags first, or shows a help text as if all were well.
func checkVerb(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], "__") {
		return nil // the shell's completion scripts ask
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	if len(args) > 0 && args[0] == "help" {
		args = args[1:]
	}
	group, rest, err := root.Find(args)
	if err != nil {
		group, rest = root, args
	}
	if !group.HasSubCommands() {
		return nil
	}
	value := false // of the flag before
	for _, word := range rest {
		if value {
			value = false
			continue
		}
		if strings.HasPrefix(word, "-") {
			value = takesValue(group, word)
			continue
		}
		var verbs []string
		for _, c := range group.Commands() {
			if c.IsAvailableCommand() {
				verbs = append(verbs, c.Name())
			}
		}
		return userFault{fmt.Errorf("%s has no verb %q%s (see %s --help)", group.CommandPath(), word, didYouMean(word, verbs), group.CommandPath())}
	}
	return nil
}

// takesValue says whether the word after a flag is its value.
func takesValue(c *cobra.Command, word string) bool {
	if strings.Contains(word, "=") {
		return false
	}
	var f *pflag.Flag
	if name, long := strings.CutPrefix(word, "--"); long {
		f = c.Flags().Lookup(name)
	} else if len(word) == 2 {
		f = c.Flags().ShorthandLookup(word[1:])
	}
	return f != nil && f.NoOptDefVal == ""
}

func didYouMean(word string, known []string) string {
	if near := suggest.Closest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// flagFault says what is wrong with a flag in the words of every other fault:
// which flag, what was given, what would be right.
func flagFault(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name, dashes := unknown.GetSpecifiedName(), "--"
		if unknown.GetSpecifiedShortnames() != "" {
			dashes = "-"
		}
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, "--"+f.Name)
			}
		})
		return userFault{fmt.Errorf("%s has no flag %s%s%s (see %s --help)", cmd.CommandPath(), dashes, name, didYouMean("--"+name, known), cmd.CommandPath())}
	case errors.As(err, &missing):
		return fielderr.New("--"+missing.GetFlag().Name, nil, flagKind(missing.GetFlag()))
	case errors.As(err, &invalid):
		return fielderr.New("--"+invalid.GetFlag().Name, invalid.GetValue(), flagKind(invalid.GetFlag()))
	}
	return userFault{err}
}

// flagKind says in words what a flag takes.
func flagKind(f *pflag.Flag) string {
	switch kind := f.Value.Type(); kind {
	case "int", "int64":
		return "an integer"
	case "uint", "uint64":
		return "an integer of at least 0"
	case "bool":
		return "true or false"
	case "float64":
		return "a number"
	case "float64Slice":
		return "numbers with commas between them, such as -1.5,0,2"
	case "intSlice":
		return "integers with commas between them, such as 0,50"
	default:
		return "a value"
	}
}

// argumentFaults makes the argument checks of a command and its children say
// how the command is called.
func argumentFaults(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) == nil {
				return nil
			}
			given := fmt.Sprintf("%d arguments", len(args))
			switch len(args) {
			case 0:
				given = "no argument"
			case 1:
				given = fmt.Sprintf("%q", args[0])
			}
			use := strings.TrimSuffix(cmd.UseLine(), " [flags]")
			return userFault{fmt.Errorf("got %s; want %s (see %s --help)", given, use, cmd.CommandPath())}
		}
	}
	for _, child := range c.Commands() {
		argumentFaults(child)
	}
}

// besidesInterrupt returns what went wrong apart from being told to end.
func besidesInterrupt(err error) error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && errors.Join(many.Unwrap()...).Error() == err.Error() {
		var rest []error
		for _, e := range many.Unwrap() { // of an errors.Join, each is a message of its own
			rest = append(rest, besidesInterrupt(e))
		}
		return errors.Join(rest...)
	}
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
