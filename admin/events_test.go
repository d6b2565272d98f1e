package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
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

// Ids are places in the log: a follower goes on at another server, or at the same one
// after a restart, and misses nothing.
func TestEventsGoOnElsewhere(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	other := startOn(t, p.database)
	here, there := p.follow(t, "/v1/accounts/own/events"), other.follow(t, "/v1/accounts/own/events")
	here.next("ready")
	there.next("ready")
	p.do("PUT", "/v1/accounts/own/environments/e1", m{"name": "e1"}).want(201)
	first := here.change("environment.put", "environment", "e1")
	require.Equal(t, first, there.change("environment.put", "environment", "e1"), "the same, whichever server tells")
	other.do("PUT", "/v1/accounts/own/environments/e2", m{"name": "e2"}).want(201)
	here.change("environment.put", "environment", "e2")

	here.cancel()
	p.stop()
	other.do("PUT", "/v1/accounts/own/environments/e3", m{"name": "e3"}).want(201)
	p.run()
	p.do("PUT", "/v1/accounts/own/environments/e4", m{"name": "e4"}).want(201)
	for _, server := range []*platform{p, other} {
		again := server.follow(t, "/v1/accounts/own/events", with("Last-Event-ID", first.id))
		again.next("ready")
		for _, id := range []string{"e2", "e3", "e4"} {
			again.change("environment.put", "environment", id)
		}
	}
	for _, id := range []string{"e2", "e3", "e4"} {
		there.change("environment.put", "environment", id)
	}
}

// slowly asks for something that has no end by a connection that holds little, and reads
// up to a line that begins so.
func (p *platform) slowly(t *testing.T, path, accept, line string) (net.Conn, *bufio.Reader) {
	t.Helper()
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.server.URL(), "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nAuthorization: Bearer %s\r\nAccept: %s\r\n\r\n", path, p.token, accept)
	require.NoError(t, err)
	slow := bufio.NewReader(conn)
	for got := ""; !strings.HasPrefix(got, line); {
		got, err = slow.ReadString('\n')
		require.NoError(t, err)
	}
	return conn, slow
}

// importMany gives the account own so many environments, each of a kilobyte in the log.
func (p *platform) importMany(t *testing.T, environments int) {
	t.Helper()
	doc := policies.Document{Account: policies.Account{ID: "own", Email: "own@example.com"}}
	for i := range environments {
		id := fmt.Sprintf("e%05d", i)
		doc.Environments = append(doc.Environments, policies.Environment{ID: policies.EnvironmentID(id), Name: id + strings.Repeat("😀", 190)})
	}
	data, err := policies.MarshalDocument(doc)
	require.NoError(t, err)
	p.do("POST", "/v1/import", data).want(200)
}

// A follower that does not read is written to no further than the network's buffers
// hold, while the others hear everything; it ends, and goes on from the last event
// that it has read.
func TestASlowFollowerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const environments = 7_000
	p := start(t)
	p.account("own")
	conn, slow := p.slowly(t, "/v1/accounts/own/events", "text/event-stream", "event: ready")
	fast := p.follow(t, "/v1/accounts/own/events")
	fast.next("ready")

	p.importMany(t, environments)
	p.do("PUT", "/v1/accounts/own/environments/last", m{"name": "last"}).want(201)
	var heard []string
	for last := ""; last != "last"; {
		last = fast.next("change").data["resource"].(map[string]any)["id"].(string)
		heard = append(heard, last)
	}
	require.Greater(t, len(heard), environments)

	// Once the server has given it up, the slow one reads: what was on its way, and then
	// the end.
	eventually(t, 2*time.Minute, func() bool {
		return strings.Contains(string(p.do("GET", "/metrics", nil).body), `usher_followers{of="changes"} 1`)
	})
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	text, err := io.ReadAll(slow)
	require.NoError(t, err)
	events := strings.Split(string(text), "\n\n")
	events = events[:len(events)-1] // the last may be cut off
	require.Less(t, len(events), environments)
	id := ""
	for _, e := range events {
		if _, line, ok := strings.Cut(e, "id: "); ok {
			id, _, _ = strings.Cut(line, "\n")
		}
	}
	again := p.follow(t, "/v1/accounts/own/events", with("Last-Event-ID", id))
	again.next("ready")
	missed := heard[strings.Count(string(text[:strings.LastIndex(string(text), "\n\n")+2]), "event: change"):]
	for _, id := range missed {
		require.Equal(t, id, again.next("change").data["resource"].(map[string]any)["id"])
	}
}
