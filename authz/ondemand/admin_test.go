package ondemand

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// testAdmin is an admin server over one state: the feed in mode notices, and
// look-ups, on a real listener. It keeps every state, to ask what was true then.
type testAdmin struct {
	server *httptest.Server
	ended  chan struct{}

	lookups atomic.Int64 // requests
	inFull  atomic.Int64 // accounts that were given in full
	down    atomic.Bool  // look-ups are answered by 500
	// hold, if not nil, is received from before a look-up is answered.
	hold atomic.Pointer[chan struct{}]

	mu      sync.Mutex
	states  []*authz.State
	changes []policies.Change // changes[i] leads from states[i] to states[i+1]
	grown   chan struct{}
	muted   bool // changes are kept from the feed
	time    time.Time
}

var testTime = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func newTestAdmin(tb testing.TB, start *authz.State) *testAdmin {
	tb.Helper()
	a := &testAdmin{states: []*authz.State{start}, grown: make(chan struct{}), ended: make(chan struct{}), time: testTime}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+feed.StreamPath, a.stream)
	mux.HandleFunc("POST "+feed.LookupPath, a.lookup)
	mux.HandleFunc("POST "+feed.SearchPath, a.search)
	a.server = httptest.NewServer(mux)
	tb.Cleanup(func() {
		close(a.ended)
		a.server.CloseClientConnections()
		a.server.Close()
	})
	return a
}

// state is the latest.
func (a *testAdmin) state() *authz.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.states[len(a.states)-1]
}

// at is the state of a revision.
func (a *testAdmin) at(tb testing.TB, r policies.Revision) *authz.State {
	tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.states, func(s *authz.State) bool { return s.Revision() == r })
	require.GreaterOrEqual(tb, i, 0, "no revision %d", r)
	return a.states[i]
}

// change applies objects at the next revision, and gives that.
func (a *testAdmin) change(tb testing.TB, objects ...policies.Object) policies.Revision {
	tb.Helper()
	have := a.state()
	encoded, err := policies.EncodeObjects(objects)
	require.NoError(tb, err)
	c := policies.Change{Revision: have.Revision() + 1, Time: testTime, Objects: encoded, AuditHash: sha256.Sum256([]byte("audit"))}
	c.Hash = policies.ChainHash(have.Hash(), c.Revision, sha256.Sum256(c.Objects), c.AuditHash)
	next, err := have.Apply(context.Background(), c)
	require.NoError(tb, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.states, a.changes = append(a.states, next), append(a.changes, c)
	a.signal()
	return c.Revision
}

// replace starts anew at s, such as after a restore.
func (a *testAdmin) replace(s *authz.State) {
	a.mu.Lock()
	a.states, a.changes = []*authz.State{s}, nil
	a.signal()
	a.mu.Unlock()
	a.server.CloseClientConnections()
}

// mute keeps changes from the feed, or brings those that were kept.
func (a *testAdmin) mute(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.muted = on
	a.signal()
}

// beat sends a heartbeat with this time.
func (a *testAdmin) beat(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.time = now
	a.signal()
}

func (a *testAdmin) signal() {
	close(a.grown)
	a.grown = make(chan struct{})
}

// stream serves one connection of the feed.
func (a *testAdmin) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", feed.ContentType)
	s := &testStream{w: w}
	query := r.URL.Query()
	replay, _ := strconv.Atoi(query.Get("replay"))
	ticker := time.NewTicker(feed.HeartbeatInterval / 4)
	defer ticker.Stop()
	next := -1 // the change to be sent next
	for {
		a.mu.Lock()
		states, changes, grown, now, muted := a.states, a.changes, a.grown, a.time, a.muted
		a.mu.Unlock()
		last := states[len(states)-1]
		if next < 0 {
			s.frame(&feed.Heartbeat{Platform: last.Platform(), Revision: last.Revision(), Hash: last.Hash(), Time: now})
			next = slices.IndexFunc(states, func(have *authz.State) bool {
				return have.Revision().String() == query.Get("revision") && have.Hash().String() == query.Get("hash")
			})
			if next < 0 {
				next = max(0, len(changes)-replay)
				s.snapshot(last, states[next])
			}
		}
		for ; next < len(changes) && !muted; next++ {
			n, err := feed.NewNotice(changes[next])
			if err != nil {
				return
			}
			s.frame(n)
		}
		s.frame(&feed.Heartbeat{Platform: last.Platform(), Revision: last.Revision(), Hash: last.Hash(), Time: now})
		if s.err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-grown:
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-a.ended:
			return
		}
	}
}

