package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
)

type healthCommand struct {
	URL    string `arg:"" optional:"" help:"The server's URL; without one, the address of --listen on this machine."`
	Listen string `default:"127.0.0.1:8080" help:"Where the server listens: the same option, and variable, as the server's."`
}

// Run asks /ready once.
func (c *healthCommand) Run(ctx context.Context, _ *Process) error {
	url := c.URL
	if url == "" {
		host, port, err := net.SplitHostPort(c.Listen)
		if err != nil {
			return fmt.Errorf("--listen must be HOST:PORT, not %q", c.Listen)
		}
		if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
			host = "127.0.0.1"
		}
		url = "http://" + net.JoinHostPort(host, port)
	}
	server, err := newClient("listen", url, "")
	if err != nil {
		return fmt.Errorf("%q is not a URL like http://127.0.0.1:8080", url)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := server.do(ctx, http.MethodGet, "/ready", "", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
