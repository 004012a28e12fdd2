package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"shunt/gateway"
	"shunt/gateway/config"
	"shunt/store"
)

// startGateway is the starter of the real gateway. While the disk is too full for
// it, everything passes as if it were not there.
func startGateway(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	for {
		g, err := gateway.New(cfg, log, buildVersion())
		switch {
		case err == nil:
			return g.Run(ctx)
		case !errors.Is(err, store.ErrNoRoom):
			return err
		}
		if err := gateway.Transit(ctx, cfg, log); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

func (a *app) runCommand() *cobra.Command {
	var file, format, level string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway in the foreground",
		Long: "Run the gateway until SIGINT or SIGTERM, and then finish what was accepted; a second\n" +
			"signal ends it at once. What is unfinished stays on disk and goes on at the next start.",
		Example: "  shunt run -c /etc/shunt/shunt.toml --log-format json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := newLogger(a.err, format, level)
			if err != nil {
				return err
			}
			cfg, faults, err := config.Load(file)
			if err != nil {
				return err
			}
			fmt.Fprint(a.err, config.Text(faults))
			if config.Fatal(faults) {
				return errSaid
			}
			return a.start(c.Context(), cfg, log)
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&format, "log-format", "auto", "text, json, or auto: text, without times if stderr is the journal")
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return c
}

func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", config.DefaultPath, "the configuration file")
}

// newLogger logs to w in the given format.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	o := &slog.HandlerOptions{}
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level %q: want debug, info, warn or error", level)
	}
	o.Level = l
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "auto":
		if isJournal(w, os.Getenv("JOURNAL_STREAM")) {
			o.ReplaceAttr = dropTime
		}
	case "text":
	default:
		return nil, usagef("--log-format %q: want text, json or auto", format)
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// isJournal tells whether w is the stream that systemd named, as DEVICE:INODE
// (systemd.exec(5)), and not something that it was redirected to since.
func isJournal(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	if !ok || stream == "" {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
}

// dropTime leaves the time to the journal.
func dropTime(groups []string, at slog.Attr) slog.Attr {
	if len(groups) == 0 && at.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return at
}
