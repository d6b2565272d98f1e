package feed

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// window bounds what compression remembers, within one frame of it. Lines resemble
// their neighbours: more gains little.
const window = 128 << 10

// newZip makes what compresses for all connections, any number at once.
func newZip() (*zstd.Encoder, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("begin to compress: %w", err)
	}
	return zip, nil
}

// writer writes to a response, compressed, with a deadline on each step, so that
// only a reader that takes nothing at all is cut off, not one that is slow. Write,
// writeZipped, flush and close are for one goroutine; cut may come from another.
type writer struct {
	rc      *http.ResponseController
	w       http.ResponseWriter
	timeout time.Duration
	// zip makes a frame of each Write, which needs nothing that was written before it, so
	// that a connection keeps no memory of that, and what all connections are sent is
	// compressed once. nil: gzip does it, or nobody.
	zip    *zstd.Encoder
	zipped []byte // of the last Write
	gzip   *gzip.Writer
	count  func(bytes int)

	mu     sync.Mutex
	closed bool // the handler has returned, or was cut: rc must not be touched
}

// newWriter begins a response with the encoding that the request accepts best. The
// error says that the server below cannot stream.
func newWriter(w http.ResponseWriter, r *http.Request, zip *zstd.Encoder, timeout time.Duration, count func(int)) (*writer, error) {
	out := &writer{rc: http.NewResponseController(w), w: w, timeout: timeout, count: count}
	if err := out.rc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("set a write deadline: %w", err)
	}
	w.Header().Add("Vary", "Accept-Encoding")
	switch encoding := negotiate(r.Header.Values("Accept-Encoding")); encoding {
	case "zstd":
		out.zip = zip
		w.Header().Set("Content-Encoding", encoding)
	case "gzip":
		z, err := gzip.NewWriterLevel(rawWriter{out}, gzip.BestSpeed)
		if err != nil {
			return nil, fmt.Errorf("begin to compress: %w", err)
		}
		out.gzip = z
		w.Header().Set("Content-Encoding", encoding)
	}
	return out, nil
}

func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.gzip != nil:
		return w.gzip.Write(p)
	case w.zip == nil:
		return rawWriter{w}.Write(p)
	}
	w.zipped = w.zip.EncodeAll(p, w.zipped[:0])
	err := w.writeZipped(w.zipped)
	if cap(w.zipped) > 4*batchBytes { // as in push
		w.zipped = nil
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeZipped writes what zip has made already.
func (w *writer) writeZipped(frame []byte) error {
	_, err := rawWriter{w}.Write(frame)
	return err
}

// flush sends what was written on its way.
func (w *writer) flush() error {
	if w.gzip != nil {
		if err := w.gzip.Flush(); err != nil {
			return err
		}
	}
	if err := w.extend(); err != nil {
		return err
	}
	return w.rc.Flush()
}

// close ends the response. Nothing may be called after it but cut.
func (w *writer) close() error {
	var err error
	if w.gzip != nil {
		err = w.gzip.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return err
}

// cut makes the write that is under way, and every later one, fail.
func (w *writer) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		_ = w.rc.SetWriteDeadline(time.Now()) // it worked in newWriter
	}
}

// extend gives the next step its time.
func (w *writer) extend() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.New("the connection was cut")
	}
	return w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
}

// rawWriter is the way below the compression.
type rawWriter struct{ w *writer }

func (r rawWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if err := r.w.extend(); err != nil {
			return written, err
		}
		n, err := r.w.w.Write(p[:min(len(p), batchBytes)])
		written += n
		r.w.count(n)
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// negotiate picks zstd, gzip or "" from Accept-Encoding: ours is the preference
// among what the client takes at all (RFC 9110, 12.5.3).
func negotiate(values []string) string {
	accepts := map[string]bool{}
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(part, ";")
			q, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(params)), "q=")
			weight, err := strconv.ParseFloat(q, 64)
			accepts[strings.ToLower(strings.TrimSpace(name))] = !found || (err == nil && weight > 0)
		}
	}
	for _, name := range []string{"zstd", "gzip"} {
		if ok, named := accepts[name]; ok || (!named && accepts["*"]) {
			return name
		}
	}
	return ""
}
