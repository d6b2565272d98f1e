package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// question is a POST to the server beside the stream.
type question struct {
	path    string
	body    any
	least   policies.Revision // to answer from; 0: any
	purpose signing.Purpose   // of the answer's signatures; empty: there are none
	what    string            // the answer, in errors
	limit   int64             // of the answer, in bytes
	silence time.Duration     // how long nothing may come before it is given up
}

// errNoAnswer ends a question to which nothing came for too long.
var errNoAnswer = errors.New("the admin server sends nothing")

// patient reads an answer, and puts back the timer that gives it up whenever bytes come: a
// large one on a slow way may take as long as it takes.
type patient struct {
	r      io.Reader
	timer  *time.Timer
	within time.Duration
}

// Read implements io.Reader.
func (p patient) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.timer.Reset(p.within)
	return n, err
}

// ask sends q and reads the answer. If this client has keys, it verifies that the
// answer was made for this very request.
func (c *Client) ask(ctx context.Context, q question) ([]byte, error) {
	body, err := json.Marshal(q.body)
	if err != nil {
		return nil, fmt.Errorf("encode the question of %s: %w", q.what, err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	// Nothing is sent of it, but net/http then knows that asking twice does no harm, and
	// asks again where a kept connection turns out to be dead, as after the server's restart.
	header["Idempotency-Key"] = nil
	nonce, verify := "", c.o.Verifier != nil && q.purpose != ""
	if verify {
		nonce = newNonce()
		header.Set(NonceHeader, nonce)
	}
	if q.least > 0 {
		header.Set(MinRevisionHeader, q.least.String())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(q.silence, func() { cancel(errNoAnswer) })
	defer timer.Stop()
	resp, err := c.do(ctx, http.MethodPost, q.path, nil, bytes.NewReader(body), header)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	in, closeBody, err := decompress(resp.Header.Get("Content-Encoding"), patient{resp.Body, timer, q.silence})
	if err != nil {
		return nil, err
	}
	defer closeBody()
	data, err := io.ReadAll(io.LimitReader(in, q.limit+1))
	switch {
	case err != nil:
		return nil, &AnswerError{fmt.Errorf("read: %w", err)}
	case int64(len(data)) > q.limit:
		return nil, &AnswerError{fmt.Errorf("longer than %d bytes", q.limit)}
	}
	if verify {
		return data, c.verifyAnswer(q, data, body, nonce)
	}
	return data, nil
}

// verifyAnswer looks for the signatures at the end of an answer.
func (c *Client) verifyAnswer(q question, data, body []byte, nonce string) error {
	unsigned, member := splitAnswer(data)
	var signed struct {
		Signatures signing.Signatures `json:"signatures"`
	}
	if len(member) > 0 {
		if err := decodeAnswer(append([]byte{'{'}, member[1:]...), &signed); err != nil {
			return err
		}
	}
	text := AnswerText(sha256.Sum256(unsigned), sha256.Sum256(body), nonce)
	return unverified(q.what, c.o.Verifier.Verify(q.purpose, text, signed.Signatures))
}

func decodeAnswer(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return &AnswerError{fmt.Errorf("decode: %w", err)}
	}
	return nil
}

// notAnswered is the error of a question to path that failed by err: ctx's if it has ended.
// An answer that was refused is counted and logged as the feed's frames are.
func (c *Client) notAnswered(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		c.metrics.refusals.WithLabelValues(string(refused.Kind)).Inc()
		c.progress.refused(refused.Kind)
		c.o.Logger.LogAttrs(ctx, slog.LevelError, "an answer of the admin server was refused",
			slog.String("path", path), slog.String("kind", string(refused.Kind)), slog.Any("error", err))
	}
	return err
}
