package dev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/usher-authz/usher/cmd/usher/dev/signin"
)

func (d *platform) envPath() string { return filepath.Join(d.o.Dir, "dev.env") }

// variables are those of dev.env (api.md, One binary).
func (d *platform) variables() []variable {
	return []variable{
		{"USHER_ADMIN_URL", d.admin.URL()},
		{"USHER_SIDECAR_URL", d.sidecar.URL()},
		{"USHER_ONDEMAND_SIDECAR_URL", d.onDemand.URL()},
		{"USHER_TOKEN", d.state.Token},
		{"USHER_DATABASE_URL", d.databaseURL()},
		{"USHER_REDIS_URL", redisURL(d.state)},
		{"USHER_REDIS_KEY_FILE", d.keyFile},
		{"USHER_OIDC_ISSUER", d.signIn.URL()},
		{"USHER_OIDC_AUDIENCE", signin.Audience},
		{"USHER_SIGNING_KEY_FILE", d.signing.private},
		{"USHER_VERIFICATION_KEY_FILE", d.signing.public},
	}
}

// welcome is what to try next, ready to paste into another terminal.
func (d *platform) welcome() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("  admin, REST and its documentation   %s/docs", d.admin.URL())
	line("  sidecar, resident                   %s", d.sidecar.URL())
	line("  sidecar, on demand over Redis       %s", d.onDemand.URL())
	line("  sign-in, as any account             %s", d.signIn.URL())
	line("  state and logs                      %s", short(d.o.Dir))
	line("")
	line("Try in another terminal:")
	line("")
	line("  set -a; . %s; set +a", shellQuote(short(d.envPath())))
	if d.state.DemoImported {
		line(`  curl -s "$USHER_SIDECAR_URL/access/v1/evaluation" -H "Authorization: Bearer $USHER_TOKEN" \`)
		line(`    -H 'Content-Type: application/json' -d '{"subject": {"type": "account", "id": "ben"},`)
		line(`      "action": {"name": "environment.control.StartEnv"}, "resource": {"type": "environment", "id": "shop-web-eu"}}'`)
		line("  %s check --explain ben environment.control.StartEnv environment:shop-db-eu", d.o.Command)
		line("  %s export %s", d.o.Command, DemoAccount)
	} else {
		line("  %s import FILE    # account documents, see docs/admin.md", d.o.Command)
	}
	line("")
	line("Ctrl-C stops everything; the next start has its data.")
	return b.String()
}

// short is path relative to the working directory if it is below it.
func short(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}
