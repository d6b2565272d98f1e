package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const slackCommand = "usher-slack"

func init() { commands[slackCommand] = tellSlack } //nolint:gochecknoinits // before TestMain, on Linux alone

// tellSlack is a command of the test binary: it does as a server does when it starts,
// and tells the slack of a thread that Go starts, and what the next process would get.
func tellSlack() {
	slacken(os.Args[1:])
	told := make(chan int)
	go func() {
		runtime.LockOSThread()                                           // and ends with it: the thread was started for this
		slack, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0) // else it is no slack that is wanted
		told <- slack
	}()
	_, again := os.LookupEnv(slackened)
	_, _ = fmt.Fprintln(os.Stdout, time.Duration(<-told), os.Getpid(), again, strings.Join(os.Args, " "))
}

// TestServersSleepCoarsely: a server's threads have the slack, in the same process with
// the same arguments; others are as they were, and nobody loses what they chose.
func TestServersSleepCoarsely(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args  []string
		given time.Duration // to the process; 0: the usual
		env   []string
		want  time.Duration
	}{
		"a server":            {[]string{"sidecar", "--listen", "x"}, 0, nil, timerSlack},
		"a server, after all": {[]string{"--config", "x", "admin"}, 0, nil, timerSlack},
		"no server":           {[]string{"check", "a", "b"}, 0, nil, 50 * time.Microsecond},
		"more was chosen":     {[]string{"sidecar"}, 3 * time.Millisecond, nil, 3 * time.Millisecond},
		"once and no more":    {[]string{"sidecar"}, 0, []string{slackened + "=1"}, 50 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // not unlocked: the thread ends with the test
			given := tt.given
			if given == 0 {
				given = 50 * time.Microsecond
			}
			require.NoError(t, unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(given), 0, 0, 0))
			cmd := exec.CommandContext(t.Context(), slackCommand, tt.args...)
			cmd.Env = append(os.Environ(), tt.env...)
			out, err := cmd.Output()
			require.NoError(t, err)
			want := fmt.Sprintf("%v %d false %s\n", tt.want, cmd.Process.Pid, strings.Join(append([]string{slackCommand}, tt.args...), " "))
			require.Equal(t, want, string(out))
		})
	}
}
