package redisserver

import "syscall"

// attributes are how the child is started: in a process group of its own, since
// Ctrl-C on the terminal is for the supervisor, which stops its children in order;
// and not to outlive its starter, however that ends. What it holds is a cache.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
