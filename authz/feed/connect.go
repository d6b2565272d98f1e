package feed

import (
	"context"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// StatusError is an answer of the server that is not a stream. Find it with
// errors.As.
type StatusError struct {
	Status     int
	Problem    problem.Problem // zero if the answer was no problem document
	RetryAfter time.Duration
}

// rejects tells whether e is an answer that asking again later does not change; nil
// is none.
func (e *StatusError) rejects() bool {
	return e != nil && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout && e.Status != http.StatusTooManyRequests
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Problem.Detail != "" {
		text += ": " + e.Problem.Detail
	}
	return text
}

// newTransport makes connections of the client's own: a stream holds one for hours,
// and must not count against the limits of anyone else's pool. HTTP/1.1, so that
// look-ups do not share the stream's connection and its windows.
func newTransport(o Options) *http.Transport {
	t := &http.Transport{
		DialContext:            o.Dial,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: policies.MaxHeaderBytes,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true, // negotiated here: zstd first, and flushes pass through
	}
	if o.TLS != nil {
		t.TLSClientConfig = o.TLS.Clone()
	}
	return t
}

// do sends a request to path below the server's URL. A redirect is an answer like
// another: following it would carry the token elsewhere. An answer other than 200 is
// a [*StatusError].
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	target := strings.TrimSuffix(c.o.URL, "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make a request to the admin server: %w", err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Accept-Encoding", "zstd, gzip")
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("reach the admin server: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, statusError(resp)
}

func statusError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && media == "application/problem+json" {
		// An answer that is no problem after all is told by its status alone.
		if body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem)); err == nil {
			_ = json.Unmarshal(body, &e.Problem)
		}
	}
	if e.Problem.Type == problem.OtherPlatform {
		return refuse(RefusedPlatform, e)
	}
	return e
}

// open asks for the stream from where the receiver is.
func (c *Client) open(ctx context.Context, nonce string) (*http.Response, error) {
	query := url.Values{"mode": {string(c.receiver.mode())}}
	if nonce != "" {
		query.Set("nonce", nonce)
	}
	if floor, ok := c.receiver.floor(); ok {
		query.Set("platform", floor.Platform)
	}
	if p, ok := c.receiver.position(); ok {
		query.Set("platform", p.Platform)
		query.Set("revision", p.Revision.String())
		query.Set("hash", p.Hash.String())
	}
	if c.receiver.mode() == ModeNotices {
		query.Set("replay", strconv.Itoa(c.o.Replay))
	}
	header := http.Header{"Accept": {ContentType}}
	if c.witness != nil {
		witness, err := FormatWitness(c.witness)
		if err != nil {
			return nil, err
		}
		header.Set(WitnessHeader, witness)
	}
	resp, err := c.do(ctx, http.MethodGet, StreamPath, query, nil, header)
	if err != nil {
		return nil, err
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != ContentType {
		_ = resp.Body.Close()
		return nil, refuse(RefusedMalformed, fmt.Errorf("the answer is not of type %s", ContentType))
	}
	return resp, nil
}
