package main

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than it wants the kernel may wake a sleeping thread of a
// server; its timers too may come so much later.
//
// Go watches its threads from one more, which sleeps for 20 µs at a time while anything
// runs (runtime.sysmon): with Linux's usual slack of 50 µs a server that mostly waits is
// woken by it a dozen times for each request or change, an eighth of all its processor
// time. What it watches for takes milliseconds.
const timerSlack = time.Millisecond

// servers are the commands that run for long.
var servers = []string{"admin", "sidecar", "dev", "bench-floor"}

// slackened is in the environment of a process that was here before: never twice,
// whatever the kernel makes of it.
const slackened = "USHER_SLACKENED"

// slacken gives a server its timer slack. A thread has that of whoever started it, and
// Go starts its watching thread before anything of ours runs, so that only the next
// program of the process can have it: the same once more, with the same number, files
// and arguments. Where that is not allowed, it goes on as it is: it serves all the same.
func slacken(args []string) {
	again := os.Getenv(slackened) != ""
	if err := os.Unsetenv(slackened); err != nil || again || !slices.ContainsFunc(args, serves) {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	runtime.LockOSThread() // whose slack it is
	defer runtime.UnlockOSThread()
	usual, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || usual >= int(timerSlack) {
		return
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return
	}
	_ = syscall.Exec(program, os.Args, append(os.Environ(), slackened+"=1")) //nolint:gosec // this very program
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(usual), 0, 0, 0)
}

func serves(arg string) bool { return slices.Contains(servers, arg) }
