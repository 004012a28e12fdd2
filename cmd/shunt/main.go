// Command shunt is the gateway and the commands of its operators, in one
// binary: shunt run is the gateway, everything else talks to a running one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(untilSignal(startGateway)) }

// untilSignal runs the process's command line. The first SIGINT or SIGTERM ends
// it in order, the second at once.
func untilSignal(start starter) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from then on signals do what they do by default
	return execute(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}, start)
}
