//go:build unix && !linux

package redisserver

import "syscall"

// attributes are how the child is started: in a process group of its own, since
// Ctrl-C on the terminal is for the supervisor, which stops its children in order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
