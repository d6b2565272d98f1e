package feed

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// newLookups gives a client that looks up and does not follow.
func newLookups(tb testing.TB, url string) *wire.Client {
	tb.Helper()
	client, err := wire.New(wire.Options{URL: url, Notices: &noticed{}})
	require.NoError(tb, err)
	return client
}

func TestLookup(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"), feedtest.Account(t, "b"), feedtest.Environment(t, "a", "e"))
	changed := p.Write(feedtest.Environment(t, "a", "f")).Revision
	p.Write(feedtest.Account(t, "c"))
	r := newReplica(t, p, nil)
	got, err := newLookups(t, r.http.URL).Lookup(testContext(t), wire.LookupRequest{
		Accounts: []wire.LookupAccountRequest{{ID: "a"}, {ID: "b", Since: 2}, {ID: "c", Since: 2}, {ID: "nobody"}},
		Resources: []policies.Resource{
			{Type: policies.TypeEnvironment, ID: "e"}, {Type: policies.TypeAccount, ID: "b"},
			{Type: policies.TypeGroup, ID: "e"}, {Type: "cluster", ID: `"x"`},
		},
		Subjects: []policies.AccountID{"a", "nobody", "a"},
	})
	require.NoError(t, err)
	s := p.State()
	objects := func(id policies.AccountID) (all []policies.Object) {
		for o, err := range s.AccountObjects(id) {
			require.NoError(t, err)
			all = append(all, o)
		}
		return all
	}
	require.Equal(t, wire.LookupResponse{
		Platform: "p", Revision: s.Revision(), Hash: s.Hash(),
		Accounts: map[policies.AccountID]*wire.LookupAccount{
			"a":      {Changed: changed, Objects: objects("a")},
			"b":      {Changed: 1, Unchanged: true},
			"c":      {Changed: 3, Objects: objects("c")},
			"nobody": nil,
		},
		Owners: map[string]*policies.AccountID{
			"environment:e": new(policies.AccountID("a")), "account:b": new(policies.AccountID("b")), "group:e": nil, `cluster:"x"`: nil,
		},
		Subjects: map[policies.AccountID]bool{"a": true, "nobody": false},
	}, got)
}

func TestLookupOfAnotherEpochIsNeverUnchanged(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	p.WriteEnvironments("a", "lost", 3)
	p.Restore(1)
	r := newReplica(t, p, nil)
	got, err := newLookups(t, r.http.URL).Lookup(testContext(t), wire.LookupRequest{
		// The account was last changed at revision 1, and is not what it was at 4.
		Accounts: []wire.LookupAccountRequest{{ID: "a", Since: 4}},
	})
	require.NoError(t, err)
	require.False(t, got.Accounts["a"].Unchanged)
	require.Len(t, got.Accounts["a"].Objects, 1)
}

func TestLookupHonoursMinRevision(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	client := newLookups(t, r.http.URL)
	answered := make(chan error, 1)
	ctx := testContext(t)
	go func() {
		got, err := client.Lookup(ctx, wire.LookupRequest{Min: 2, Subjects: []policies.AccountID{"b"}})
		if err == nil && !got.Subjects["b"] {
			err = errors.New("the answer is old")
		}
		answered <- err
	}()
	p.Write(feedtest.Account(t, "b"))
	require.NoError(t, <-answered)

	behind := newReplica(t, feedtest.New(t, "p"), func(o *Options) { o.CatchUpWait = 1 })
	_, err := newLookups(t, behind.http.URL).Lookup(testContext(t), wire.LookupRequest{Min: 2, Subjects: []policies.AccountID{"b"}})
	var status *wire.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusServiceUnavailable, status.Status)
	require.Equal(t, problem.RevisionBehind, status.Problem.Type)
	require.Equal(t, retryAfter, status.RetryAfter)
}

// Where many look up at once, the last ones wait; they are sent away when that takes long.
func TestLookupWaitsForAPlace(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	ask := func(r *replica) error {
		_, err := newLookups(t, r.http.URL).Lookup(testContext(t), wire.LookupRequest{Subjects: []policies.AccountID{"a"}})
		return err
	}
	full := func(wait time.Duration) *replica {
		r := newReplica(t, p, func(o *Options) { o.CatchUpWait = wait })
		for range maxPosts {
			r.server.posts <- struct{}{}
		}
		return r
	}
	r := full(patience)
	answered := make(chan error, 1)
	go func() { answered <- ask(r) }()
	eventually(t, "the server was asked", func() bool { return len(r.tamper.queries()) == 1 })
	require.Empty(t, answered)
	<-r.server.posts
	require.NoError(t, <-answered)

	var status *wire.StatusError
	require.ErrorAs(t, ask(full(1)), &status)
	require.Equal(t, http.StatusServiceUnavailable, status.Status)
	require.Equal(t, problem.Unavailable, status.Problem.Type)
}

