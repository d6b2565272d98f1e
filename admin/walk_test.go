package admin_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// operation is one of /openapi.json.
type operation struct {
	id, method, path string
	scope            policies.Scope
	who              string
	body             bool
	query            []string // required parameters
	stream           bool     // a usual answer has no end
	dryRun           bool
}

func (p *platform) operations() []operation {
	p.t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			ID    string         `json:"operationId"`   //nolint:tagliatelle // OpenAPI's own names
			Scope policies.Scope `json:"x-usher-scope"` //nolint:tagliatelle // OpenAPI's own names
			Who   struct {
				May string `json:"may"`
			} `json:"x-usher-who"` //nolint:tagliatelle // as above
			Security   []map[string][]string `json:"security"`
			Body       *struct{}             `json:"requestBody"` //nolint:tagliatelle // as above
			Parameters []struct {
				Ref      string `json:"$ref"`
				Name     string `json:"name"`
				In       string `json:"in"`
				Required bool   `json:"required"`
			} `json:"parameters"`
			Responses map[string]struct {
				Content map[string]struct{} `json:"content"`
			} `json:"responses"`
		} `json:"paths"`
	}
	require.NoError(p.t, json.Unmarshal(p.do("GET", "/openapi.json", nil, without("Authorization")).want(200).body, &document))
	var all []operation
	for path, methods := range document.Paths {
		for method, o := range methods {
			op := operation{id: o.ID, method: strings.ToUpper(method), path: path, scope: o.Scope, who: o.Who.May, body: o.Body != nil}
			require.Equal(p.t, security(o.Scope, o.Who.May), o.Security, "%s %s", method, path)
			for _, x := range o.Parameters {
				op.dryRun = op.dryRun || strings.HasSuffix(x.Ref, "/DryRun")
				if x.In == "query" && x.Required {
					op.query = append(op.query, x.Name)
				}
			}
			_, op.stream = o.Responses["200"].Content["text/event-stream"]
			for _, status := range []string{"400", "401", "403", "500", "503"} {
				require.Contains(p.t, o.Responses, status, "%s %s", method, path)
			}
			all = append(all, op)
		}
	}
	require.Greater(p.t, len(all), 50)
	return all
}

// open tells whether the operation needs no credentials.
func (o operation) open() bool { return o.who == "link" }

// security is what the document must say of the credentials of an operation.
func security(scope policies.Scope, who string) []map[string][]string {
	token, account := map[string][]string{"serviceToken": {string(scope)}}, map[string][]string{"account": {}}
	switch who {
	case "services", "alone":
		return []map[string][]string{token}
	case "member":
		token["serviceToken"] = append(token["serviceToken"], "act-as")
	}
	if who == "link" {
		return []map[string][]string{token, account, {}}
	}
	return []map[string][]string{token, account}
}

// url fills in a path with what the walk's world has.
func (o operation) url(member string) string {
	return o.urlWith("{member}", member, "{collaboration}", member)
}

// urlWith fills in a path with these, and with what the walk's world has.
func (o operation) urlWith(values ...string) string {
	path := strings.NewReplacer(append(values,
		"{account}", "own", "{group}", "g", "{environment}", "e", "{policy}", view, "{role}", "viewer",
		"{decision}", "d1", "{revision}", "1", "{token}", "none", "{type}", "environment", "{id}", "e",
	)...).Replace(o.path)
	required := map[string]string{"from": "1", "to": "1", "email": "own@example.com", "type": "environment", "id": "e"}
	for i, name := range o.query {
		path += string("?&"[min(i, 1)]) + name + "=" + required[name]
	}
	return path
}

