package main

import (
	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

// completion is what a shell is told of what may stand at the cursor.
type completion = func(c *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective)

// names completes what the running gateway knows by these names, in the place of
// the first argument, or of a flag's value. Where no gateway answers at once there
// is nothing, and nothing is said.
func (a *app) names(kinds ...string) completion {
	return func(c *cobra.Command, args []string, prefix string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
		n := noc.New(a.socket)
		defer n.Close()
		for _, kind := range kinds {
			names, err := n.Names(c.Context(), kind, prefix)
			if err != nil {
				break
			}
			for _, x := range names {
				all = append(all, cobra.CompletionWithDesc(x.Name, x.Note))
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// firstArgument completes the first argument alone.
func firstArgument(f completion) completion {
	return func(c *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(c, args, prefix)
	}
}

// completes gives c's argument, and flags by name, their completions.
func completes(c *cobra.Command, argument completion, flags map[string]completion) *cobra.Command {
	if argument != nil {
		c.ValidArgsFunction = firstArgument(argument)
	}
	for name, f := range flags {
		if err := c.RegisterFlagCompletionFunc(name, f); err != nil {
			panic(err) // no such flag
		}
	}
	return c
}

// oneOf completes one of some words.
func oneOf(words ...cobra.Completion) completion {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}
