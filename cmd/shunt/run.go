package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"shunt/gateway"
	"shunt/gateway/config"
	"shunt/store"
	"shunt/systemd"
)

// startGateway is the starter of the real gateway. While the disk is too full for
// it, everything passes as if it were not there.
func startGateway(ctx context.Context, cfg *config.Config, log *slog.Logger, relevel func(slog.Level)) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	manager := systemd.NewNotifier(log)
	for {
		g, err := gateway.New(cfg, log, buildVersion())
		switch {
		case err == nil:
			g.Manage(manager)
			g.OnReload(func(c *config.Config) { relevel(c.Log.Level) })
			return runGateway(ctx, g, hup)
		case !errors.Is(err, store.ErrNoRoom):
			return err
		}
		if err := gateway.Transit(ctx, cfg, log, buildVersion(), manager); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// runGateway runs it, and reloads with every SIGHUP.
func runGateway(ctx context.Context, g *gateway.Gateway, hup <-chan os.Signal) error {
	ended, reloads := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reloads)
		for {
			select {
			case <-hup:
				g.Hangup()
			case <-ended:
				return
			}
		}
	}()
	err := g.Run(ctx)
	close(ended)
	<-reloads
	return err
}

func (a *app) runCommand() *cobra.Command {
	var file, format, level string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway in the foreground",
		Long: "Run the gateway until SIGINT or SIGTERM, and then finish what was accepted; a second\n" +
			"signal ends it at once. What is unfinished stays on disk and goes on at the next start.\n" +
			"SIGHUP reads the configuration again, as shunt reload does.",
		Example: "  shunt run -c /etc/shunt/shunt.toml --log-format json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var least slog.LevelVar
			if level != "" {
				l, err := levelNamed(level)
				if err != nil {
					return err
				}
				least.Set(l)
			}
			log, err := newLogger(a.err, format, &least, systemd.JournalSocket)
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
			relevel := func(l slog.Level) {
				if level == "" {
					least.Set(l)
				}
			}
			relevel(cfg.Log.Level)
			return a.start(c.Context(), cfg, log, relevel)
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&format, "log-format", "auto", "text, json, journal, or auto: journal if stderr is the journal, else text")
	c.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error (default: [log] level)")
	return c
}

func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", config.DefaultPath, "the configuration file")
}

func levelNamed(name string) (l slog.Level, err error) {
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return l, usagef("--log-level %q: want debug, info, warn or error", name)
	}
	return l, nil
}

// newLogger logs to w in the given format, or to the journal, whose socket is at
// the path journal.
func newLogger(w io.Writer, format string, level slog.Leveler, journal string) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "auto":
		if !isJournal(w, os.Getenv("JOURNAL_STREAM")) {
			break
		}
		if _, err := os.Stat(journal); err == nil {
			return newJournal(journal, level)
		}
		o.ReplaceAttr = dropTime
	case "journal":
		return newJournal(journal, level)
	case "text":
	default:
		return nil, usagef("--log-format %q: want text, json, journal or auto", format)
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

func newJournal(path string, level slog.Leveler) (*slog.Logger, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("--log-format journal: %w", err)
	}
	j, err := systemd.NewJournal(path, level)
	if err != nil {
		return nil, err
	}
	return slog.New(j), nil
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
