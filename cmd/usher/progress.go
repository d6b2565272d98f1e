package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar of bytes on a terminal, and nothing elsewhere.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress draws on w; total is in bytes, -1 if it is not known.
func newProgress(w io.Writer, total int64, what string) progress {
	if !onTerminal(w) {
		return progress{}
	}
	return progress{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSpinnerType(14),
	)}
}

// reader counts what is read of r.
func (p progress) reader(r io.Reader) io.Reader {
	if p.bar == nil {
		return r
	}
	return io.TeeReader(r, p.bar)
}

// done clears the line.
func (p progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish() // a bar that cannot be drawn harms nobody
	}
}

// newCount is a bar of things on a terminal, and nothing elsewhere.
func newCount(w io.Writer, what string) progress {
	if !onTerminal(w) {
		return progress{}
	}
	return progress{progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
	)}
}

// at says how far it is.
func (p progress) at(done, total uint64) {
	if p.bar != nil {
		p.bar.ChangeMax64(int64(total))
		_ = p.bar.Set64(int64(done)) // a bar that cannot be drawn harms nobody
	}
}

// add says that n more are done.
func (p progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n) // a bar that cannot be drawn harms nobody
	}
}