func TestLookupFaults(t *testing.T) {
	t.Parallel()
	r := newReplica(t, feedtest.New(t, "p", feedtest.Account(t, "a")), nil)
	good := `{"subjects":["a"]}`
	for name, c := range map[string]struct {
		body, path string
		header     http.Header
		status     int
		kind       problem.Type
	}{
		"fine":                {good, "", nil, 200, ""},
		"another type":        {good, "", http.Header{"Content-Type": {"text/plain"}}, 400, problem.Malformed},
		"not JSON":            {"{", "", nil, 400, problem.Malformed},
		"unknown member":      {`{"subject":["a"]}`, "", nil, 400, problem.Malformed},
		"other case":          {`{"Subjects":["a"]}`, "", nil, 400, problem.Malformed},
		"duplicate":           {`{"subjects":["a"],"subjects":["b"]}`, "", nil, 400, problem.Malformed},
		"wrong type":          {`{"subjects":"a"}`, "", nil, 400, problem.Malformed},
		"trailing":            {good + good, "", nil, 400, problem.Malformed},
		"invalid UTF-8":       {"{\"subjects\":[\"\xff\"]}", "", nil, 400, problem.Malformed},
		"nothing asked for":   {`{}`, "", nil, 400, problem.Malformed},
		"null":                {`null`, "", nil, 400, problem.Malformed},
		"too many":            {`{"subjects":["a"` + strings.Repeat(`,"a"`, policies.MaxLookups) + `]}`, "", nil, 400, problem.Malformed},
		"since out of range":  {`{"accounts":[{"id":"a","since":9007199254740992}]}`, "", nil, 400, problem.Malformed},
		"too large":           {`{"subjects":["` + strings.Repeat("a", policies.MaxBodyBytes) + `"]}`, "", nil, 413, problem.TooLarge},
		"nested deep":         {strings.Repeat("[", 100_000), "", nil, 400, problem.Malformed},
		"act as":              {good, "", http.Header{"Usher-Act-As": {"a"}}, 400, problem.ActAs},
		"min revision":        {good, "", http.Header{wire.MinRevisionHeader: {"soon"}}, 400, problem.Malformed},
		"parameter":           {good, "?dry_run=true", nil, 400, problem.Malformed},
		"no content and long": {"", "", nil, 400, problem.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(testContext(t), http.MethodPost, r.http.URL+wire.LookupPath+c.path, strings.NewReader(c.body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json; charset=utf-8")
			maps.Copy(req.Header, c.header)
			requireProblem(t, req, c.status, c.kind)
		})
	}
}

func requireProblem(tb testing.TB, req *http.Request, status int, kind problem.Type) {
	tb.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, resp.Body.Close()) }()
	require.Equal(tb, status, resp.StatusCode)
	if kind == "" {
		return
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(tb, err)
	var p problem.Problem
	require.NoError(tb, json.Unmarshal(body, &p))
	require.Equal(tb, kind, p.Type)
	require.Equal(tb, "application/problem+json", resp.Header.Get("Content-Type"))
}

func TestLookupOfAnotherPlatformIsRefused(t *testing.T) {
	t.Parallel()
	ours, theirs := newReplica(t, feedtest.New(t, "ours"), nil), newReplica(t, feedtest.New(t, "theirs"), nil)
	sink := &noticed{}
	client, _ := noticeClient(t, ours.http.URL, sink, -1)
	require.NoError(t, client.WaitReady(testContext(t)))
	ours.tamper.swap(theirs.tamper.next)
	_, err := client.Lookup(testContext(t), wire.LookupRequest{Subjects: []policies.AccountID{"b"}})
	var refused *wire.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, wire.RefusedPlatform, refused.Kind)
}

func TestLookupHonoursItsContext(t *testing.T) {
	t.Parallel()
	r := newReplica(t, feedtest.New(t, "p"), func(o *Options) { o.CatchUpWait = patience })
	ctx, cancel := context.WithCancel(testContext(t))
	client := newLookups(t, r.http.URL)
	asked := make(chan error, 1)
	go func() {
		_, err := client.Lookup(ctx, wire.LookupRequest{Min: 9, Subjects: []policies.AccountID{"b"}})
		asked <- err
	}()
	eventually(t, "the server was asked", func() bool { return len(r.tamper.queries()) == 1 })
	cancel()
	require.ErrorIs(t, <-asked, context.Canceled)
}
