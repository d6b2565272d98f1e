package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/pgserver"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// fault is what a proxy does to the next message.
type fault int32

const (
	faultNone    fault = iota
	faultRequest       // the next request is lost, and the connection with it
	faultReply         // the next reply is lost, and the connection with it
	faultForever       // as faultReply, and no connection is let in any more
)

// proxy stands between a store and its database.
type proxy struct {
	listener net.Listener
	target   string
	fault    atomic.Int32
	shut     atomic.Bool
	// hold, if there is one, is called once by the next request that copies rows in,
	// which goes on when it returns.
	hold atomic.Pointer[func()]
	wait sync.WaitGroup
}

// newProxy gives a proxy to database, and the URL through it.
func newProxy(t *testing.T, database string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, target: u.Host}
	u.Host = l.Addr().String()
	p.wait.Go(p.serve)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		p.wait.Wait()
	})
	return p, u.String()
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		// A client that is not read from is soon kept from writing.
		_ = client.(*net.TCPConn).SetReadBuffer(32 << 10)
		server, err := net.Dial("tcp", p.target)
		if err != nil || p.shut.Load() {
			_ = client.Close()
			continue
		}
		p.wait.Go(func() { p.pass(client, server, faultRequest) })
		p.wait.Go(func() { p.pass(server, client, faultReply) })
	}
}

// pass forwards one direction, until a fault of its kind, which it takes away.
func (p *proxy) pass(from, to net.Conn, kind fault) {
	defer func() { _ = from.Close(); _ = to.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || p.shut.Load() {
			return
		}
		if p.fault.CompareAndSwap(int32(kind), int32(faultNone)) {
			return
		}
		if kind == faultRequest && bytes.Contains(buffer[:n], []byte("PGCOPY")) {
			if hold := p.hold.Swap(nil); hold != nil {
				(*hold)()
			}
		}
		if kind == faultReply && p.fault.CompareAndSwap(int32(faultForever), int32(faultNone)) {
			p.shut.Store(true)
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// lastMoment is randomness that calls back when the salt of a write's log entry is
// read: that is right before its changes go out with the COMMIT.
type lastMoment struct{ call atomic.Pointer[func()] }

func (l *lastMoment) Read(b []byte) (int, error) {
	if len(b) == 16 {
		if call := l.call.Swap(nil); call != nil {
			(*call)()
		}
	}
	return rand.Read(b)
}

func TestCommitsOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault              fault
		committed, unknown bool
	}{
		"the request is lost": {fault: faultRequest},
		"the reply is lost":   {fault: faultReply, committed: true},
		"the network is lost": {fault: faultForever, committed: true, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := storetest.URL(t)
			direct := storetest.New(t, store.Options{URL: database})
			p, through := newProxy(t, database)
			random := &lastMoment{}
			s := storetest.New(t, store.Options{URL: through, Rand: random})
			s.SetLookupTimeout(time.Second)
			head, err := s.Head(t.Context())
			require.NoError(t, err)
			_, err = s.PutAccount(t.Context(), store.Call{}, policies.Account{ID: "warm", Email: "warm@example.com"})
			require.NoError(t, err, "the statements are prepared")
			random.call.Store(new(func() { p.fault.Store(int32(c.fault)) }))

			r, err := s.PutAccount(t.Context(), store.Call{}, policies.Account{ID: "mia", Email: "mia@example.com"})
			var gone *store.UnavailableError
			switch {
			case c.unknown:
				require.ErrorAs(t, err, &gone)
				require.True(t, gone.OutcomeUnknown, err)
			case c.committed:
				require.NoError(t, err, "looked up")
				require.Equal(t, head.Revision+2, r.Revision)
				require.True(t, r.Created)
			default:
				require.ErrorAs(t, err, &gone)
				require.False(t, gone.OutcomeUnknown, err)
			}
			_, err = direct.GetAccount(t.Context(), "mia")
			if c.committed {
				require.NoError(t, err)
			} else {
				requireNotFound(t, err, "account")
			}
			requireSound(t, direct)
		})
	}
}

// Whatever the search for the outcome failed of, its failure is not taken for that of
// the write.
func TestAnUnknownOutcomeStaysUnknown(t *testing.T) {
	t.Parallel()
	for _, lookup := range []error{io.ErrUnexpectedEOF, syscall.ECONNRESET, context.DeadlineExceeded, &pgconn.PgError{Code: "57P03"}} {
		var gone *store.UnavailableError
		err := store.Translate(&store.UnavailableError{OutcomeUnknown: true, Err: lookup})
		require.ErrorAs(t, err, &gone)
		require.True(t, gone.OutcomeUnknown, err)
	}
}

