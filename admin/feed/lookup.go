package feed

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// ServeLookup handles POST /v1/feed/lookup: everything from one state.
func (s *Server) ServeLookup(w http.ResponseWriter, r *http.Request) {
	var req wire.LookupRequest
	s.post(w, r, &req, func(from posted) {
		if !s.caughtUp(r.Context(), from.least) {
			s.refused(w, http.StatusServiceUnavailable, problem.RevisionBehind,
				fmt.Sprintf("this replica has not reached revision %d", from.least))
			return
		}
		out, err := newWriter(w, r, s.zip, s.o.WriteTimeout, func(n int) { s.metrics.bytes.Add(float64(n)) })
		if err != nil {
			s.o.Logger.LogAttrs(r.Context(), slog.LevelError, "look-up cannot be answered", slog.Any("error", err))
			s.refused(w, http.StatusInternalServerError, problem.Internal, "")
			return
		}
		s.metrics.lookups.Inc()
		a := &answer{out: out, state: s.o.Source.State(), signer: s.o.Signer, from: from, digest: sha256.New()}
		if err := a.write(r.Context(), req); err != nil {
			// The answer has begun: it stays incomplete, which the asker refuses.
			s.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "look-up broke off", slog.Any("error", err))
		}
		_ = out.close() // the asker is gone, or sees the end
	})
}

// answer writes a look-up's answer as it goes: accounts may be large, and none is
// held twice.
type answer struct {
	out    *writer
	state  *authz.State
	signer *signing.Signer
	from   posted
	digest hash.Hash // of what was pushed
	buf    []byte
}

func (a *answer) write(ctx context.Context, req wire.LookupRequest) error {
	a.text(`{"platform":`)
	a.quote(a.state.Platform())
	a.text(`,"revision":`, a.state.Revision().String(), `,"hash":"`, a.state.Hash().String(), `","accounts":{`)
	since := make(map[policies.AccountID]policies.Revision, len(req.Accounts))
	for _, account := range req.Accounts {
		since[account.ID] = account.Since
	}
	for i, id := range slices.Sorted(maps.Keys(since)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.key(i, string(id))
		if err := a.account(id, since[id]); err != nil {
			return fmt.Errorf("account %q: %w", id, err)
		}
	}
	a.text(`},"owners":{`)
	names := make(map[string]policies.Resource, len(req.Resources))
	for _, resource := range req.Resources {
		names[resource.String()] = resource
	}
	for i, name := range slices.Sorted(maps.Keys(names)) {
		a.key(i, name)
		if owner, ok := a.state.OwnerOf(names[name]); ok {
			a.quote(string(owner))
		} else {
			a.text(`null`)
		}
	}
	a.text(`},"subjects":{`)
	subjects := slices.Clone(req.Subjects)
	slices.Sort(subjects)
	for i, id := range slices.Compact(subjects) {
		a.key(i, string(id))
		a.text(strconv.FormatBool(a.state.Known(id)))
	}
	a.text(`}`)
	if err := a.push(0); err != nil {
		return err
	}
	return a.sign()
}

// sign ends the answer.
func (a *answer) sign() error {
	signatures, err := a.from.sign(a.signer, signing.Lookup, policies.Hash(a.digest.Sum(nil)))
	if err != nil {
		return err
	}
	a.text(signatures, `}`)
	return a.push(0)
}

func (a *answer) account(id policies.AccountID, since policies.Revision) error {
	account, ok := a.state.Account(id)
	if !ok {
		a.text(`null`)
		return nil
	}
	a.text(`{"changed":`, account.Changed().String())
	if wire.Unchanged(since, account.Changed(), a.state.Revision()) {
		a.text(`,"unchanged":true}`)
		return nil
	}
	a.text(`,"objects":[`)
	first := true
	for o, err := range a.state.AccountObjects(id) {
		if err != nil {
			return err
		}
		if !first {
			a.text(`,`)
		}
		first = false
		if a.buf, err = wire.AppendObject(a.buf, o); err != nil {
			return err
		}
		if err := a.push(batchBytes); err != nil {
			return err
		}
	}
	a.text(`]}`)
	return nil
}

func (a *answer) text(parts ...string) {
	for _, part := range parts {
		a.buf = append(a.buf, part...)
	}
}

func (a *answer) key(i int, name string) {
	if i > 0 {
		a.text(`,`)
	}
	a.quote(name)
	a.text(`:`)
}

// quote appends s, which came out of JSON, where text is UTF-8.
func (a *answer) quote(s string) {
	a.buf, _ = jsontext.AppendQuote(a.buf, s)
}

// push writes what has gathered, if it is at least some bytes.
func (a *answer) push(some int) error {
	if len(a.buf) < some {
		return nil
	}
	_, _ = a.digest.Write(a.buf) // a hash takes everything
	_, err := a.out.Write(a.buf)
	a.buf = a.buf[:0]
	return err
}
