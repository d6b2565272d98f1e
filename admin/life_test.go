package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/pgserver"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestConcurrentReadersAndWriters has 16 writers, each of which demands its own
// write back at once, from the check API and from reads, and 16 readers that never
// see two revisions in one answer.
func TestConcurrentReadersAndWriters(t *testing.T) {
	t.Parallel()
	const writers, readers, writes = 16, 16, 6
	p := start(t)
	p.account("own")
	p.account("mia")
	p.do("POST", "/v1/accounts/own/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}).want(201)
	for i := range writers {
		p.do("PUT", fmt.Sprintf("/v1/accounts/own/environments/e%d", i), m{"name": "e"}).want(201)
	}
	id := p.member("own", "mia")
	var (
		wg, reading sync.WaitGroup
		mu          sync.Mutex
		revisions   = map[policies.Revision]bool{}
		failures    []string
		stop        = make(chan struct{})
	)
	fail := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, fmt.Sprintf(format, args...))
	}
	for i := range writers {
		wg.Go(func() {
			env := fmt.Sprintf("e%d", i)
			for n := range writes {
				method, body := "PUT", any(m{"roles": []string{"viewer"}})
				if n%2 == 1 {
					method, body = "DELETE", nil
				}
				a, err := p.try(method, "/v1/accounts/own/members/"+id+"/grants/environment/"+env, body)
				if err != nil || a.status >= 300 {
					fail("%s: %v %d %s", method, err, a.status, a.body)
					return
				}
				mu.Lock()
				if revisions[a.revision()] {
					failures = append(failures, "two writes have one revision")
				}
				revisions[a.revision()] = true
				mu.Unlock()
				c := p.check("mia", viewAction, "environment", env, a.revision())
				if c.get("decision") != (n%2 == 0) {
					fail("%s is %v after write %d of revision %d: %s", env, c.get("decision"), n, a.revision(), c.body)
				}
				permissions := p.do("GET", "/v1/accounts/own/members/"+id+"/permissions?type=environment&id="+env, nil)
				if level := permissions.get("level"); (level == "direct") != (n%2 == 0) {
					fail("permissions on %s after write %d: %s", env, n, permissions.body)
				}
			}
		})
	}
	for range readers {
		reading.Go(func() {
			var last policies.Revision
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := p.try("GET", "/v1/accounts/own/resources/environments/own/collaborators", nil, with("Usher-Min-Revision", last.String()))
				if err != nil || a.status != 200 {
					fail("read: %v %d %s", err, a.status, a.body)
					return
				}
				c, err := p.try("POST", "/access/v1/evaluations", m{
					"subject": m{"type": "account", "id": "mia"}, "action": m{"name": viewAction},
					"evaluations": []any{m{"resource": m{"type": "environment", "id": "e0"}}, m{"resource": m{"type": "environment", "id": "e1"}}},
				})
				if err != nil || c.status != 200 {
					fail("checks: %v %d %s", err, c.status, c.body)
					return
				}
				first, second := c.get("evaluations.0.context.revision"), c.get("evaluations.1.context.revision")
				if first != second {
					fail("one batch has two revisions: %s", c.body)
				}
				number, _ := first.(float64)
				if policies.Revision(number) < last {
					fail("went back from %d to %v", last, first)
				}
				last = policies.Revision(number)
			}
		})
	}
	wg.Wait()
	close(stop)
	reading.Wait()
	require.Empty(t, failures)
	require.Len(t, revisions, writers*writes)
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	p := start(t)
	a := p.do("POST", "/v1/import", small("own", "mia")).want(200)
	before := p.do("GET", "/v1/accounts/own/export", nil).want(200)
	p.stop()
	_, err := p.try("GET", "/health", nil)
	require.Error(t, err)
	p.run()
	require.Equal(t, string(before.body), string(p.do("GET", "/v1/accounts/own/export", nil).want(200).body))
	require.Equal(t, true, p.check("mia", viewAction, "environment", "own-e", a.revision()).get("decision"))
	require.GreaterOrEqual(t, p.do("DELETE", "/v1/accounts/own/environments/own-e", nil).want(204).revision(), a.revision()+1)
}

