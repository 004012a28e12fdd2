package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
	"shunt/gateway/number"
)

func (a *app) registryCommand() *cobra.Command {
	g := a.group("registry", "Look at and change who is registered", "  shunt registry count\n  shunt registry get +447700900042")
	g.AddCommand(a.putCommand(), a.getCommand(), a.rmCommand(), a.listCommand(), a.countCommand(),
		a.importCommand(), a.exportCommand(), a.eraseCommand())
	return g
}

// numberArg reads the one argument NUMBER.
func numberArg(c *cobra.Command, args []string) error {
	if err := oneArg("NUMBER")(c, args); err != nil {
		return err
	}
	if err := number.Looks(args[0]); err != nil { // which number it is, the gateway says
		return usagef("%v", err)
	}
	return nil
}

func (a *app) putCommand() *cobra.Command {
	var p noc.Put
	c := &cobra.Command{
		Use:   "put NUMBER --app A --platform apns|fcm --token T",
		Short: "Register a device of a number",
		Long: "Register a device of a number, or register it anew. Without --device it is a new one.\n" +
			"Without --bearer a new device gets one, which is printed here and never again, and a\n" +
			"known device keeps its own.",
		Example: "  shunt registry put +447700900042 --app chat --platform fcm --token T0K3N",
		Args:    numberArg,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains([]string{"apns", "fcm"}, p.Platform) {
				return usagef("--platform: want apns or fcm")
			}
			if !slices.Contains([]string{"active", "inactive"}, p.State) {
				return usagef("--state: want active or inactive")
			}
			return a.ask(func(n *noc.Client) error {
				answer, err := n.Put(c.Context(), args[0], p, a.unmask)
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(answer)
				}
				return a.table(func(w io.Writer) {
					row(w, "number", answer.Number)
					row(w, "device", answer.Device)
					if answer.Bearer != "" {
						row(w, "bearer", answer.Bearer)
					}
				})
			})
		},
	}
	f := c.Flags()
	f.StringVar(&p.App, "app", "", "the app, by its id in the configuration")
	f.StringVar(&p.Platform, "platform", "", "apns or fcm")
	f.StringVar(&p.Token, "token", "", "the push token")
	f.StringVar(&p.Device, "device", "", "the device's id (default: a new one)")
	f.StringVar(&p.Bearer, "bearer", "", "the device's bearer for the app API (default: one is made)")
	f.StringVar(&p.State, "state", "active", "active or inactive")
	f.BoolVar(&p.Sandbox, "sandbox", false, "the token is of APNs' development environment")
	for _, name := range []string{"app", "platform", "token"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // only for a flag that is not there
		}
	}
	return completes(a.showsNumbers(a.remote(c)), a.names(noc.NamesNumbers), map[string]completion{
		"app": a.names(noc.NamesApps), "platform": oneOf("apns", "fcm"), "state": oneOf("active", "inactive"),
	})
}

func (a *app) getCommand() *cobra.Command {
	c := a.showsNumbers(a.remote(&cobra.Command{
		Use:     "get NUMBER",
		Short:   "Show a number's devices",
		Example: "  shunt registry get +447700900042",
		Args:    numberArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.ask(func(n *noc.Client) error {
				reg, err := n.Get(c.Context(), args[0], a.unmask)
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(reg)
				}
				return a.table(func(w io.Writer) { rows(w, []noc.Registration{reg}) })
			})
		},
	}))
	return completes(c, a.names(noc.NamesNumbers), nil)
}

func (a *app) rmCommand() *cobra.Command {
	var device string
	c := &cobra.Command{
		Use:     "rm NUMBER",
		Short:   "Remove a number, or one of its devices",
		Example: "  shunt registry rm +447700900042\n  shunt registry rm +447700900042 --device 5f3a9c0d11e2b478",
		Args:    numberArg,
		RunE: func(c *cobra.Command, args []string) error {
			if device == "" && c.Flags().Changed("device") {
				return usagef("--device: is empty; leave it out to remove the whole number")
			}
			return a.ask(func(n *noc.Client) error {
				if err := n.Remove(c.Context(), args[0], device, a.unmask); err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(map[string]bool{"removed": true})
				}
				_, err := fmt.Fprintln(a.out, "removed")
				return err
			})
		},
	}
	c.Flags().StringVar(&device, "device", "", "only this device (default: the whole number)")
	return completes(a.showsNumbers(a.remote(c)), a.names(noc.NamesNumbers), nil)
}

