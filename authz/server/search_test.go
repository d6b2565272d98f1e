package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
)

// TestSearchPages: whatever the limit, the pages together are the whole, and a token
// is good for the search that it is of and for no other.
func TestSearchPages(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	ask := olga + `,"resource":{"type":"environment","id":"e"}`
	all := door.post(t, server.PathActions, `{`+ask+`}`).found(t)
	require.Nil(t, all.Page, "nobody asked for a page, and all is there")
	require.Greater(t, len(all.Results), 100, "an owner may do everything that is known")
	for _, limit := range []int{1, 7, len(all.Results), 1 << 40} {
		page, next := fmt.Sprintf(`"page":{"limit":%d}`, limit), all
		next.Results = nil
		for {
			got := door.post(t, server.PathActions, `{`+ask+`,`+page+`}`).found(t)
			require.LessOrEqual(t, len(got.Results), limit)
			next.Results = append(next.Results, got.Results...)
			if got.Page.NextToken == "" {
				break
			}
			page = `"page":{"token":"` + got.Page.NextToken + `"}`
		}
		require.Equal(t, all, next)
	}
	none := door.post(t, server.PathActions, `{`+ask+`,"page":{"limit":0}}`).found(t)
	require.Empty(t, none.Results)
	require.NotEmpty(t, none.Page.NextToken, "there is more, and it is not cut silently")

	first := door.post(t, server.PathActions, `{`+ask+`,"page":{"limit":2}}`).found(t)
	token := first.Page.NextToken
	second := door.post(t, server.PathActions, `{`+ask+`,"page":{"token":"`+token+`"}}`)
	require.Equal(t, all.Results[2:4], second.found(t).Results)
	for name, body := range map[string]string{
		"the token alone":    `{"page":{"token":"` + token + `"}}`,
		"with its own limit": `{` + ask + `,"page":{"limit":2,"token":"` + token + `"}}`,
	} {
		require.Equal(t, string(second.body), string(door.post(t, server.PathActions, body).body), name)
	}
	mistyped := []byte(token)
	mistyped[len(mistyped)/2] ^= 1
	for name, c := range map[string]struct{ path, body, where string }{
		"a token that is none":           {server.PathActions, `{` + ask + `,"page":{"token":"x"}}`, "/page/token"},
		"a token that is text":           {server.PathActions, `{` + ask + `,"page":{"token":"` + strings.Repeat("ä", 3000) + `"}}`, "/page/token"},
		"a mistyped token":               {server.PathActions, `{` + ask + `,"page":{"token":"` + string(mistyped) + `"}}`, "/page/token"},
		"half a token":                   {server.PathActions, `{` + ask + `,"page":{"token":"` + token[:len(token)/2] + `"}}`, "/page/token"},
		"another subject":                {server.PathActions, `{` + mia + `,"resource":{"type":"environment","id":"e"},"page":{"token":"` + token + `"}}`, "/page/token"},
		"another resource":               {server.PathActions, `{` + olga + `,"resource":{"type":"environment","id":"f"},"page":{"token":"` + token + `"}}`, "/page/token"},
		"another limit":                  {server.PathActions, `{` + ask + `,"page":{"limit":3,"token":"` + token + `"}}`, "/page/token"},
		"another search":                 {server.PathSubjects, `{` + ask + `,` + start + `,"page":{"token":"` + token + `"}}`, "/page/token"},
		"a token that is a number":       {server.PathActions, `{` + ask + `,"page":{"token":7}}`, "/page/token"},
		"a limit below zero":             {server.PathActions, `{` + ask + `,"page":{"limit":-1}}`, "/page/limit"},
		"half a limit":                   {server.PathActions, `{` + ask + `,"page":{"limit":0.5}}`, "/page/limit"},
		"a limit that is text":           {server.PathActions, `{` + ask + `,"page":{"limit":"1"}}`, "/page/limit"},
		"a page that is none":            {server.PathActions, `{` + ask + `,"page":[]}`, "/page"},
		"properties of the page":         {server.PathActions, `{` + ask + `,"page":{"properties":1}}`, "/page/properties"},
		"a subject that is a string":     {server.PathSubjects, `{"subject":"account",` + start + `,` + onE + `}`, "/subject"},
		"a subject without a type":       {server.PathSubjects, `{"subject":{"id":"x"},` + start + `,` + onE + `}`, "/subject/type"},
		"a resource with bad properties": {server.PathResources, `{` + olga + `,` + start + `,"resource":{"type":"group","properties":0}}`, "/resource/properties"},
		"a context that is none":         {server.PathResources, `{` + olga + `,` + start + `,"resource":{"type":"group"},"context":1}`, "/context"},
		"a key that stands twice":        {server.PathResources, `{` + olga + `,` + olga + `}`, "/subject"},
		"something after it":             {server.PathResources, `{} {}`, ""},
		"no object":                      {server.PathResources, `[]`, ""},
		"an action without a name, ignored, and no resource": {server.PathActions, `{` + olga + `,"action":7}`, "/resource"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := requireProblem(t, http.StatusBadRequest, problem.Malformed, door.post(t, c.path, c.body))
			require.Equal(t, c.where, p.Where)
		})
	}
}

// TestSearchRevision: a search demands a revision as a check does, and its pages are
// of the first one's.
func TestSearchRevision(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, newState(t, company(t)), now)
	door := open(t, newAPI(t, engine, server.StateTokens(engine.State)), server.Listener{})
	ask := mia + `,` + `"action":{"name":"acme.Say"},"resource":{"type":"environment"}`
	requireProblem(t, http.StatusServiceUnavailable, problem.RevisionBehind, door.post(t, server.PathResources, `{`+ask+`,"context":{"min_revision":8}}`))
	requireProblem(t, http.StatusServiceUnavailable, problem.RevisionBehind, door.post(t, server.PathResources, `{`+ask+`}`, "Usher-Min-Revision", "8"))
	require.Equal(t, startRevision, door.post(t, server.PathResources, `{`+ask+`}`).found(t).Context.Revision)

	page := door.post(t, server.PathResources, `{`+ask+`,"page":{"limit":0}}`).found(t)
	again := `{"page":{"token":"` + page.Page.NextToken + `"}}`
	require.Equal(t, startRevision, door.post(t, server.PathResources, again).found(t).Context.Revision)
	p := requireProblem(t, http.StatusBadRequest, problem.Malformed, door.post(t, server.PathResources, again, "Usher-Min-Revision", "8"))
	require.Equal(t, "/page/token", p.Where)
	// Everything is replaced: the token is of a revision that is gone.
	require.NoError(t, engine.Reset(newStateAt(t, startRevision+1, company(t))))
	p = requireProblem(t, http.StatusBadRequest, problem.Malformed, door.post(t, server.PathResources, again))
	require.Contains(t, p.Detail, "no longer kept")
}

// TestSearchWho: searches are for those who may check.
func TestSearchWho(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	for _, path := range []string{server.PathSubjects, server.PathResources, server.PathActions} {
		requireProblem(t, http.StatusUnauthorized, problem.Unauthorized, door.post(t, path, `{}`, "Authorization", ""))
		requireProblem(t, http.StatusForbidden, problem.Forbidden, door.post(t, path, `{}`, "Authorization", "Bearer "+bundlesToken))
		requireProblem(t, http.StatusBadRequest, problem.ActAs, door.post(t, path, `{}`, "Usher-Act-As", "olga"))
		requireProblem(t, http.StatusMethodNotAllowed, problem.Method, door.get(t, path))
	}
}
