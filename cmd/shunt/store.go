package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"shunt/gateway/config"
	"shunt/store"
)

func (a *app) storeCommand() *cobra.Command {
	g := a.group("store", "Look after the data directory of a gateway that does not run", "  shunt store rotate-key /etc/shunt/new.key")
	g.AddCommand(a.rotateCommand())
	return g
}

func (a *app) rotateCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "rotate-key NEWKEYFILE",
		Short: "Give the data directory another key",
		Long: "Encrypt the keys of registry and spool with another key than that of store.key_file. Stop the\n" +
			"gateway before, and put the new key in the place of the old one after. Run again after an\n" +
			"error, it goes on where it stopped.",
		Example: "  shunt store rotate-key /etc/shunt/new.key -c /etc/shunt/shunt.toml",
		Args:    oneArg("NEWKEYFILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, faults, err := config.Load(file)
			if err != nil {
				return err
			}
			if config.Fatal(faults) {
				fmt.Fprint(a.err, config.Text(faults))
				return errSaid
			}
			if cfg.Store.Key.IsZero() {
				return errors.New("store.key_file is not set: the data directory is not encrypted")
			}
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			key, err := config.StoreKey(b)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := recorded(cfg.Node.DataDir, "store rotate-key", "", func() error {
				return rotate(cfg.Node.DataDir, cfg.Store.Key.Bytes(), key)
			}); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]bool{"rotated": true})
			}
			_, err = fmt.Fprintf(a.out, "rotated: put the new key in the place of %s before the gateway starts\n", cfg.Store.Key.Path())
			return err
		},
	}
	configFlag(c, &file)
	return a.withJSON(c)
}

// rotate changes the key of what there is.
func rotate(dataDir string, old, key []byte) error {
	for _, name := range []string{"reg", "spool"} {
		dir := filepath.Join(dataDir, name)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := store.RotateKey(dir, old, key); err != nil {
			return err
		}
	}
	return nil
}
