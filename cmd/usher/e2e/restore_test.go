package e2e

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// restoredDatabase puts a backup of PostgreSQL back under running sidecars: what was
// granted since is gone, and what was revoked since is not.
func (f *fleet) restoredDatabase(t *testing.T) {
	ctx := context.Background()
	password, err := os.ReadFile(filepath.Join(f.platform.dir, "postgres", "password"))
	require.NoError(t, err)
	address, err := url.Parse(f.env["USHER_DATABASE_URL"])
	require.NoError(t, err)
	address.User = url.UserPassword("usher", strings.TrimSpace(string(password)))
	address.Path = "/postgres"
	conn, err := pgx.Connect(ctx, address.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(ctx)) })
	do := func(sql string) {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	address.Path = "/work"
	usher := func(args ...string) string {
		cmd := exec.Command(binary(t, "usher"), args...)
		cmd.Env = append(cleanEnv(), "USHER_DATABASE_URL="+address.String())
		out, err := cmd.Output()
		require.NoError(t, err, "usher %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	do("create database work")
	usher("migrate")
	other := &fleet{platform: &platform{client: f.client, env: f.env}, all: t, dir: t.TempDir()}
	other.token = usher("token", "create", "--name", "all", "--scope", "resources,collaboration,checks,bundles")
	other.addresses.frail, other.addresses.resident, other.addresses.onDemand = freePort(t), freePort(t), freePort(t)
	other.admin, other.net = "http://"+other.addresses.frail, newNetwork(t, other.addresses.frail)
	startAdmin := func() {
		other.frail = start(t, []string{"USHER_SIGNING_KEY_FILE=" + f.env["USHER_SIGNING_KEY_FILE"]}, binary(t, "usher"),
			"admin", "--database-url", address.String(), "--listen", other.addresses.frail)
		eventually(t, soon, "the admin server answers", func() error {
			_, err := other.call(http.MethodGet, other.admin+"/ready", nil, nil)
			return err
		})
	}
	startAdmin()
	other.must(t, http.MethodPost, other.admin+"/v1/import", []any{document("own", "mia", 2)})
	grants := other.admin + "/v1/accounts/own/members/" + other.memberID(t, other.admin, "own", "mia") + "/grants/environment/"
	other.grantURL = grants + "own-env-0"
	other.startResident(t)
	other.startOnDemand(t)
	other.grant(t)
	doors := []string{other.residentURL(), other.onDemandURL()}

	other.frail.stop(t, syscall.SIGTERM)
	do("create database backup template work")
	startAdmin()
	revoked := other.revoke(t)
	lost := other.must(t, http.MethodPut, grants+"own-env-1", map[string]any{"roles": []string{"viewer"}}).revision
	for _, door := range doors {
		other.denies(t, door, revoked)
		eventually(t, soon, door+" allows what is to be lost", func() error {
			d, err := other.evaluate(door, question{"mia", viewAction, "environment", "own-env-1"}, lost)
			if err == nil {
				require.True(t, d.Decision)
			}
			return err
		})
	}

	other.frail.kill()
	do("drop database work with (force)")
	do("create database work template backup")
	// Nothing in the database tells: the sidecars prove what it has lost.
	began := lost + 1
	startAdmin()
	for _, door := range doors {
		eventually(t, soon, door+" follows", func() error {
			answers, err := other.evaluateAll(door, []question{asked(), {"mia", viewAction, "environment", "own-env-1"}}, began)
			if err == nil {
				require.True(t, answers[0].Decision, "%s: its revocation was lost: %+v", door, answers[0])
				require.False(t, answers[1].Decision, "%s: its grant was lost: %+v", door, answers[1])
			}
			return err
		})
	}
	revoked = other.revoke(t)
	for _, door := range doors {
		other.denies(t, door, revoked)
	}
	other.tells(t, other.admin, "usher_store_epochs_total ", positive)
	require.Contains(t, other.frail.output.String(), "a new epoch begins")
	require.Contains(t, other.resident.output.String(), "feed snapshot in force")
}
