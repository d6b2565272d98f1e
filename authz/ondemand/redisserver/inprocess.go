package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// errInProcess refuses what only a child process can do.
var errInProcess = errors.New("a Redis in this process cannot be frozen")

// inProcess is a miniredis.
type inProcess struct {
	server *miniredis.Miniredis
	once   sync.Once
	ended  chan struct{}
}

func startInProcess(o Options) (*Server, error) {
	m := miniredis.NewMiniRedis()
	m.RequireAuth(o.Password)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port))
	if err := m.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("start a Redis in this process on %s: %w", addr, err)
	}
	o.Logger.Info("redis server started in this process", "addr", m.Addr())
	return &Server{addr: m.Addr(), password: o.Password, backend: &inProcess{server: m, ended: make(chan struct{})}}, nil
}

func (p *inProcess) pid() int              { return 0 }
func (p *inProcess) done() <-chan struct{} { return p.ended }
func (p *inProcess) pause() error          { return errInProcess }
func (p *inProcess) resume() error         { return errInProcess }

func (p *inProcess) stop(context.Context) error {
	p.once.Do(func() {
		p.server.Close()
		close(p.ended)
	})
	return nil
}
