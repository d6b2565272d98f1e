package admin_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// platform is an admin server on a database of its own, and a client of it.
type platform struct {
	t        testing.TB
	database string
	server   *admin.Server
	client   *http.Client
	token    string // of every scope

	documentOnce sync.Once
	document     document
}

// start runs an admin server on a new database.
func start(tb testing.TB, change ...func(*admin.Options)) *platform {
	tb.Helper()
	return startOn(tb, storetest.URL(tb), change...)
}

func startOn(tb testing.TB, database string, change ...func(*admin.Options)) *platform {
	tb.Helper()
	p := &platform{t: tb, database: database, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}}
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.token = p.newToken(policies.Scopes...)
	p.run(change...)
	tb.Cleanup(func() {
		p.client.CloseIdleConnections()
		p.stop()
	})
	return p
}

// run starts a server on the platform's database.
func (p *platform) run(change ...func(*admin.Options)) {
	p.t.Helper()
	o := admin.Options{DatabaseURL: p.database, Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(&testLog{p.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, c := range change {
		c(&o)
	}
	server, err := admin.New(o)
	require.NoError(p.t, err)
	require.NoError(p.t, server.Start(context.Background()))
	p.server = server
}

func (p *platform) stop() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(p.t, p.server.Stop(ctx))
}

// testLog writes to the test's log.
type testLog struct{ t testing.TB }

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// newToken makes a service token as `usher token create` does.
func (p *platform) newToken(scopes ...policies.Scope) string {
	p.t.Helper()
	s, err := store.Open(context.Background(), store.Options{URL: p.database})
	require.NoError(p.t, err)
	defer s.Close()
	_, secret, err := s.CreateToken(context.Background(), store.Call{Actor: store.Actor{Local: true}}, "test", scopes, nil)
	require.NoError(p.t, err)
	return secret
}

// answer is what a request came back with.
type answer struct {
	t      testing.TB
	p      *platform
	what   string
	status int
	header http.Header
	body   []byte
}

// option changes a request.
type option func(*http.Request)

func with(name, value string) option {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = []string{value} }
}

func as(account string) option { return with("Usher-Act-As", account) }

func without(name string) option { return func(r *http.Request) { r.Header.Del(name) } }

// do makes a request with the token of every scope. A string or []byte is sent as
// it is.
func (p *platform) do(method, path string, body any, options ...option) answer {
	p.t.Helper()
	a, err := p.try(method, path, body, options...)
	require.NoError(p.t, err)
	return a
}

func (p *platform) try(method, path string, body any, options ...option) (answer, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	case io.Reader:
		reader = b
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, p.server.URL()+path, reader)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, o := range options {
		o(r)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return answer{p.t, p, method + " " + path, resp.StatusCode, resp.Header, data}, err
}

// want fails the test unless the status is this one.
func (a answer) want(status int) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s: %s", a.what, a.body)
	if status >= 400 {
		require.Equal(a.t, "application/problem+json", a.header.Get("Content-Type"), a.what)
		require.NotEmpty(a.t, a.get("type"), a.what)
		require.InDelta(a.t, status, a.get("status"), 0, a.what)
	}
	require.NotEmpty(a.t, a.header.Get("X-Request-ID"), a.what)
	a.p.conforms(a)
	return a
}

// get is a value of the body, by a path such as items.0.id; nil if there is none.
func (a answer) get(path string) any {
	a.t.Helper()
	var value any
	require.NoError(a.t, json.Unmarshal(a.body, &value), "%s: %s", a.what, a.body)
	for part := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

func (a answer) text(path string) string {
	a.t.Helper()
	s, ok := a.get(path).(string)
	require.True(a.t, ok, "%s: %s is no string in %s", a.what, path, a.body)
	return s
}

func (a answer) len(path string) int {
	a.t.Helper()
	list, ok := a.get(path).([]any)
	require.True(a.t, ok, "%s: %s is no list in %s", a.what, path, a.body)
	return len(list)
}

// revision is Usher-Revision.
func (a answer) revision() policies.Revision {
	a.t.Helper()
	r, err := policies.ParseRevision(a.header.Get("Usher-Revision"))
	require.NoError(a.t, err, a.what)
	return r
}

// fields are the fields that a problem names.
func (a answer) fields() []string {
	a.t.Helper()
	var problem struct {
		Errors []struct {
			Field string `json:"field"`
		} `json:"errors"`
	}
	require.NoError(a.t, json.Unmarshal(a.body, &problem))
	fields := []string{}
	for _, e := range problem.Errors {
		fields = append(fields, e.Field)
	}
	return fields
}

// eventually polls until condition holds.
func eventually(tb testing.TB, limit time.Duration, condition func() bool) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(deadline) {
		if condition() {
			return
		}
		<-ticker.C
	}
	tb.Fatal("the condition did not come to hold in time")
}

// account makes an account with this address.
func (p *platform) account(id string) {
	p.t.Helper()
	a := p.do("PUT", "/v1/accounts/"+id, map[string]any{"email": id + "@example.com", "display_name": strings.ToUpper(id)})
	require.Contains(p.t, []int{200, 201}, a.status, "%s", a.body)
}

// member invites account at owner with grants, lets it accept, and gives the
// collaboration's id.
func (p *platform) member(owner, account string, grants ...any) string {
	p.t.Helper()
	if grants == nil {
		grants = []any{}
	}
	id := p.do("POST", "/v1/accounts/"+owner+"/members", map[string]any{"email": account + "@example.com", "grants": grants}).want(201).text("id")
	p.do("POST", "/v1/collaborations/"+id+"/accept", nil, as(account)).want(200)
	return id
}

func grant(kind, id string, roles ...string) map[string]any {
	return map[string]any{"resource": map[string]any{"type": kind, "id": id}, "roles": roles}
}

// check asks the check API.
func (p *platform) check(subject, action, kind, id string, revision policies.Revision) answer {
	p.t.Helper()
	return p.do("POST", "/access/v1/evaluation", map[string]any{
		"subject": map[string]any{"type": "account", "id": subject}, "action": map[string]any{"name": action},
		"resource": map[string]any{"type": kind, "id": id}, "context": map[string]any{"min_revision": uint64(revision)},
	}).want(200)
}
