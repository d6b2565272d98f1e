package admin_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// event is one of a stream.
type sseEvent struct {
	id, name string
	data     map[string]any
}

// events is an open stream.
type events struct {
	t      *testing.T
	come   chan sseEvent // closed when the stream ends
	cancel context.CancelFunc
}

// follow opens a stream.
func (p *platform) follow(t *testing.T, path string, options ...option) *events {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.server.URL()+path, nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+p.token)
	for _, o := range options {
		o(r)
	}
	resp, err := (&http.Client{Transport: p.client.Transport}).Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	e := &events{t: t, come: make(chan sseEvent), cancel: cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(e.come)
		defer func() { _ = resp.Body.Close() }()
		var next sseEvent
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				next.id = value
			case "event":
				next.name = value
			case "data":
				if json.Unmarshal([]byte(value), &next.data) != nil {
					return
				}
				select {
				case e.come <- next:
				case <-ctx.Done():
					return
				}
				next = sseEvent{}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return e
}

const eventWait = 40 * time.Second

// next is the next event, which must come and have this name.
func (e *events) next(name string) sseEvent {
	e.t.Helper()
	select {
	case got, open := <-e.come:
		require.True(e.t, open, "the stream ended")
		require.Equal(e.t, name, got.name, "%v", got)
		return got
	case <-time.After(eventWait):
		require.Fail(e.t, "no event came")
		return sseEvent{}
	}
}

// change is the next event, a change of this object.
func (e *events) change(action, kind, id string) sseEvent {
	e.t.Helper()
	got := e.next("change")
	require.Equal(e.t, action, got.data["action"])
	resource := got.data["resource"].(map[string]any)
	require.Equal(e.t, kind, resource["kind"])
	require.Equal(e.t, id, resource["id"])
	return got
}

// ends waits for the end of the stream.
func (e *events) ends() {
	e.t.Helper()
	for limit := time.After(eventWait); ; {
		select {
		case _, open := <-e.come:
			if !open {
				return
			}
		case <-limit:
			require.Fail(e.t, "the stream did not end")
			return
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, id := range []string{"own", "mia", "eve"} {
		p.account(id)
	}
	for _, id := range []string{"e1", "e2", "e9"} {
		p.do("PUT", "/v1/accounts/own/environments/"+id, m{"name": id}).want(201)
	}
	for _, id := range []string{"viewer", "other"} {
		p.do("POST", "/v1/accounts/own/roles", m{"id": id, "name": id, "policies": []string{view}}).want(201)
	}
	member := p.member("own", "mia", grant("environment", "e1", "viewer"))
	eve := p.member("own", "eve")

	service := p.follow(t, "/v1/accounts/own/events")
	at := service.next("ready")
	mia := p.follow(t, "/v1/accounts/own/events", as("mia"))
	mia.next("ready")
	all := p.follow(t, "/v1/events")
	all.next("ready")

	// What does not concern mia, then what does.
	p.do("PUT", "/v1/accounts/own/environments/e9", m{"name": "new"}).want(200)
	p.do("PUT", "/v1/accounts/own/members/"+eve+"/grants/environment/e2", m{"roles": []string{"other"}}).want(201)
	p.do("PATCH", "/v1/accounts/own/roles/other", m{"name": "another"}).want(200)
	p.do("PUT", "/v1/accounts/eve/environments/e3", m{"name": "e3"}).want(201)
	put := p.do("PUT", "/v1/accounts/own/members/"+member+"/grants/environment/e2", m{"roles": []string{"viewer"}}).want(201)
	p.do("PATCH", "/v1/accounts/own/roles/viewer", m{"policies": []string{}}).want(200)

	first := service.change("environment.put", "environment", "e9")
	require.Equal(t, "new", first.data["after"].(map[string]any)["name"])
	service.change("grant.put", "grant", eve+"/environment/e2")
	service.change("role.update", "role", "other")
	service.change("grant.put", "grant", member+"/environment/e2")
	service.change("role.update", "role", "viewer")

	got := mia.change("grant.put", "grant", member+"/environment/e2")
	require.InDelta(t, float64(put.revision()), got.data["revision"], 0)
	require.NotContains(t, got.data, "before")
	require.NotContains(t, got.data, "after")
	var access []sseEvent
	for e := range mia.come { // the changes may be told of together or one by one
		if e.name == "access" {
			access = append(access, e)
			if len(access) > 1 || e.data["lost"] != nil {
				break
			}
		}
	}
	last := access[len(access)-1]
	require.Contains(t, last.data["lost"], "environment.control.GetEnvInfo")

	all.change("environment.put", "environment", "e9")
	all.change("grant.put", "grant", eve+"/environment/e2")
	all.change("role.update", "role", "other")
	require.Contains(t, all.change("environment.put", "environment", "e3").data, "actor")

	// Going on where one was: after the first change, and after what is not there.
	again := p.follow(t, "/v1/accounts/own/events", with("Last-Event-ID", first.id))
	again.next("ready")
	again.change("grant.put", "grant", eve+"/environment/e2")
	begin := p.follow(t, "/v1/accounts/own/events", with("Last-Event-ID", at.id))
	begin.next("ready")
	require.Equal(t, first, begin.next("change"))
	for _, id := range []string{"9007199254740991", "x", policies.NewRevision(7, 1).String(), "1.x"} {
		reset := p.follow(t, "/v1/accounts/own/events", with("Last-Event-ID", id))
		require.Greater(t, reset.next("reset").data["revision"], at.data["revision"])
		reset.cancel()
	}

	// Who may not, and who may no longer.
	p.account("sam")
	p.do("GET", "/v1/accounts/own/events", nil, as("sam")).want(404)
	p.do("GET", "/v1/events", nil, as("own")).want(403)
	p.do("GET", "/v1/accounts/nobody/events", nil).want(404)
	p.do("DELETE", "/v1/accounts/own/members/"+member, nil).want(204)
	mia.ends()
	own := p.follow(t, "/v1/accounts/own/events", as("own"))
	own.next("ready")
	p.do("DELETE", "/v1/accounts/own", nil).want(204)
	own.ends()
}

// A stream ends with the token that opened it.
func TestEventsEndWithTheToken(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	secret := p.newToken(policies.ScopeCollaboration)
	stream := p.follow(t, "/v1/accounts/own/events", with("Authorization", "Bearer "+secret))
	stream.next("ready")
	s := storetest.New(t, store.Options{URL: p.database})
	list, err := s.ListTokens(t.Context(), store.Page{})
	require.NoError(t, err)
	for _, token := range list.Items {
		if len(token.Value.Scopes) == 1 {
			_, err := s.RevokeToken(t.Context(), store.Call{Actor: store.Actor{Local: true}}, token.Value.ID)
			require.NoError(t, err)
		}
	}
	stream.ends()
}
