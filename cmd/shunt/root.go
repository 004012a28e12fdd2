package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"shunt/gateway/config"
	"shunt/gateway/noc"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1 // refused or failed
	exitUsage  = 2 // unknown flag, wrong arguments
)

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// starter runs a gateway until ctx ends. relevel sets what is logged, unless the
// command line has said so.
type starter func(ctx context.Context, cfg *config.Config, log *slog.Logger, relevel func(slog.Level)) error

// app is what all commands share. It belongs to the goroutine of execute.
type app struct {
	streams
	start  starter
	socket string
	json   bool
	unmask bool
	// terminal is where the output goes if that is a file; only top writes to it.
	terminal *os.File

	running bool // the command line was understood: what fails now is no usage error
}

// usageError says that the command line is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }

// errSaid ends a command with exitFailed after it has said everything itself.
var errSaid = errors.New("already said")

// execute runs one command line and returns the process's exit code.
func execute(ctx context.Context, args []string, s streams, start starter) int {
	out := bufio.NewWriter(s.out)
	a := &app{streams: streams{s.in, out, s.err}, start: start}
	a.terminal, _ = s.out.(*os.File)
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("write the output: %w", flushed)
	}
	wrong := new(usageError)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &wrong), !a.running:
		fmt.Fprintf(s.err, "shunt: %s\nTry '%s --help'.\n", printableLines(err.Error()), cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(s.err, "shunt: %s\n", printableLines(err.Error())) // it may quote who answered
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := a.group("shunt", "Carrier-edge SMPP gateway: messages to apps, with SMS to fall back on",
		"  shunt check -c /etc/shunt/shunt.toml\n  shunt run -c /etc/shunt/shunt.toml\n  shunt status")
	root.SetIn(a.in)
	root.SetOut(a.out) // before cobra's completion command, which keeps it
	root.SetErr(a.err)
	root.SilenceUsage, root.SilenceErrors = true, true
	root.AddCommand(a.runCommand(), a.checkCommand(), a.statusCommand(), a.sessionsCommand(),
		a.traceCommand(), a.explainCommand(), a.divertCommand(), a.drainCommand(), a.undrainCommand(), a.queueCommand(),
		a.alarmsCommand(), a.auditCommand(),
		a.topCommand(), a.selftestCommand(), a.reloadCommand(),
		a.registryCommand(), a.backupCommand(), a.restoreCommand(), a.storeCommand(), a.manCommand(), a.versionCommand())
	root.InitDefaultCompletionCmd("completion")
	root.InitDefaultHelpCmd()
	a.adopt(root)
	return root
}

// adopt notes when a command of ours or of cobra's begins its work.
func (a *app) adopt(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.running = true
			return run(c, args)
		}
	}
	if c.Name() == "completion" {
		g := a.group("completion", "", "  shunt completion bash > /etc/bash_completion.d/shunt")
		c.Example, c.Args, c.RunE = g.Example, g.Args, g.RunE
	}
	if c.Name() == "help" && c.Parent() == c.Root() {
		c.Example = "  shunt help registry put"
	}
	if c.Parent() != nil && c.Parent().Name() == "completion" && c.Example == "" {
		c.Example = "  " + c.CommandPath()
	}
	for _, sub := range c.Commands() {
		a.adopt(sub)
	}
}

// group is a command that only holds others. A name that it does not know is a
// usage error, also where cobra would show the help and be content.
func (a *app) group(name, short, example string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Example: example, SuggestionsMinimumDistance: 2,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("unknown command %q", strings.TrimPrefix(c.CommandPath()+" ", c.Root().Name()+" ")+args[0])
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				text += ": did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("%s", text)
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
}

// withJSON gives c the flag --json.
func (a *app) withJSON(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "write JSON for scripts instead of a table")
	return c
}

// remote gives c the flags of a command that talks to a running gateway.
func (a *app) remote(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.socket, "socket", noc.DefaultSocket, "the gateway's control socket ([noc] socket)")
	return a.withJSON(c)
}

// showsNumbers gives c the flag --unmask.
func (a *app) showsNumbers(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.unmask, "unmask", false, "show whole numbers")
	return c
}

// ask runs f with a client of the running gateway.
func (a *app) ask(f func(c *noc.Client) error) error {
	c := noc.New(a.socket)
	defer c.Close()
	return f(c)
}

// writeJSON writes v as indented JSON.
func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// flush shows what was written so far.
func (a *app) flush() error {
	if f, ok := a.out.(*bufio.Writer); ok {
		if err := f.Flush(); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
	}
	return nil
}

// table aligns rows of cells that end in tabs.
func (a *app) table(f func(w io.Writer)) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	f(w)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// nameWidth is how much of a name a table of many rows shows: one long name must
// not push the other columns off the screen.
const nameWidth = 28

// short is a name for a table of many rows; --json has it whole.
func short(name string) string { return shortened(name, nameWidth) }

func shortened(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// row writes one row; an empty cell shows as "-". What peers call themselves must
// not steer the terminal.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		if text := printableText(fmt.Sprint(c)); text != "" {
			fmt.Fprint(w, text)
		} else {
			fmt.Fprint(w, "-")
		}
	}
	fmt.Fprintln(w)
}

// name is the command's name without the program's.
func name(c *cobra.Command) string { return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ") }

// noArgs and oneArg are cobra's with the argument's name in the message.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, got %q", name(c), args[0])
	}
	return nil
}

func oneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usagef("%s: %s is missing", name(c), what)
		case len(args) > 1:
			return usagef("%s takes only one %s", name(c), what)
		}
		return nil
	}
}
