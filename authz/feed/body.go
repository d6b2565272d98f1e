package feed

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// watch reads a stream's bytes, and gives up on it when no heartbeat came within
// the limit, counting the time spent in waiting for bytes only. One goroutine reads
// and calls alive; no timer runs while that works on what it has read.
type watch struct {
	r      io.Reader
	limit  time.Duration
	waited time.Duration // since the last heartbeat
	total  time.Duration // ever
	timer  *time.Timer
	err    error // of r
}

func newWatch(r io.Reader, limit time.Duration, giveUp func()) *watch {
	w := &watch{r: r, limit: limit, timer: time.AfterFunc(limit, giveUp)}
	w.timer.Stop()
	return w
}

// Read implements io.Reader.
func (w *watch) Read(p []byte) (int, error) {
	begun := time.Now()
	w.timer.Reset(max(w.limit-w.waited, 0))
	n, err := w.r.Read(p)
	w.timer.Stop()
	waited := time.Since(begun)
	w.waited += waited
	w.total += waited
	w.err = err
	return n, err
}

// alive says that a heartbeat has come.
func (w *watch) alive() { w.waited = 0 }

func (w *watch) stop() { w.timer.Stop() }

// decompress undoes a Content-Encoding, in the caller's goroutine and in bounded
// memory. What the server flushed can be read at once.
func decompress(encoding string, r io.Reader) (io.Reader, func(), error) {
	// The decoders ask for a few bytes at a time. What is not compressed, the short answer
	// to a report, needs no buffer.
	buffered := func() *bufio.Reader { return bufio.NewReaderSize(r, readBuffer) }
	switch encoding {
	case "", "identity":
		return r, func() {}, nil
	case "zstd":
		z, err := zstd.NewReader(buffered(), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("begin to decompress: %w", err)
		}
		return z, z.Close, nil
	case "gzip":
		return &lazyGzip{in: buffered()}, func() {}, nil
	}
	return nil, nil, refuse(RefusedMalformed, fmt.Errorf("the answer has the unknown encoding %q", encoding))
}

// lazyGzip reads the header of the stream when it is first read: to make the reader
// must not wait for the network.
type lazyGzip struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func (l *lazyGzip) Read(p []byte) (int, error) {
	if l.z == nil {
		z, err := gzip.NewReader(l.in)
		if err != nil {
			return 0, err
		}
		l.z = z
	}
	return l.z.Read(p)
}
