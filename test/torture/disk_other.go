//go:build !linux

package main

import (
	"errors"

	"shunt/test/sim/stage"
)

// disk is only there on Linux.
type disk struct{}

func mountDisk(*stage.Yard, string, int64) (*disk, error) {
	return nil, errors.New("disk: a file system of its own needs Linux")
}

func (*disk) fill(float64) error { return nil }
func (*disk) free() error        { return nil }
func (*disk) keep(string) error  { return nil }
func (*disk) unmount() error     { return nil }
