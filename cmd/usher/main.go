// Command usher shares environments of a platform: who may do what on which
// environment, decided by Rego, administered over REST, answered by sidecars.
//
// `usher --help` lists the commands; README.md shows the first steps.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	p := Process{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv}
	if completed(p) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, release := untilGoRunEnds(ctx)
	code := Run(ctx, os.Args[1:], p)
	release()
	stop()
	os.Exit(code)
}
