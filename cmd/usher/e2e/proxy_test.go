package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// network is the way to a server, which can be cut and slowed down.
type network struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	is      bool // whether it is cut
	slowed  bool
	streams map[net.Conn]bool
}

// slowStep and slowPause are what a slow network lets through.
const (
	slowStep  = 64
	slowPause = 100 * time.Millisecond
)

// newNetwork leads to target, HOST:PORT.
func newNetwork(tb testing.TB, target string) *network {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	n := &network{listener: l, target: target, streams: map[net.Conn]bool{}}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { n.carry(in) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		n.cut()
		work.Wait()
	})
	return n
}

func (n *network) url() string { return "http://" + n.listener.Addr().String() }

// cut ends what is under way and lets nothing new through.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.is = true
	for c := range n.streams {
		_ = c.Close()
	}
}

// slow lets next to nothing through.
func (n *network) slow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slowed = true
}

// mend makes all as it was.
func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.is, n.slowed = false, false
}

// open counts a connection in; false: the network is cut.
func (n *network) open(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.is {
		_ = c.Close()
		return false
	}
	n.streams[c] = true
	return true
}

func (n *network) carry(in net.Conn) {
	defer n.close(in)
	if !n.open(in) {
		return
	}
	out, err := net.Dial("tcp", n.target)
	if err != nil {
		return
	}
	defer n.close(out)
	if !n.open(out) {
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	n.copy(in, out)
	_ = in.Close()
	up.Wait()
}

func (n *network) close(c net.Conn) {
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.streams, c)
}

func (n *network) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n.mu.Lock()
		some := buf
		if n.slowed {
			some = buf[:slowStep]
		}
		n.mu.Unlock()
		read, err := from.Read(some)
		if read > 0 {
			if _, err := to.Write(some[:read]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if len(some) == slowStep {
			<-time.After(slowPause)
		}
	}
}
