package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/mail/mailtest"
	"github.com/usher-authz/usher/admin/store/pgserver"
)

// post is a mail server, which takes no mail until it is opened.
type post struct {
	address string
	open    chan struct{}
	waiting atomic.Int32 // mails that it was asked to take, and did not yet

	mu    sync.Mutex
	mails map[string]int // by address
}

func (p *post) taken() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.mails)
}

func newPost(t *testing.T) *post {
	t.Helper()
	p := &post{open: make(chan struct{}), mails: map[string]int{}}
	p.address = mailtest.Serve(t, mailtest.Options{
		Rcpt: func(string) error {
			p.waiting.Add(1)
			<-p.open
			return nil
		},
		Data: func(m mailtest.Mail) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.mails[m.To]++
			return nil
		},
	})
	return p
}

// TestKilledAdminLosesNoMail kills an admin server that has mails under way and in the
// queue, and takes invitations: after the next start each member that is there has got
// its mail, and nobody else.
func TestKilledAdminLosesNoMail(t *testing.T) {
	t.Parallel()
	pg, err := pgserver.New(pgserver.Options{Dir: t.TempDir(), Unsafe: true})
	require.NoError(t, err)
	require.NoError(t, pg.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, pg.Stop(context.Background())) })
	usher, database := binary(t, "usher"), []string{"USHER_DATABASE_URL=" + pg.URL(pgserver.Database)}
	run := func(args ...string) string {
		command := exec.CommandContext(t.Context(), usher, args...)
		command.Env = append(cleanEnv(), database...)
		out, err := command.Output()
		require.NoError(t, err, "usher %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	run("migrate")
	box, address := newPost(t), freePort(t)
	p := &platform{admin: "http://" + address, client: &http.Client{Timeout: time.Minute}}
	t.Cleanup(p.client.CloseIdleConnections)
	p.token = run("token", "create", "--name", "test", "--scope", "resources,collaboration")
	runAdmin := func() *process {
		admin := start(t, database, usher, "admin", "--listen", address, "--smtp-url", "smtp://"+box.address+"?tls=none", "--mail-from", "usher@example.com")
		eventually(t, time.Minute, "the admin server is ready", func() error {
			a, err := p.call(http.MethodGet, p.admin+"/ready", nil, nil)
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.status, a.body)
			}
			return err
		})
		return admin
	}
	admin := runAdmin()
	p.must(t, http.MethodPut, p.admin+"/v1/accounts/own", map[string]any{"email": "own@example.com"})

	// Invitations without a pause, until the server is gone; what is refused or only
	// tried tells nobody.
	var acknowledged sync.Map
	var work sync.WaitGroup
	for w := range 3 {
		work.Go(func() {
			for n := 0; ; n++ {
				email := fmt.Sprintf("m-%d-%d@example.com", w, n)
				members := p.admin + "/v1/accounts/own/members"
				_, _ = p.call(http.MethodPost, members+"?dry_run=true", map[string]any{"email": "tried-" + email}, nil)
				_, _ = p.call(http.MethodPost, members, map[string]any{"email": "refused-" + email, "grants": []any{map[string]any{
					"resource": map[string]any{"type": "environment", "id": "nowhere"}, "roles": []string{"none"},
				}}}, nil)
				a, err := p.call(http.MethodPost, members, map[string]any{"email": email}, nil)
				if err != nil {
					return
				}
				if a.status == http.StatusCreated {
					acknowledged.Store(email, true)
				}
			}
		})
	}
	eventually(t, time.Minute, "mails are under way, and more are in the queue", func() error {
		known := 0
		acknowledged.Range(func(any, any) bool {
			known++
			return true
		})
		if under := int(box.waiting.Load()); under == 0 || known < under+3 {
			return fmt.Errorf("%d of %d", under, known)
		}
		return nil
	})
	admin.kill()
	work.Wait()
	close(box.open)
	runAdmin()

	conn, err := pgx.Connect(t.Context(), pg.URL(pgserver.Database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	// What a killed process had under way is done again after minutes, which pass here.
	_, err = conn.Exec(t.Context(), `update river_job set attempted_at = attempted_at - interval '1 hour' where state = 'running'`)
	require.NoError(t, err)
	eventually(t, 2*time.Minute, "the queue is empty", func() error {
		var left int
		err := conn.QueryRow(t.Context(), `select count(*) from river_job where queue = 'mail' and state <> 'completed'`).Scan(&left)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d are left", left)
		}
		return err
	})
	var list struct {
		Items []struct {
			Email string `json:"email"`
		} `json:"items"`
		Next *string `json:"next_cursor"`
	}
	require.NoError(t, json.Unmarshal(p.must(t, http.MethodGet, p.admin+"/v1/accounts/own/members?limit=1000", nil).body, &list))
	require.Nil(t, list.Next)
	var members []string
	for _, item := range list.Items {
		members = append(members, item.Email)
	}
	got := slices.Collect(maps.Keys(box.taken()))
	require.ElementsMatch(t, members, got, "who is a member, and who got a mail")
	acknowledged.Range(func(email, _ any) bool {
		require.Contains(t, got, email, "it was acknowledged")
		return true
	})
}
