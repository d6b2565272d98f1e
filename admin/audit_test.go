package admin_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// The audit is read page by page as its lines are taken: what changes while they wait
// is among them.
func TestAuditLinesAreReadAsTheyAreTaken(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.importMany(t, 7_000)
	_, lines := p.slowly(t, "/v1/accounts/own/audit", "application/x-ndjson", "{")
	p.do("PUT", "/v1/accounts/own/environments/late", m{"name": "late"}).want(201)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	all := strings.Split(strings.TrimSuffix(string(rest), "\n"), "\n")
	require.Greater(t, len(all), 7_000)
	require.Contains(t, all[len(all)-1], `"late"`)
}

// The whole audit at once, longer than any page, is what the pages have.
func TestAuditLines(t *testing.T) {
	t.Parallel()
	p := start(t)
	environments := make([]m, 1200)
	for i := range environments {
		environments[i] = m{"id": fmt.Sprintf("e%d", i), "name": "e"}
	}
	p.do("POST", "/v1/import", m{"account": m{"id": "own", "email": "own@example.com"}, "environments": environments}).want(200)
	p.account("mia")

	lines := func(path string, options ...option) []map[string]any {
		a := p.do("GET", path, nil, append(options, with("Accept", "application/x-ndjson"))...)
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Equal(t, "application/x-ndjson", a.header.Get("Content-Type"))
		var all []map[string]any
		for line := range bytes.Lines(a.body) {
			var item map[string]any
			require.NoError(t, json.Unmarshal(line, &item))
			all = append(all, item)
		}
		return all
	}
	for _, path := range []string{"/v1/audit?order=asc", "/v1/accounts/own/audit?order=desc", "/v1/audit?action=account.put", "/v1/accounts/own/audit?kind=group"} {
		var paged []map[string]any
		for cursor := ""; ; {
			page := p.do("GET", path+"&limit=1000"+cursor, nil).want(200)
			items, ok := page.get("items").([]any)
			require.True(t, ok)
			for _, item := range items {
				paged = append(paged, item.(map[string]any))
			}
			if page.get("next_cursor") == nil {
				break
			}
			cursor = "&cursor=" + page.text("next_cursor")
		}
		require.Equal(t, paged, lines(path), path)
	}
	all := lines("/v1/accounts/own/audit", as("own"))
	require.Len(t, all, 1201)
	require.Equal(t, "test", all[0]["actor"].(map[string]any)["token_name"])
	p.do("GET", "/v1/audit?limit=5", nil, with("Accept", "application/x-ndjson")).want(400)
	p.do("GET", "/v1/audit?since=x", nil, with("Accept", "application/x-ndjson")).want(400)
	p.do("GET", "/v1/audit", nil, with("Accept", "application/x-ndjson"), as("own")).want(403)
	p.do("GET", "/v1/accounts/own/audit", nil, with("Accept", "application/x-ndjson"), as("mia")).want(404)
}
