package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/pgserver"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

const benchWriters = 16

// inParallel runs fn n times by sixteen goroutines.
func inParallel(b *testing.B, n int, fn func(writer, i int) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var wait sync.WaitGroup
	start := time.Now()
	for w := range benchWriters {
		wait.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if err := fn(w, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	return time.Since(start)
}

// The floor of a single-grant change: the same rows in the same number of round
// trips under the same lock, without any thought.
const floorSetup = `
create table floor_platform (singleton boolean primary key, revision bigint, hash bytea, changed_at timestamptz) with (fillfactor = 10);
insert into floor_platform values (true, 0, '', now());
create table floor_revisions (like revisions including all);
create table floor_changes (like changes including all);
create table floor_members (like collaborations including all);
insert into floor_members table collaborations;
create table floor_grants (like grants including all);
insert into floor_grants (owner, collaboration_id, resource_type, resource_id, role_id) select owner, collaboration_id, resource_type, resource_id, role_id from grants;`

// BenchmarkGrantChange measures changes of single grants by sixteen writers on a
// durable PostgreSQL, and the floor beside it: the target is half of the floor's rate.
func BenchmarkGrantChange(b *testing.B) {
	const owners = 40
	dir := b.TempDir()
	pg, err := pgserver.New(pgserver.Options{Dir: dir})
	require.NoError(b, err)
	require.NoError(b, pg.Start(b.Context()))
	b.Cleanup(func() { require.NoError(b, pg.Stop(b.Context())) })
	url := pg.URL(pgserver.Database)
	storetest.Migrate(b, url)
	s, err := store.Open(b.Context(), store.Options{URL: url + "&pool_max_conns=40"})
	require.NoError(b, err)
	b.Cleanup(s.Close)
	documents := make([]policies.Document, 0, owners)
	for i := range owners {
		documents = append(documents, standardDocument(i, owners*10))
	}
	_, err = s.Import(b.Context(), call(), lines(documents...), nil)
	require.NoError(b, err)
	type target struct {
		owner  policies.AccountID
		member policies.CollaborationID
		env    string
	}
	targets := make([]target, benchWriters)
	for w := range targets {
		d := documents[w]
		list, err := s.ListMembers(b.Context(), d.Account.ID, store.MemberFilter{}, store.Page{Limit: 1})
		require.NoError(b, err)
		targets[w] = target{d.Account.ID, list.Items[0].Value.ID, string(d.Environments[19].ID)}
	}
	pool, err := pgxpool.New(b.Context(), url+"&pool_max_conns=20")
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	_, err = pool.Exec(b.Context(), floorSetup)
	require.NoError(b, err)
	var rounds atomic.Int64
	turns := make([]int, benchWriters)
	roles := []policies.RoleID{"role-0", "role-1"}

	change := func(w, _ int) error {
		turns[w]++
		r, err := s.PutGrant(b.Context(), call(), targets[w].owner, targets[w].member, grant("environment", targets[w].env, roles[turns[w]%2]))
		if err == nil && !r.Changed {
			return fmt.Errorf("nothing was changed: %+v", r)
		}
		return err
	}
	floor := func(w, i int) error {
		t := targets[w]
		conn, err := pool.Acquire(b.Context())
		if err != nil {
			return err
		}
		defer conn.Release()
		one := &pgx.Batch{}
		one.Queue("begin")
		one.Queue("select pg_advisory_xact_lock(1)")
		one.Queue("table floor_platform")
		if err := conn.SendBatch(b.Context(), one).Close(); err != nil {
			return err
		}
		n := rounds.Add(1)
		hash, text := make([]byte, 32), `[{"body":{"expires_at":null,"roles":["role-0"]},"id":"member-aaaaaaaaaaaaaaaaaaaaaaaa/environment/environment-1-19","kind":"grant","owner":"account-1"}]`
		two := &pgx.Batch{}
		two.Queue(`delete from floor_grants where owner = $1 and collaboration_id = $2 and resource_type = 'environment' and resource_id = $3`, t.owner, t.member, t.env)
		two.Queue(`insert into floor_grants (owner, collaboration_id, resource_type, resource_id, role_id) values ($1, $2, 'environment', $3, $4)`, t.owner, t.member, t.env, fmt.Sprintf("role-%d", i%2))
		two.Queue(`update floor_members set revision = $3, last_changed = now() where owner = $1 and id = $2`, t.owner, t.member, n)
		two.Queue(`insert into floor_revisions (revision, at, objects, audit_hash, hash, action, token, token_name, account, local, request_id, owners, transaction, latest)
values ($1, now(), $2, $3, $3, 'a', 't', 'n', '', false, 'r', array[$4], $5, now())`, n, text, hash, string(t.owner), uuid.New())
		two.Queue(`insert into floor_changes (owner, revision, ordinal, kind, id, before, after) values ($1, $2, 0, 'grant', $3, $4, $4)`, t.owner, n, text[:60], text[:50])
		two.Queue(`update floor_platform set revision = $1, hash = $2, changed_at = now()`, n, hash)
		two.Queue(`select pg_notify('floor', $1)`, fmt.Sprint(n))
		two.Queue("commit")
		return conn.SendBatch(b.Context(), two).Close()
	}
	inParallel(b, 200, change) // warm
	inParallel(b, 200, floor)
	b.ResetTimer()
	// Alternately, so that the machine's other work weighs on both.
	const slice = 200
	var changes, floors time.Duration
	done := 0
	for b.Loop() {
		changes += inParallel(b, slice, change)
		floors += inParallel(b, slice, floor)
		done += slice
	}
	b.ReportMetric(float64(done)/changes.Seconds(), "changes/s")
	b.ReportMetric(float64(done)/floors.Seconds(), "floor/s")
	b.ReportMetric(floors.Seconds()/changes.Seconds(), "ratio")
}
