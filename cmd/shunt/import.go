package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

// maxFaultsShown is how many wrong lines are printed; --report has all.
const maxFaultsShown = 20

func (a *app) importCommand() *cobra.Command {
	var format, report string
	var skipBad, dryRun bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Register everybody in a file",
		Long: "Register everybody in a CSV file whose header is number,app,platform,token,device,bearer,state\n" +
			"or an NDJSON file with those names. All of it is checked first: with one wrong line nothing\n" +
			"is changed, unless --skip-bad leaves the wrong ones out. A bearer may be given as sha256: and\n" +
			"64 hexadecimal digits, as export writes it; without one a known device keeps its own. An\n" +
			"import that was cut off is completed by the same import again.",
		Example: "  shunt registry import subscribers.csv\n  shunt registry import subscribers.ndjson --skip-bad --report faults.txt",
		Args:    oneArg("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			kind, err := formatOf(format, args[0])
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				return err
			}
			var faults io.Writer = io.Discard
			if report != "" {
				r, err := os.OpenFile(report, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer r.Close()
				w := bufio.NewWriter(r)
				defer w.Flush()
				faults = w
			}
			bar := a.progress()
			body := &readCounter{r: f, told: func(n int64) { bar.at("checking", n, st.Size()) }}
			shown := 0
			return a.ask(func(n *noc.Client) error {
				res, err := n.Import(c.Context(), body, kind, skipBad, dryRun, func(e *noc.ImportEvent) {
					switch {
					case e.Put != nil:
						bar.at("registering", int64(e.Put.Done), int64(e.Put.Of))
					case e.Fault != nil:
						text := faultText(args[0], e.Fault)
						fmt.Fprintln(faults, text)
						if shown++; shown <= maxFaultsShown {
							bar.line(text)
						} else if shown == maxFaultsShown+1 {
							bar.line("… and more: --report FILE has them")
						}
					}
				})
				bar.end()
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(res)
				}
				return a.table(func(w io.Writer) {
					row(w, "lines", res.Lines)
					row(w, "wrong", res.Wrong)
					row(w, "registered", res.Put)
					if res.Refused > 0 {
						row(w, "refused", fmt.Sprintf("%d since the registry was changed meanwhile: import again", res.Refused))
					}
					if res.Made > 0 {
						row(w, "without bearer", fmt.Sprintf("%d new devices: their apps have to register anew", res.Made))
					}
				})
			})
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "csv or ndjson (default: by the file's name)")
	f.StringVar(&report, "report", "", "write every wrong line's fault to this file")
	f.BoolVar(&skipBad, "skip-bad", false, "leave wrong lines out and register the others")
	f.BoolVar(&dryRun, "dry-run", false, "check the file and change nothing")
	return a.remote(c)
}

func faultText(file string, f *noc.LineFault) string {
	if f.Column > 0 {
		return fmt.Sprintf("%s:%d:%d: %s", file, f.Line, f.Column, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", file, f.Line, f.Text)
}

func (a *app) exportCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "export FILE",
		Short: "Write everybody who is registered to a file",
		Long: "Write the registry as it is at one moment, as CSV or NDJSON, for import. Numbers and push\n" +
			"tokens are whole; of bearers there are only hashes. The file is for its owner alone, and\n" +
			"appears under its name only when it is complete.",
		Example: "  shunt registry export subscribers.csv",
		Args:    oneArg("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			kind, err := formatOf(format, args[0])
			if err != nil {
				return err
			}
			bar := a.progress()
			var octets int64
			var numbers int
			err = writeWhole(args[0], func(w io.Writer) error {
				return a.ask(func(n *noc.Client) error {
					numbers, err = n.Export(c.Context(), w, kind, func(n int64) {
						octets = n
						bar.at("exporting", n, 0)
					})
					return err
				})
			})
			bar.end()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"file": args[0], "octets": octets, "numbers": numbers})
			}
			return a.table(func(w io.Writer) {
				row(w, "file", args[0])
				row(w, "octets", octets)
			})
		},
	}
	c.Flags().StringVar(&format, "format", "", "csv or ndjson (default: by the file's name)")
	return a.remote(c)
}

// formatOf is the format that was asked for, or that the file's name says.
func formatOf(asked, file string) (string, error) {
	switch {
	case asked == noc.FormatCSV, asked == noc.FormatNDJSON:
		return asked, nil
	case asked != "":
		return "", usagef("--format: want csv or ndjson")
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv":
		return noc.FormatCSV, nil
	case ".ndjson", ".jsonl", ".json":
		return noc.FormatNDJSON, nil
	}
	return "", usagef("%s: its name does not say what it is: want --format csv or ndjson", file)
}

// writeWhole writes a file that is there only once it is complete and on stable
// storage.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".shunt-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// readCounter tells how much was read.
type readCounter struct {
	r    io.Reader
	n    int64
	told func(int64)
}

func (c *readCounter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.told(c.n)
	return n, err
}

// progress shows on stderr how far something is: a bar on a terminal, a line
// for each tenth elsewhere, nothing with --json.
func (a *app) progress() *progressBar {
	p := &progressBar{w: a.err, quiet: a.json}
	if f, ok := a.err.(*os.File); ok {
		st, err := f.Stat()
		p.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

type progressBar struct {
	w        io.Writer
	quiet    bool
	terminal bool
	stage    string
	tenth    int64
	last     time.Time
	open     bool // a bar is on the line
}

const barWidth = 30

// at shows done of that many; of 0 is not known.
func (p *progressBar) at(stage string, done, of int64) {
	if p.quiet {
		return
	}
	if stage != p.stage {
		p.end()
		p.stage, p.tenth, p.last = stage, 0, time.Time{}
	}
	now := time.Now()
	if p.terminal {
		if now.Sub(p.last) < 100*time.Millisecond && done != of {
			return
		}
		p.last, p.open = now, true
		if of <= 0 {
			fmt.Fprintf(p.w, "\r%s %d", stage, done)
			return
		}
		full := int(done * barWidth / of)
		fmt.Fprintf(p.w, "\r%-12s [%s%s] %3d %%", stage, strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), done*100/of)
		return
	}
	if of > 0 && done*10/of > p.tenth {
		p.tenth = done * 10 / of
		fmt.Fprintf(p.w, "%s: %d %%\n", stage, p.tenth*10)
	}
}

// line prints a line beside the bar.
func (p *progressBar) line(text string) {
	if p.quiet {
		return
	}
	p.end()
	fmt.Fprintln(p.w, text)
}

func (p *progressBar) end() {
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
}
