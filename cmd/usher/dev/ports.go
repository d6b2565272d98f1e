package dev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports that are to stay for later runs come from below the range that systems
// take for outgoing connections and port 0: there somebody else would have them soon.
const (
	firstPort    = 15000
	lastPort     = 32000
	portAttempts = 100
)

// choosePort puts a free port on loopback into field, and remembers it.
func choosePort(ctx context.Context, field *int, st *state) error {
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // no secret
		if !portTaken(ctx, port) {
			*field = port
			return st.save()
		}
	}
	return fmt.Errorf("none of %d ports from %d to %d is free on loopback", portAttempts, firstPort, lastPort)
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

// portTaken tells whether somebody listens on port.
func portTaken(ctx context.Context, port int) bool {
	l, err := listen(ctx, "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return true // or closed to us, which is the same
	}
	return l.Close() != nil
}

// checkFree is an error if somebody listens on address already: better at once
// than after PostgreSQL has started.
func checkFree(ctx context.Context, flag, address string) error {
	l, err := listen(ctx, address)
	if err != nil {
		return listenError(flag, address, err)
	}
	return l.Close()
}

// listenError says what to do about an address that cannot be listened on.
func listenError(flag, address string, err error) error {
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr == nil && errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another program: stop it, or give --%s another port (%s picks a free one)",
			address, flag, net.JoinHostPort(host, "0"))
	}
	return fmt.Errorf("cannot listen on %s (--%s): %w", address, flag, err)
}