func (a *app) countCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:     "count",
		Short:   "Count numbers and devices",
		Example: "  shunt registry count --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				count, err := n.Count(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(count)
				}
				return a.table(func(w io.Writer) {
					row(w, "numbers", count.Numbers)
					row(w, "active", count.Active)
					row(w, "devices", count.Devices)
					if count.Corrupt > 0 {
						row(w, "corrupt", strconv.Itoa(count.Corrupt)+" records do not decode: see the gateway's log")
					}
					if !count.Ready {
						row(w, "index", "still loading: these are the counts so far")
					}
				})
			})
		},
	})
}

const listUsual = 100

func (a *app) listCommand() *cobra.Command {
	var limit int
	var after string
	c := &cobra.Command{
		Use:   "list",
		Short: "List numbers and their devices",
		Long: "List numbers in ascending order. Where there are more than --limit, the last line says how\n" +
			"to go on: with the last number, or while numbers are masked with a word that stands for it.",
		Example: "  shunt registry list --limit 20\n  shunt registry list --limit 0 --unmask --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("--limit: want 0, for all, or more")
			}
			return a.ask(func(n *noc.Client) error {
				p := pages{client: n, after: after, left: limit, all: limit == 0, unmask: a.unmask}
				if a.json {
					return a.listJSON(c.Context(), &p)
				}
				return a.listTable(c.Context(), &p)
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", listUsual, "at most this many numbers; 0: all")
	c.Flags().StringVar(&after, "after", "", "begin behind this number, or where an earlier list said so")
	return a.showsNumbers(a.remote(c))
}

// pages follows the registry page by page.
type pages struct {
	client *noc.Client
	after  string
	left   int
	all    bool // left does not count
	unmask bool
}

// next is the next page; more is false behind the last one.
func (p *pages) next(ctx context.Context) (regs []noc.Registration, more bool, err error) {
	want := noc.MaxPage
	if !p.all {
		want = min(p.left, noc.MaxPage)
	}
	page, err := p.client.List(ctx, p.after, want, p.unmask)
	if err != nil {
		return nil, false, err
	}
	p.after = page.Next
	p.left -= len(page.Registrations)
	return page.Registrations, p.after != "" && (p.all || p.left > 0), nil
}

func (a *app) listTable(ctx context.Context, p *pages) error {
	for first, more := true, true; more; first = false {
		regs, m, err := p.next(ctx)
		if err != nil {
			return err
		}
		if first && len(regs) == 0 {
			_, err := fmt.Fprintln(a.out, "no numbers")
			return err
		}
		if err := a.table(func(w io.Writer) { rows(w, regs) }); err != nil {
			return err
		}
		more = m
	}
	if p.after != "" {
		_, err := fmt.Fprintf(a.out, "more: --after %s\n", p.after)
		return err
	}
	return nil
}

// listJSON writes one object without holding more than a page.
func (a *app) listJSON(ctx context.Context, p *pages) error {
	begun := false // nothing is written of a registry that cannot be read
	for sep, more := "\n  ", true; more; {
		regs, m, err := p.next(ctx)
		if err != nil {
			return err
		}
		if !begun {
			fmt.Fprint(a.out, `{"registrations": [`)
			begun = true
		}
		for i := range regs {
			b, err := json.Marshal(regs[i])
			if err != nil {
				return fmt.Errorf("write the output: %w", err)
			}
			fmt.Fprintf(a.out, "%s%s", sep, b)
			sep = ",\n  "
		}
		more = m
	}
	next, err := json.Marshal(p.after)
	if err == nil {
		_, err = fmt.Fprintf(a.out, "\n], \"next\": %s}\n", next)
	}
	return err
}

// rows writes a heading and a line for each device.
// deviceWidth is more than the ids that Shunt makes, and UUIDs, have.
const deviceWidth = 40

func rows(w io.Writer, regs []noc.Registration) {
	row(w, "NUMBER", "STATE", "DEVICE", "APP", "PLATFORM", "TOKEN PUT")
	for i := range regs {
		for _, d := range regs[i].Devices {
			platform := d.Platform
			if d.Sandbox {
				platform += " (sandbox)"
			}
			state := d.State
			if d.Presence != "" && d.Presence != "active" {
				state += ", " + d.Presence
			}
			if d.Permission == "denied" {
				state += ", notifications denied"
			}
			row(w, regs[i].Number, state, shortened(d.Device, deviceWidth), short(d.App), platform, d.UpdatedAt.UTC().Format("2006-01-02 15:04:05"))
		}
	}
}
