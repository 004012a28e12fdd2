package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/config"
	"shunt/gateway/noc"
	"shunt/store"
	"shunt/store/registry"
)

// A backup is a folder with these two files.
const (
	backupData     = "registry.backup"
	backupManifest = "manifest.json"
	backupFormat   = 1
)

// manifest is what a backup holds, and how to see that it still does.
type manifest struct {
	Format int `json:"format"`
	noc.BackupInfo
	Octets int64  `json:"octets"`
	SHA256 string `json:"sha256"` // of registry.backup
}

func (a *app) backupCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:   "backup DIR",
		Short: "Back the registry up while the gateway runs",
		Long: "Write the registry, as it is at one moment, and the position of the switch to a new folder,\n" +
			"which appears under its name only when it is complete and was read back. It holds numbers and\n" +
			"push tokens, and of bearers hashes. The spool is not in it: to restore an old one would send\n" +
			"messages again. Keep a copy of the configuration and of the files that it names beside it.",
		Example: "  shunt backup /var/backups/shunt-$(date +%Y%m%d)",
		Args:    oneArg("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			dir := filepath.Clean(args[0])
			if err := wantEmpty(dir); err != nil {
				return err
			}
			partial, err := os.MkdirTemp(filepath.Dir(dir), ".shunt-backup-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(partial) // after the rename it is gone
			m := manifest{Format: backupFormat}
			bar := a.progress()
			path := filepath.Join(partial, backupData)
			sum := sha256.New()
			err = writeWhole(path, func(w io.Writer) error {
				return a.ask(func(n *noc.Client) error {
					m.BackupInfo, err = n.Backup(c.Context(), io.MultiWriter(w, sum), func(n int64) {
						m.Octets = n
						bar.at("backing up", n, 0)
					})
					return err
				})
			})
			bar.end()
			if err != nil {
				return err
			}
			m.SHA256 = hex.EncodeToString(sum.Sum(nil))
			if err := verify(partial, &m); err != nil {
				return err
			}
			err = writeWhole(filepath.Join(partial, backupManifest), func(w io.Writer) error { return json.NewEncoder(w).Encode(m) })
			if err == nil {
				err = os.Rename(partial, dir)
			}
			if err == nil {
				err = store.SyncDir(filepath.Dir(dir))
			}
			if err != nil {
				return err
			}
			return a.showBackup(dir, &m)
		},
	})
}

func (a *app) showBackup(dir string, m *manifest) error {
	if a.json {
		return a.writeJSON(m)
	}
	return a.table(func(w io.Writer) {
		row(w, "backup", dir)
		row(w, "of", fmt.Sprintf("%s, %s", m.Node, m.At.Format("2006-01-02 15:04:05 UTC")))
		row(w, "numbers", m.Numbers)
		row(w, "octets", m.Octets)
		row(w, "sha256", m.SHA256)
	})
}

// wantEmpty refuses a folder that has something in it.
func wantEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty (%s is in it): want a folder that is empty or not there", dir, entries[0].Name())
	}
	return nil
}

// verify reads a backup's data and compares them with its manifest.
func verify(dir string, m *manifest) error {
	f, err := os.Open(filepath.Join(dir, backupData))
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	switch {
	case err != nil:
		return err
	case n != m.Octets:
		return fmt.Errorf("%s: %d octets, its manifest says %d: the backup is damaged", f.Name(), n, m.Octets)
	case hex.EncodeToString(sum.Sum(nil)) != m.SHA256:
		return fmt.Errorf("%s: its SHA-256 is not that of its manifest: the backup is damaged", f.Name())
	}
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	var file, dataDir string
	c := &cobra.Command{
		Use:   "restore DIR",
		Short: "Make a new data directory of a backup",
		Long: "Restore the registry and the switch from a backup into the data directory of the\n" +
			"configuration, or into --data-dir, which has to be empty or not there. The gateway must not\n" +
			"run. Messages that were pending when the old machine was lost are not in a backup.",
		Example: "  shunt restore /var/backups/shunt-20261126 -c /etc/shunt/shunt.toml",
		Args:    oneArg("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			var key []byte
			if dataDir == "" {
				cfg, faults, err := config.Load(file)
				if err != nil {
					return err
				}
				if config.Fatal(faults) {
					fmt.Fprint(a.err, config.Text(faults))
					return errSaid
				}
				dataDir, key = cfg.Node.DataDir, cfg.Store.Key.Bytes()
			}
			m, numbers, err := a.restore(args[0], dataDir, key)
			if err != nil {
				return err
			}
			if err := recorded(dataDir, "restore", fmt.Sprintf("backup of %s, %s", m.Node, m.At.Format(time.RFC3339)), func() error { return nil }); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"data_dir": dataDir, "numbers": numbers, "divert": m.Divert, "backup_of": m.At})
			}
			return a.table(func(w io.Writer) {
				row(w, "restored", dataDir)
				row(w, "numbers", numbers)
				row(w, "divert", m.Divert)
				row(w, "of", m.At.Format("2006-01-02 15:04:05 UTC"))
				row(w, "next", "give the folder to the gateway's user, then start it; who has registered or left since then has to do so again")
			})
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&dataDir, "data-dir", "", "restore into this folder, without encryption, and read no configuration")
	return a.withJSON(c)
}

// restore fills dataDir from a backup: all of it is there, or nothing.
func (a *app) restore(dir, dataDir string, key []byte) (m manifest, numbers int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, backupManifest))
	if err != nil {
		return m, 0, fmt.Errorf("%s is no backup: %w", dir, err)
	}
	switch err := json.Unmarshal(b, &m); {
	case err != nil:
		return m, 0, fmt.Errorf("%s: %s: %w", dir, backupManifest, err)
	case m.Format != backupFormat:
		return m, 0, fmt.Errorf("%s: its format is %d, this program reads %d: use the program of version %s", dir, m.Format, backupFormat, m.Version)
	case m.Schema > registry.SchemaVersion:
		return m, 0, fmt.Errorf("%s: its schema %d is newer than this program's %d: use the program of version %s", dir, m.Schema, registry.SchemaVersion, m.Version)
	}
	if err := wantEmpty(dataDir); err != nil {
		return m, 0, err
	}
	if err := verify(dir, &m); err != nil {
		return m, 0, err
	}
	f, err := os.Open(filepath.Join(dir, backupData))
	if err != nil {
		return m, 0, err
	}
	defer f.Close()
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return m, 0, err
	}
	partial := filepath.Join(dataDir, ".restoring")
	defer os.RemoveAll(partial)
	bar := a.progress()
	from := &readCounter{r: f, told: func(n int64) { bar.at("restoring", n, m.Octets) }}
	numbers, err = registry.Restore(partial, bufio.NewReaderSize(from, 1<<20), key, slog.New(slog.DiscardHandler))
	bar.end()
	if err != nil {
		return m, 0, err
	}
	divert := filepath.Join(dataDir, "divert")
	err = writeWhole(divert, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, m.Divert)
		return err
	})
	if err == nil {
		err = os.Rename(partial, filepath.Join(dataDir, "reg"))
	}
	if err != nil { // the folder has to be empty for the next attempt
		return m, 0, errors.Join(err, os.Remove(divert))
	}
	return m, numbers, store.SyncDir(dataDir)
}