// TestTwoReplicas: what one acknowledged, the other has, if it is asked for.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	p := start(t)
	q := startOn(t, p.database)
	for i := range 20 {
		owner := fmt.Sprintf("own%d", i)
		a := p.do("POST", "/v1/import", small(owner, "mia")).want(200)
		require.Equal(t, true, q.check("mia", viewAction, "environment", owner+"-e", a.revision()).get("decision"))
		q.do("GET", "/v1/accounts/"+owner+"/resources/environment/"+owner+"-e/collaborators", nil, with("Usher-Min-Revision", a.revision().String())).want(200)
	}
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "usher-admin-test-") //nolint:usetesting // its parents are closed to PostgreSQL's user
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) // PostgreSQL's user must pass
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pg, err := pgserver.New(pgserver.Options{Dir: dir, Unsafe: true})
	require.NoError(t, err)
	stop := func() {
		bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		require.NoError(t, pg.Stop(bounded))
	}
	require.NoError(t, pg.Start(ctx))
	t.Cleanup(stop)
	url := pg.URL("postgres")
	inForce, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	_, err = store.Migrate(ctx, url, inForce, io.Discard, store.MigrateOptions{})
	require.NoError(t, err)
	p := startOn(t, url)
	a := p.do("POST", "/v1/import", small("own", "mia")).want(200)
	p.check("mia", viewAction, "environment", "own-e", a.revision())
	require.Equal(t, 200, p.do("GET", "/ready", nil).status)
	stop()

	write := p.do("PUT", "/v1/accounts/own/groups/g", m{"name": "g"}).want(503)
	require.Contains(t, []string{"urn:usher:problem:nothing-changed", "urn:usher:problem:outcome-unknown"}, write.text("type"))
	require.NotEmpty(t, write.header.Get("Retry-After"))
	p.do("GET", "/v1/accounts/own", nil).want(503)
	require.Equal(t, true, p.check("mia", viewAction, "environment", "own-e", a.revision()).get("decision"), "checks go on")
	eventually(t, 30*time.Second, func() bool { return p.do("GET", "/ready", nil).status == 503 })
	require.Equal(t, 200, p.do("GET", "/health", nil).status)

	require.NoError(t, pg.Start(ctx)) // on the port that it had
	eventually(t, 30*time.Second, func() bool {
		a, err := p.try("PUT", "/v1/accounts/own/groups/g", m{"name": "g"})
		return err == nil && a.status < 300
	})
	eventually(t, 30*time.Second, func() bool { return p.do("GET", "/ready", nil).status == 200 })
	p.check("mia", viewAction, "environment", "own-e", p.do("PUT", "/v1/accounts/own/groups/g2", m{"name": "h"}).want(201).revision())
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, err := admin.New(admin.Options{Listen: "0.0.0.0:80"})
	require.ErrorContains(t, err, "--database-url")
	require.ErrorContains(t, err, "TLS")

	p := start(t)
	require.Error(t, p.server.Start(ctx), "twice")
	taken, err := admin.New(admin.Options{DatabaseURL: p.database, Listen: p.server.Addr().String()})
	require.NoError(t, err)
	require.ErrorIs(t, taken.Start(ctx), syscall.EADDRINUSE)
	require.NoError(t, taken.Stop(ctx))

	empty, err := admin.New(admin.Options{DatabaseURL: storetest.EmptyURL(t), Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	var schema *store.SchemaError
	require.ErrorAs(t, empty.Start(ctx), &schema)
	require.ErrorContains(t, schema, "usher migrate")

	none, err := admin.New(admin.Options{DatabaseURL: "postgres://127.0.0.1:1/x?connect_timeout=1", Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	var down *store.UnavailableError
	require.ErrorAs(t, none.Start(ctx), &down)

	fresh, err := admin.New(admin.Options{DatabaseURL: p.database})
	require.NoError(t, err)
	require.NoError(t, fresh.Stop(ctx))
	require.NoError(t, fresh.Stop(ctx))
	require.Error(t, fresh.Start(ctx))
	p.stop()
	p.stop()
}

// TestStopEndsStreams: a feed that is read and a bundle that is polled do not keep
// the server from stopping.
func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	p := start(t)
	get := func(path string, options ...option) *http.Response {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.server.URL()+path, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+p.token)
		for _, o := range options {
			o(r)
		}
		resp, err := p.client.Do(r)
		require.NoError(t, err)
		return resp
	}
	bundle := get("/v1/bundles/usher.tar.gz")
	_, err := io.Copy(io.Discard, bundle.Body)
	require.NoError(t, err)
	require.NoError(t, bundle.Body.Close())
	require.Equal(t, 200, bundle.StatusCode)
	stream := get("/v1/feed")
	require.Equal(t, 200, stream.StatusCode)
	defer func() { _ = stream.Body.Close() }()
	one := make([]byte, 1)
	_, err = stream.Body.Read(one)
	require.NoError(t, err)
	polled := make(chan error, 1)
	go func() {
		a, err := p.try("GET", "/v1/bundles/usher.tar.gz", nil, with("If-None-Match", bundle.Header.Get("ETag")), with("Prefer", "modes=snapshot;wait=300"))
		if err == nil && a.status >= 500 && a.status != 503 {
			err = errors.New(string(a.body))
		}
		polled <- err
	}()
	begun := time.Now()
	p.stop()
	require.Less(t, time.Since(begun), 10*time.Second)
	<-polled
	_, err = io.Copy(io.Discard, stream.Body)
	if err != nil {
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	}
}
