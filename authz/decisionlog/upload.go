package decisionlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/klauspost/compress/gzip"
)

const (
	// chunkBytes is how much is sent at once, before it is packed.
	chunkBytes = 1 << 20
	// queueSize is how many chunks wait for the collector at most.
	queueSize = 64

	uploadTimeout = 10 * time.Second
	// finishTimeout bounds what is sent after the end.
	finishTimeout = 5 * time.Second
	firstBackoff  = 200 * time.Millisecond
	maxBackoff    = 30 * time.Second
)

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the URL of the decision log is not http[s]://HOST[:PORT]/PATH")
	}
	return nil
}

// chunk is a packed JSON array of events.
type chunk struct {
	body   []byte
	events int
}

// uploader sends chunks to a collector, in order, each until it is taken. What
// cannot wait any more is dropped and counted.
type uploader struct {
	url, token string
	client     *http.Client
	logger     *slog.Logger
	metrics    *metrics
	queue      chan chunk
	pending    bytes.Buffer // the array so far, plain
	events     int
}

func newUploader(url, token string, logger *slog.Logger, m *metrics) *uploader {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
	client := &http.Client{Transport: transport, Timeout: uploadTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token is for the one that it was given for
	}}
	return &uploader{url: url, token: token, client: client, logger: logger, metrics: m, queue: make(chan chunk, queueSize)}
}

// add puts an event into the chunk that is being filled.
func (u *uploader) add(event []byte) {
	if u.pending.Len()+len(event) > chunkBytes {
		u.flush()
	}
	u.pending.WriteByte("[,"[min(u.events, 1)])
	u.pending.Write(event)
	u.events++
}

// idle puts the chunk into the queue unless others wait there: while the collector
// does not keep up, chunks are filled.
func (u *uploader) idle() {
	if len(u.queue) == 0 {
		u.flush()
	}
}

// flush puts the chunk into the queue.
func (u *uploader) flush() {
	if u.events == 0 {
		return
	}
	u.pending.WriteByte(']')
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, _ = zw.Write(u.pending.Bytes()) // a buffer takes everything
	_ = zw.Close()
	select {
	case u.queue <- chunk{packed.Bytes(), u.events}:
	default:
		u.metrics.queueFull.Add(float64(u.events))
	}
	u.pending.Reset()
	u.events = 0
}

// finish says that nothing more will be added.
func (u *uploader) finish() {
	u.flush()
	close(u.queue)
}

// run sends until finish, or a moment after ctx has ended.
func (u *uploader) run(ctx context.Context) {
	defer u.client.CloseIdleConnections()
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(finishTimeout, cancel) })
	defer stop()
	for c := range u.queue {
		u.send(sending, c)
	}
}

// send tries until the collector takes c or says that it never will.
func (u *uploader) send(ctx context.Context, c chunk) {
	backoff := firstBackoff
	for {
		err := u.post(ctx, c)
		if err == nil {
			u.metrics.sent.Add(float64(c.events))
			return
		}
		var refused *refusedError
		if errors.As(err, &refused) {
			u.metrics.refused.Add(float64(c.events))
			u.logger.WarnContext(ctx, "decision log: the collector refuses events", "error", err, "events", c.events)
			return
		}
		if ctx.Err() == nil && backoff >= maxBackoff/4 {
			u.logger.WarnContext(ctx, "decision log: the collector does not take events; trying again", "error", err)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
			backoff = min(2*backoff, maxBackoff)
		case <-ctx.Done():
			timer.Stop()
			u.metrics.unsent.Add(float64(c.events))
			return
		}
	}
}

// refusedError is an answer that another try would get too.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the collector answers %d %s", e.status, http.StatusText(e.status))
}

func (u *uploader) post(ctx context.Context, c chunk) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, bytes.NewReader(c.body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	if u.token != "" {
		r.Header.Set("Authorization", "Bearer "+u.token)
	}
	resp, err := u.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return &refusedError{code}
	default: // a token may be mended, a path be made
		return fmt.Errorf("the collector answers %d %s", code, http.StatusText(code))
	}
}
