package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"shunt/test/sim/stage"
)

// disk is a small file system under the gateway's data directory. It is mounted
// on the thread that starts the processes, in a mount namespace of its own:
// nobody else sees it, and it is gone with the last of them.
type disk struct {
	yard   *stage.Yard
	dir    string
	filler *os.File
}

// mountDisk mounts a tmpfs of that many octets on dir.
func mountDisk(y *stage.Yard, dir string, size int64) (*disk, error) {
	d := &disk{yard: y, dir: dir}
	err := y.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("private mounts: %w", err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
			return fmt.Errorf("tmpfs on %s: %w", dir, err)
		}
		var err error
		d.filler, err = os.Create(filepath.Join(dir, "filler"))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return d, nil
}

// fill grows the filler until no more than that share of the volume is free.
func (d *disk) fill(leave float64) error {
	block := make([]byte, 1<<20)
	for {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(d.filler.Fd()), &st); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		size := int64(st.Bsize)
		over := int64(st.Bavail)*size - int64(leave*float64(int64(st.Blocks)*size))
		if over <= 0 {
			return nil
		}
		_, err := d.filler.Write(block[:min(over, int64(len(block)))])
		switch {
		case errors.Is(err, unix.ENOSPC):
			return nil
		case err != nil:
			return fmt.Errorf("disk: %w", err)
		}
	}
}

// free gives all that back.
func (d *disk) free() error {
	if err := d.filler.Truncate(0); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	_, err := d.filler.Seek(0, 0)
	return err
}

// keep copies what is on the disk to a directory that lasts.
func (d *disk) keep(to string) error {
	return d.yard.Do(exec.Command("cp", "-a", "--sparse=always", d.dir, to).Run)
}

func (d *disk) unmount() error {
	return errors.Join(d.filler.Close(), d.yard.Do(func() error { return unix.Unmount(d.dir, unix.MNT_DETACH) }))
}