func TestACancelledWriterLeavesTheQueue(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	random := &lastMoment{}
	first := storetest.New(t, store.Options{URL: database, Rand: random})
	second := storetest.New(t, store.Options{URL: database})
	ctx, cancel := context.WithCancel(t.Context())
	var errSecond error
	var wait sync.WaitGroup
	random.call.Store(new(func() { // first holds the lock
		wait.Go(func() {
			_, errSecond = second.PutAccount(ctx, call(), policies.Account{ID: "second", Email: "second@example.com"})
		})
		cancel()
		wait.Wait()
	}))
	_, err := first.PutAccount(t.Context(), call(), policies.Account{ID: "first", Email: "first@example.com"})
	require.NoError(t, err)
	require.ErrorIs(t, errSecond, context.Canceled)
	_, err = second.GetAccount(t.Context(), "second")
	requireNotFound(t, err, "account")
	_, err = second.PutAccount(t.Context(), call(), policies.Account{ID: "second", Email: "second@example.com"})
	require.NoError(t, err)
}

// A caller that goes away while the server takes no more of an import's rows is let
// go, and leaves nothing behind.
func TestACancelledImport(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	direct := storetest.New(t, store.Options{URL: database})
	p, through := newProxy(t, database)
	s := storetest.New(t, store.Options{URL: through})
	document := standardDocument(1, 1000) // more of it than fits into what lies between
	for i := range 15_000 {
		document.Environments = append(document.Environments, policies.Environment{
			ID: policies.EnvironmentID(fmt.Sprintf("e-%d", i)), Name: fmt.Sprintf("%0190d", i),
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	var cancelled time.Time
	p.hold.Store(new(func() {
		cancelled = time.Now()
		cancel()
		<-release
	}))
	report, err := s.Import(ctx, call(), lines(document), nil)
	letGo := time.Now()
	close(release)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, letGo.Sub(cancelled), 20*time.Second, "it did not wait until the server gave up on it, after 30 s")
	require.Zero(t, report.Imported)
	_, err = direct.GetAccount(t.Context(), document.Account.ID)
	requireNotFound(t, err, "account")

	report, err = s.Import(t.Context(), call(), lines(document), nil)
	require.NoError(t, err)
	require.Equal(t, 1, report.Imported)
	requireSound(t, direct)
}

// Of tables that are copied in together the first that is refused is named, nothing is
// left of the others, and the connection goes on.
func TestARefusedImport(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: database})
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	for _, constraint := range []string{
		"alter table groups add constraint %s check (name = '')",
		"alter table grants add constraint %s check (role_id = '')",
		"alter table changes add constraint %s check (kind <> 'grant')",
	} {
		const name = "of_the_test"
		_, err := conn.Exec(t.Context(), fmt.Sprintf(constraint, name))
		require.NoError(t, err)
		_, err = s.Import(t.Context(), call(), lines(standardDocument(1, 1000)), nil)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, constraint)
		require.Equal(t, name, refused.ConstraintName)
		_, err = s.GetAccount(t.Context(), standardDocument(1, 1000).Account.ID)
		requireNotFound(t, err, "account")
		_, err = conn.Exec(t.Context(), "alter table "+refused.TableName+" drop constraint "+name)
		require.NoError(t, err)
	}
	report, err := s.Import(t.Context(), call(), lines(standardDocument(1, 1000)), nil)
	require.NoError(t, err)
	require.Equal(t, 1, report.Imported)
	requireSound(t, s)
}