// testStream writes frames, and keeps the first error.
type testStream struct {
	w   http.ResponseWriter
	err error
}

func (s *testStream) frame(f feed.Frame) []byte {
	line, err := feed.AppendFrame(nil, f)
	if err == nil && s.err == nil {
		_, err = s.w.Write(append(line, '\n'))
	}
	if s.err == nil {
		s.err = err
	}
	return line
}

func (s *testStream) snapshot(last, after *authz.State) {
	tally := feed.NewTally(s.frame(&feed.Snapshot{
		Platform: last.Platform(), Revision: last.Revision(), Hash: last.Hash(), Time: testTime,
		After: after.Revision(), AfterHash: after.Hash(),
	}))
	for o, err := range last.Objects() {
		if err != nil {
			s.err = err
			return
		}
		if o.Kind == policies.KindPolicyInForce || o.Kind == policies.KindToken {
			tally.Object(s.frame(&feed.Object{Object: o}))
		}
	}
	s.frame(tally.End())
}

// lookup serves one look-up.
func (a *testAdmin) lookup(w http.ResponseWriter, r *http.Request) {
	a.lookups.Add(1)
	if hold := a.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-r.Context().Done():
			return
		case <-a.ended:
			return
		}
	}
	if a.down.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	var req feed.LookupRequest
	if err := json.UnmarshalRead(r.Body, &req); err != nil || req.Validate() != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s := a.state()
	least, err := policies.ParseRevision(r.Header.Get(feed.MinRevisionHeader))
	if err != nil || least > s.Revision() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	resp := feed.LookupResponse{
		Platform: s.Platform(), Revision: s.Revision(), Hash: s.Hash(),
		Accounts: map[policies.AccountID]*feed.LookupAccount{}, Owners: map[string]*policies.AccountID{}, Subjects: map[policies.AccountID]bool{},
	}
	for _, want := range req.Accounts {
		resp.Accounts[want.ID] = a.account(s, want)
	}
	for _, want := range req.Resources {
		resp.Owners[want.String()] = nil
		if owner, ok := s.OwnerOf(want); ok {
			resp.Owners[want.String()] = &owner
		}
	}
	for _, want := range req.Subjects {
		resp.Subjects[want] = s.Known(want)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, resp)
}

func (a *testAdmin) account(s *authz.State, want feed.LookupAccountRequest) *feed.LookupAccount {
	account, ok := s.Account(want.ID)
	if !ok {
		return nil
	}
	found := &feed.LookupAccount{Changed: account.Changed()}
	if feed.Unchanged(want.Since, found.Changed, s.Revision()) {
		found.Unchanged = true
		return found
	}
	a.inFull.Add(1)
	for o, err := range account.Objects() {
		if err == nil {
			found.Objects = append(found.Objects, o)
		}
	}
	return found
}

// search serves one search of the present state; a later page of any other is gone.
func (a *testAdmin) search(w http.ResponseWriter, r *http.Request) {
	if a.down.Load() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	var req feed.SearchRequest
	if err := json.UnmarshalRead(r.Body, &req); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	search, err := req.Search()
	least, parseErr := policies.ParseRevision(r.Header.Get(feed.MinRevisionHeader))
	engine, makeErr := authz.New(authz.Options{Clock: func() time.Time { return testTime }, MinRevisionWait: -1})
	if err != nil || parseErr != nil && search.From == nil || makeErr != nil || engine.Reset(a.state()) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	found, err := engine.Search(r.Context(), least, search)
	var place *authz.PlaceError
	switch {
	case errors.As(err, &place):
		problem.Problem{Type: problem.Malformed, Status: http.StatusGone, Detail: place.Reason}.Write(w)
		return
	case err != nil:
		problem.Problem{Type: problem.RevisionBehind, Status: http.StatusServiceUnavailable, Detail: err.Error()}.Write(w)
		return
	}
	resp := feed.SearchResponse{Platform: a.state().Platform(), Revision: found.Revision, IDs: found.IDs, Guarded: found.Guarded}
	if found.Next != nil {
		resp.Next = &feed.SearchPlace{Revision: found.Next.Revision, After: found.Next.After}
	}
	_ = json.MarshalWrite(w, resp)
}
