package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// choosePort puts a free port on loopback into field, and remembers it.
func choosePort(ctx context.Context, field *int, st *state) error {
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	*field = portOf(l.Addr().String())
	if err := l.Close(); err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	return st.save()
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

// portTaken tells whether somebody listens on port.
func portTaken(ctx context.Context, port int) bool {
	l, err := listen(ctx, "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		return l.Close() != nil
	}
	return errors.Is(err, syscall.EADDRINUSE)
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
