package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

const (
	startTimeout  = 2 * time.Minute // a large snapshot takes its time
	startInterval = 10 * time.Millisecond
	endTimeout    = 10 * time.Second
)

// child is a server in a process of its own, so that its processor time is its own.
type child struct {
	address string
	cmd     *exec.Cmd
	output  output
	done    chan struct{}
	took    time.Duration // until it was ready
}

// start runs program until ctx ends, and waits until it answers 200 on ready. args
// gets the address that it is to listen on.
func start(ctx context.Context, program, ready string, env []string, args func(address string) []string) (*child, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	c := &child{address: address, done: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, program, args(address)...) //nolint:gosec // the program that the user names
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = endTimeout
	began := time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		_ = c.cmd.Wait() // that it ended is what counts
		close(c.done)
	}()
	if err := c.awaitReady(ctx, ready); err != nil {
		return nil, err
	}
	c.took = time.Since(began)
	return c, nil
}

// freeAddress is one on loopback that nobody has just now.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (c *child) awaitReady(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(startInterval)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+path, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended: %s", c.cmd.Path, c.output.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; %s", c.cmd.Path, ctx.Err(), c.output.String())
		case <-ticker.C:
		}
	}
}

// errNoProcessorTime: only Linux tells a process what another one took.
var errNoProcessorTime = errors.New("the processor time and memory of a process can be read on Linux only")

// processorTime is what the process has taken so far, of user and kernel.
func (c *child) processorTime() (time.Duration, error) {
	proc, err := procfs.NewProc(c.cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoProcessorTime, err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", c.cmd.Path, err)
	}
	return time.Duration(stat.CPUTime() * float64(time.Second)), nil
}

// memory is what the process has in memory now, and had at most, in bytes.
func (c *child) memory() (resident, peak uint64, err error) {
	proc, err := procfs.NewProc(c.cmd.Process.Pid)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errNoProcessorTime, err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of %s: %w", c.cmd.Path, err)
	}
	return status.VmRSS, status.VmHWM, nil
}

// end stops the process before its time.
func (c *child) end() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", c.cmd.Path, err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(endTimeout):
		return fmt.Errorf("%s does not end", c.cmd.Path)
	}
}

// endAll stops them one after the other.
func endAll(children []*child) error {
	for _, c := range children {
		if err := c.end(); err != nil {
			return err
		}
	}
	return nil
}

// output keeps the beginning of what a child says, to tell why it ended.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxOutput = 4 << 10

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p[:min(len(p), maxOutput-min(maxOutput, o.buf.Len()))])
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