// TestWalk tries every operation of the document as those who may not call it.
func TestWalk(t *testing.T) {
	t.Parallel()
	p, provider := startWithProvider(t)
	for _, id := range []string{"own", "mia", "eve"} {
		p.account(id)
	}
	p.do("PUT", "/v1/accounts/own/groups/g", m{"name": "g"}).want(201)
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	p.do("POST", "/v1/accounts/own/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}).want(201)
	member := p.member("own", "mia", grant("environment", "e", "viewer"))
	before := p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body

	tokens := map[policies.Scope]string{}
	for _, scope := range policies.Scopes {
		others := slices.DeleteFunc(slices.Clone(policies.Scopes), func(s policies.Scope) bool { return s == scope })
		tokens[scope] = "Bearer " + p.newToken(others...)
	}
	newest := p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body
	require.NotEqual(t, string(before), string(newest), "tokens are in the audit")
	bad := badTokens(t, provider)
	for _, o := range p.operations() {
		var body any
		if o.body {
			body = m{}
		}
		url := o.url(member)
		if o.open() { // the link is the credential, and this one opens nothing
			p.do(o.method, url, body, without("Authorization")).want(404)
			continue
		}
		p.do(o.method, url, body, without("Authorization")).want(401)
		p.do(o.method, url, body, with("Authorization", "Bearer ush_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).want(401)
		for name, token := range bad {
			require.Equal(t, "Bearer", p.do(o.method, url, body, with("Authorization", "Bearer "+token)).want(401).header.Get("WWW-Authenticate"), name)
		}
		p.do(o.method, url, body, with("Authorization", tokens[o.scope])).want(403)
		p.do(o.method, url, body, provider.as("mia"), as("own")).want(400)
		if o.id != "accept-collaboration" { // which may register them
			p.do(o.method, url, body, provider.as("nobody")).want(403)
		}
		for _, account := range []string{"eve", "mia", "eve signed in", "mia signed in"} {
			account, itself := strings.CutSuffix(account, " signed in")
			who := as(account)
			if itself {
				who = provider.as(account)
			}
			if o.stream && account == "mia" && o.who == "members" {
				continue // it would listen
			}
			a := p.do(o.method, url, body, who)
			switch {
			case o.who == "alone" && !itself:
				a.want(400)
			case o.who == "anyone", o.who == "member" && !strings.Contains(o.path, "{"), account == "mia" && (o.who == "member" || o.who == "members" && o.method == "GET"):
				require.Less(t, a.status, 500, "%s %s", o.method, url) // its own
			case account == "mia" && o.who == "members": // the body is read first, and this one is often not valid
				require.Contains(t, []int{403, 404, 422}, a.status, "%s %s as %s: %s", o.method, url, account, a.body)
			default:
				require.Contains(t, []int{403, 404}, a.status, "%s %s as %s: %s", o.method, url, account, a.body)
			}
		}
		p.do(o.method, url+string("?&"[min(len(o.query), 1)])+"unknown=1", body).want(400)
		p.do(o.method, url+string("?&"[min(len(o.query), 1)])+"dry_run="+map[bool]string{false: "true", true: "perhaps"}[o.dryRun], body).want(400)
	}
}

// TestOpenList: nothing but api.md's list answers without credentials, and that does.
func TestOpenList(t *testing.T) {
	t.Parallel()
	p, provider := startWithProvider(t)
	p.account("mia")
	for _, path := range []string{"/health", "/ready", "/metrics", "/openapi.json", "/docs", "/.well-known/authzen-configuration"} {
		a := p.do("GET", path, nil, without("Authorization"))
		require.Equal(t, 200, a.status, path)
		require.NotEmpty(t, a.body, path)
	}
	for _, request := range []string{
		"GET /", "GET /v1", "GET /v1/nothing", "POST /v1/accounts/own", "GET //v1/policies", "GET /v1/../health", "GET /v1/policies/",
		"GET /v1/feed", "POST /v1/feed/lookup", "GET /v1/bundles/usher.tar.gz", "GET /v1/bundles/other.tar.gz", "POST /v1/logs", "POST /v1/status",
		"POST /access/v1/evaluation", "POST /access/v1/evaluations", "GET /debug/pprof/", "GET /schemas/Problem.json", "GET /openapi.yaml", "DELETE /docs",
	} {
		method, path, _ := strings.Cut(request, " ")
		p.do(method, path, nil, without("Authorization")).want(401)
		if strings.HasPrefix(path, "/access/") || strings.HasPrefix(path, "/v1/feed") || strings.HasPrefix(path, "/v1/bundles/usher") {
			p.do(method, path, nil, provider.as("mia")).want(401) // for service tokens only
		}
	}
	p.do("GET", "/v1/nothing", nil, provider.as("mia")).want(404)
	p.do("GET", "/v1/nothing", nil).want(404)
	p.do("GET", "/v1/policies/", nil).want(404)
	wrong := p.do("POST", "/v1/accounts/own", m{}).want(405)
	require.Equal(t, []string{"GET", "PUT", "DELETE"}, wrong.header.Values("Allow"))
	require.Equal(t, "abc-1", p.do("GET", "/v1/policies", nil, with("X-Request-ID", "abc-1")).want(200).header.Get("X-Request-ID"))

	page := p.do("GET", "/docs", nil, without("Authorization"))
	require.Contains(t, page.header.Get("Content-Type"), "text/html")
	require.Contains(t, page.header.Get("Content-Security-Policy"), "default-src 'none'")
	for _, outside := range []string{"<script", "http:", "https:", "src=", "@import", "url("} {
		require.NotContains(t, string(page.body), outside)
	}
	for _, o := range p.operations() {
		require.Contains(t, string(page.body), o.path)
	}
	require.Equal(t, http.StatusOK, p.do("HEAD", "/v1/policies", nil).status)
}