// PostgreSQL is killed again and again under sixteen writers: what was acknowledged
// is there, and what was refused as unchanged is not.
func TestKilledServerLosesNoAcknowledgedWrite(t *testing.T) {
	pg, err := pgserver.New(pgserver.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, pg.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, pg.Stop(context.Background())) })
	_, err = store.Migrate(t.Context(), pg.URL(pgserver.Database), inForce(t), io.Discard, store.MigrateOptions{})
	require.NoError(t, err)
	s, err := store.Open(t.Context(), store.Options{URL: pg.URL(pgserver.Database)})
	require.NoError(t, err)
	defer s.Close()

	const writers, kills, acknowledged = 16, 3, 60
	var stop atomic.Bool
	acks := make(chan struct{})
	type write struct {
		revision policies.Revision
		unknown  bool
	}
	done := make([]map[policies.AccountID]write, writers)
	var wait sync.WaitGroup
	for w := range writers {
		done[w] = map[policies.AccountID]write{}
		wait.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := policies.AccountID(fmt.Sprintf("account-%d-%d", w, i))
				r, err := s.PutAccount(t.Context(), call(), policies.Account{ID: id, Email: string(id) + "@example.com"})
				var gone *store.UnavailableError
				switch {
				case err == nil:
					done[w][id] = write{revision: r.Revision}
					select {
					case acks <- struct{}{}:
					default:
					}
				case errors.As(err, &gone):
					if gone.OutcomeUnknown {
						done[w][id] = write{unknown: true}
					}
				default:
					t.Errorf("write %s: %v", id, err)
					return
				}
			}
		})
	}
	for range kills {
		for range acknowledged {
			<-acks
		}
		require.NoError(t, syscall.Kill(pg.Pid(), syscall.SIGKILL))
		<-pg.Done()
		require.NoError(t, pg.Start(t.Context()))
	}
	for range acknowledged {
		<-acks
	}
	stop.Store(true)
	wait.Wait()
	count, unknown := 0, 0
	for _, writes := range done {
		for id, w := range writes {
			if w.unknown {
				unknown++
				continue
			}
			item, err := s.GetAccount(t.Context(), id)
			require.NoError(t, err, "acknowledged at revision %d", w.revision)
			require.Equal(t, w.revision, item.Revision)
			count++
		}
	}
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, count+1, int(head.Revision.Count()))
	require.LessOrEqual(t, int(head.Revision.Count()), count+unknown+1, "what was refused is not there")
	requireSound(t, s)
	t.Logf("%d acknowledged, %d unknown", count, unknown)
}

func TestListen(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: database})
	ctx, cancel := context.WithCancel(t.Context())
	notified := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Listen(ctx, func(store.Word) {
			select {
			case notified <- struct{}{}:
			default:
			}
		})
	}()
	<-notified
	start := time.Now()
	for i := range 3 {
		_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "mia", Email: "mia@example.com", DisplayName: fmt.Sprint(i)})
		require.NoError(t, err)
		<-notified
	}
	t.Logf("three changes and notices in %s", time.Since(start))
	// Its connection is cut: it comes back by itself.
	run(t, database, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%' and datname = current_database()")
	for range 3 {
		<-notified
	}
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// A listener is handed what its own store commits, as the log has it, and hears of what
// others do.
func TestListenHandsOver(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	s, other := storetest.New(t, store.Options{URL: database}), storetest.New(t, store.Options{URL: database})
	ctx, cancel := context.WithCancel(t.Context())
	words, ended := make(chan store.Word, 1000), make(chan error, 1)
	go func() { ended <- s.Listen(ctx, func(w store.Word) { words <- w }) }()
	require.Equal(t, store.Word{}, <-words)
	// hear gives the changes that come with so many words of a revision, in any order.
	hear := func(count int, revision policies.Revision) (handed []policies.Change) {
		for count > 0 {
			w := <-words
			if w.Revision == 0 {
				continue // a second is over
			}
			require.Equal(t, revision, w.Revision)
			if count--; w.Change != nil {
				handed = append(handed, *w.Change)
			}
		}
		return handed
	}
	for i := range 3 {
		mia := policies.Account{ID: "mia", Email: "mia@example.com", DisplayName: fmt.Sprint(i)}
		done, err := s.PutAccount(t.Context(), call(), mia)
		require.NoError(t, err)
		log, err := s.Changes(t.Context(), done.Revision-1, 1)
		require.NoError(t, err)
		require.Equal(t, log, hear(2, done.Revision), "by the commit, and by PostgreSQL")
	}
	done, err := other.PutAccount(t.Context(), call(), policies.Account{ID: "max", Email: "max@example.com"})
	require.NoError(t, err)
	require.Empty(t, hear(1, done.Revision))
	report := importAll(t, s, policies.Document{Account: policies.Account{ID: "moe", Email: "moe@example.com"}})
	require.Empty(t, hear(2, report.Revision), "an import's changes are for the log to tell")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}
