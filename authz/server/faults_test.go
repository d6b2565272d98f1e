package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

const (
	subject  = `"subject":{"type":"account","id":"olga"}`
	action   = `"action":{"name":"acme.Say"}`
	resource = `"resource":{"type":"environment","id":"e"}`
	whole    = `{` + subject + `,` + action + `,` + resource + `}`
)

// requireProblem checks an error's status, type and form.
func requireProblem(t *testing.T, status int, kind problem.Type, got answer) problem.Problem {
	t.Helper()
	require.Equal(t, status, got.status, "%s", got.body)
	require.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
	var p problem.Problem
	require.NoError(t, json.Unmarshal(got.body, &p, json.RejectUnknownMembers(true)))
	require.Equal(t, kind, p.Type)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Title)
	require.NotContains(t, string(got.body), "decision")
	return p
}

// TestFaults: what is no evaluation is a 400 that says where, on both endpoints.
func TestFaults(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	with := func(more string) string { return `{` + subject + `,` + action + `,` + resource + `,` + more + `}` }
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, c := range map[string]struct{ body, where string }{
		"empty":                        {"", ""},
		"blank":                        {" \n", ""},
		"not JSON":                     {"{", ""},
		"half":                         {whole[:len(whole)-10], "/resource"},
		"two objects":                  {whole + whole, ""},
		"rubbish after it":             {whole + "x", ""},
		"null":                         {"null", ""},
		"an array":                     {"[" + whole + "]", ""},
		"a string":                     {`"x"`, ""},
		"single quotes":                {`{'subject':1}`, ""},
		"a comment":                    {"/* */" + whole, ""},
		"a trailing comma":             {`{` + subject + `,}`, ""},
		"a byte order mark":            {"\uFEFF" + whole, ""},
		"invalid UTF-8":                {strings.Replace(whole, "olga", "ol\xffga", 1), "/subject/id"},
		"half a surrogate":             {strings.Replace(whole, "olga", `ol\ud800ga`, 1), "/subject/id"},
		"a control character":          {strings.Replace(whole, "olga", "ol\nga", 1), "/subject/id"},
		"no subject":                   {`{` + action + `,` + resource + `}`, "/subject"},
		"no action":                    {`{` + subject + `,` + resource + `}`, "/action"},
		"no resource":                  {`{` + subject + `,` + action + `}`, "/resource"},
		"nothing":                      {`{}`, "/subject"},
		"a null subject":               {strings.Replace(whole, subject, `"subject":null`, 1), "/subject"},
		"a subject that is a string":   {strings.Replace(whole, subject, `"subject":"olga"`, 1), "/subject"},
		"an action that is a string":   {strings.Replace(whole, action, `"action":"acme.Say"`, 1), "/action"},
		"a resource that is an array":  {strings.Replace(whole, resource, `"resource":[]`, 1), "/resource"},
		"no subject type":              {strings.Replace(whole, `"type":"account",`, ``, 1), "/subject/type"},
		"no subject id":                {strings.Replace(whole, `,"id":"olga"`, ``, 1), "/subject/id"},
		"no action name":               {strings.Replace(whole, action, `"action":{}`, 1), "/action/name"},
		"no resource type":             {strings.Replace(whole, `"type":"environment",`, ``, 1), "/resource/type"},
		"no resource id":               {strings.Replace(whole, `,"id":"e"`, ``, 1), "/resource/id"},
		"a null id":                    {strings.Replace(whole, `"olga"`, `null`, 1), "/subject/id"},
		"an id that is a number":       {strings.Replace(whole, `"olga"`, `7`, 1), "/subject/id"},
		"a name that is a number":      {strings.Replace(whole, `"acme.Say"`, `123`, 1), "/action/name"},
		"a type that is an object":     {strings.Replace(whole, `"environment"`, `{}`, 1), "/resource/type"},
		"names in another case":        {strings.ToUpper(subject[:2]) + whole, ""},
		"Subject for subject":          {strings.Replace(whole, `"subject"`, `"Subject"`, 1), "/subject"},
		"a duplicate key":              {with(subject), "/subject"},
		"a duplicate key, escaped":     {with(`"\u0073ubject":{"type":"account","id":"mia"}`), "/subject"},
		"a duplicate key below":        {strings.Replace(whole, `"id":"olga"`, `"id":"olga","id":"mia"`, 1), "/subject/id"},
		"a duplicate unknown key":      {with(`"x":1,"x":2`), "/x"},
		"a duplicate key in unknown":   {with(`"x":{"y":1,"y":2}`), "/x/y"},
		"properties that are a string": {strings.Replace(whole, `"id":"olga"`, `"id":"olga","properties":"all"`, 1), "/subject/properties"},
		"null properties":              {strings.Replace(whole, `"name":`, `"properties":null,"name":`, 1), "/action/properties"},
		"a null context":               {with(`"context":null`), "/context"},
		"a context that is a string":   {with(`"context":"none"`), "/context"},
		"explain that is a string":     {with(`"context":{"explain":"true"}`), "/context/explain"},
		"a null explain":               {with(`"context":{"explain":null}`), "/context/explain"},
		"a revision that is a string":  {with(`"context":{"min_revision":"7"}`), "/context/min_revision"},
		"a null revision":              {with(`"context":{"min_revision":null}`), "/context/min_revision"},
		"a revision below zero":        {with(`"context":{"min_revision":-1}`), "/context/min_revision"},
		"a revision between two":       {with(`"context":{"min_revision":6.5}`), "/context/min_revision"},
		"a revision over 53 bits":      {with(`"context":{"min_revision":9007199254740992}`), "/context/min_revision"},
		"a revision without end":       {with(`"context":{"min_revision":1e999999999}`), "/context/min_revision"},
		"nested too deep":              {with(`"context":{"x":` + deep + `}`), "?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{server.PathEvaluation, server.PathEvaluations} {
				p := requireProblem(t, http.StatusBadRequest, problem.Malformed, door.post(t, path, c.body))
				if c.where != "?" {
					require.Equal(t, c.where, p.Where)
				}
				require.NotEmpty(t, p.Detail)
				require.Less(t, len(p.Where), 300, "an answer repeats little of the request")
			}
		})
	}
}

// TestNoFaults: what usher does not know is ignored, and what it could never have
// is unknown.
func TestNoFaults(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	with := func(more string) string { return `{` + subject + `,` + action + `,` + resource + `,` + more + `}` }
	for name, c := range map[string]struct {
		body   string
		reason policies.Reason
	}{
		"as it should be":           {whole, policies.ReasonOwner},
		"white space":               {" \r\n\t" + whole + "\n", policies.ReasonOwner},
		"unknown fields":            {with(`"foo":"bar","futureField":{"nested":[true,null,1e400]}`), policies.ReasonOwner},
		"known names in other case": {with(`"Subject":{"type":"account","id":"mia"},"ACTION":null`), policies.ReasonOwner},
		"batch's names":             {with(`"Evaluations":1,"Options":2`), policies.ReasonOwner},
		"an empty context":          {with(`"context":{}`), policies.ReasonOwner},
		"a context of others":       {with(`"context":{"time":"1999-01-01","Min_Revision":"x","EXPLAIN":1}`), policies.ReasonOwner},
		"properties":                {strings.Replace(whole, `"id":"olga"`, `"id":"olga","properties":{"id":"mia","a":[null]}`, 1), policies.ReasonOwner},
		"escapes":                   {strings.Replace(whole, `"subject"`, `"\u0073ubject"`, 1), policies.ReasonOwner},
		"an escaped id":             {strings.Replace(whole, `olga`, `ol\u0067a`, 1), policies.ReasonOwner},
		"the present revision":      {with(`"context":{"min_revision":7}`), policies.ReasonOwner},
		"the same, written so":      {with(`"context":{"min_revision":0.70e1}`), policies.ReasonOwner},
		"no revision":               {with(`"context":{"min_revision":-0}`), policies.ReasonOwner},
		"an id of nothing":          {strings.Replace(whole, `olga`, ``, 1), policies.ReasonUnknownSubject},
		"another type of subject":   {strings.Replace(whole, `"account"`, `"user"`, 1), policies.ReasonUnknownSubject},
		"an id in other case":       {strings.Replace(whole, `olga`, `Olga`, 1), policies.ReasonUnknownSubject},
		"an id with a NUL":          {strings.Replace(whole, `olga`, `olga\u0000`, 1), policies.ReasonUnknownSubject},
		"an id like a path":         {strings.Replace(whole, `"e"`, `"../e"`, 1), policies.ReasonUnknownResource},
		"a type in other case":      {strings.Replace(whole, `"environment"`, `"Environment"`, 1), policies.ReasonUnknownResource},
		"an action in other case":   {strings.Replace(whole, `acme.Say`, `acme.say`, 1), policies.ReasonUnknownAction},
		"a huge id":                 {strings.Replace(whole, `acme.Say`, strings.Repeat("a", 500_000), 1), policies.ReasonUnknownAction},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.reason, door.post(t, server.PathEvaluation, c.body).decision(t).Context.Reason)
			require.Equal(t, c.reason, door.post(t, server.PathEvaluations, c.body).decision(t).Context.Reason)
		})
	}
	// In a single evaluation evaluations and options mean nothing.
	require.True(t, door.post(t, server.PathEvaluation, with(`"evaluations":1,"options":2`)).decision(t).Decision)
}

// TestHeaders: what the headers may make of a request.
func TestHeaders(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	for name, c := range map[string]struct {
		header, value string
		status        int
		kind          problem.Type
	}{
		"JSON with a parameter":      {"Content-Type", "application/json; charset=utf-8", 200, ""},
		"JSON in capitals":           {"Content-Type", "Application/JSON", 200, ""},
		"no content type":            {"Content-Type", "", 400, problem.Malformed},
		"text":                       {"Content-Type", "text/plain", 400, problem.Malformed},
		"another JSON":               {"Content-Type", "application/problem+json", 400, problem.Malformed},
		"a form":                     {"Content-Type", "application/x-www-form-urlencoded", 400, problem.Malformed},
		"rubbish":                    {"Content-Type", "application/json;;=", 400, problem.Malformed},
		"compressed":                 {"Content-Encoding", "gzip", 400, problem.Malformed},
		"acting as somebody":         {"Usher-Act-As", "olga", 400, problem.ActAs},
		"a revision that is there":   {"Usher-Min-Revision", "7", 200, ""},
		"a revision that is not":     {"Usher-Min-Revision", "8", 503, problem.RevisionBehind},
		"a revision that is none":    {"Usher-Min-Revision", "seven", 400, problem.Malformed},
		"a revision below zero":      {"Usher-Min-Revision", "-1", 400, problem.Malformed},
		"a revision over 53 bits":    {"Usher-Min-Revision", "9007199254740992", 400, problem.Malformed},
		"no token":                   {"Authorization", "", 401, problem.Unauthorized},
		"another scheme":             {"Authorization", "Basic dXNlcjpwYXNz", 401, problem.Unauthorized},
		"the scheme in capitals":     {"Authorization", "BEARER " + checksToken, 200, ""},
		"the scheme alone":           {"Authorization", "Bearer", 401, problem.Unauthorized},
		"the token alone":            {"Authorization", checksToken, 401, problem.Unauthorized},
		"a JWT":                      {"Authorization", "Bearer eyJhbGciOiJub25lIn0.e30.", 401, problem.Unauthorized},
		"an unknown token":           {"Authorization", "Bearer " + strangerToken, 401, problem.Unauthorized},
		"a token that has ended":     {"Authorization", "Bearer " + endedToken, 401, problem.Unauthorized},
		"half a token":               {"Authorization", "Bearer " + checksToken[:20], 401, problem.Unauthorized},
		"the hash of a token":        {"Authorization", "Bearer " + policies.HashToken(checksToken), 401, problem.Unauthorized},
		"a token of another scope":   {"Authorization", "Bearer " + bundlesToken, 403, problem.Forbidden},
		"no token, and a bad type":   {"Authorization", "", 401, problem.Unauthorized},
		"a request id of any length": {"X-Request-ID", strings.Repeat("i", 1000), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{server.PathEvaluation, server.PathEvaluations} {
				id := "id-" + name
				headers := []string{"X-Request-ID", id, c.header, c.value}
				if c.header == "X-Request-ID" {
					id = c.value
				}
				got := door.post(t, path, whole, headers...)
				require.Equal(t, []string{id}, got.header.Values("X-Request-ID"))
				if c.status == http.StatusOK {
					require.True(t, got.decision(t).Decision)
					continue
				}
				requireProblem(t, c.status, c.kind, got)
				if c.status == http.StatusUnauthorized {
					require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
					require.NotContains(t, string(got.body), checksToken)
				}
				if c.status == http.StatusServiceUnavailable {
					require.Equal(t, "1", got.header.Get("Retry-After"))
				}
			}
		})
	}
	// Without one, none comes back.
	require.Empty(t, door.post(t, server.PathEvaluation, whole).header.Values("X-Request-ID"))
}

// TestTooLarge: bodies and batches have a limit, however they are sent.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	padded := `{"x":"` + strings.Repeat("x", policies.MaxBodyBytes) + `",` + whole[1:]
	requireProblem(t, http.StatusRequestEntityTooLarge, problem.TooLarge, door.post(t, server.PathEvaluation, padded))

	// Chunked, so that the length is not told beforehand.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door.url+server.PathEvaluation, struct{ *strings.Reader }{strings.NewReader(padded)})
	require.NoError(t, err)
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+checksToken)
	requireProblem(t, http.StatusRequestEntityTooLarge, problem.TooLarge, door.send(t, r))

	items := strings.Repeat("{},", policies.MaxBatchSize)
	full := whole[:len(whole)-1] + `,"evaluations":[` + items[:len(items)-1] + `]}`
	require.Len(t, door.post(t, server.PathEvaluations, full).decisions(t), policies.MaxBatchSize)
	over := whole[:len(whole)-1] + `,"evaluations":[` + items + `{}]}`
	requireProblem(t, http.StatusRequestEntityTooLarge, problem.TooLarge, door.post(t, server.PathEvaluations, over))
}

// TestNotReady: before the first state there is no answer, and no token is known.
func TestNotReady(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, nil, now)
	api := newAPI(t, engine, server.StateTokens(engine.State))
	for _, auth := range []server.Auth{server.AuthToken, server.AuthNone} {
		got := open(t, api, server.Listener{Auth: auth}).post(t, server.PathEvaluation, whole)
		requireProblem(t, http.StatusServiceUnavailable, problem.Unavailable, got)
		require.Equal(t, "1", got.header.Get("Retry-After"))
	}
}

// TestMethods: other methods are told which there is, with the request's id.
func TestMethods(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	for path, allowed := range map[string]string{
		server.PathEvaluation: "POST", server.PathEvaluations: "POST", server.PathMetadata: "GET, HEAD",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			if strings.HasPrefix(allowed, method) {
				continue
			}
			r, err := http.NewRequestWithContext(t.Context(), method, door.url+path, http.NoBody)
			require.NoError(t, err)
			r.Header.Set("X-Request-ID", "me")
			got := door.send(t, r)
			requireProblem(t, http.StatusMethodNotAllowed, problem.Method, got)
			require.Equal(t, allowed, got.header.Get("Allow"))
			require.Equal(t, "me", got.header.Get("X-Request-ID"))
		}
	}
}

// TestMetadata: AuthZEN's metadata names the endpoints that there are.
func TestMetadata(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, newState(t, company(t)), now)
	api := newAPI(t, engine, server.StateTokens(engine.State))
	own := open(t, api, server.Listener{})
	public := open(t, api, server.Listener{PublicURL: "https://pdp.example.com/"})
	for base, door := range map[string]door{own.url: own, "https://pdp.example.com": public} {
		got := door.get(t, server.PathMetadata)
		require.Equal(t, http.StatusOK, got.status)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		require.Contains(t, string(got.body), fmt.Sprintf(`"policy_decision_point":%q`, base))
		require.Contains(t, string(got.body), fmt.Sprintf(`"access_evaluation_endpoint":%q`, base+"/access/v1/evaluation"))
	}
	require.Equal(t, http.StatusOK, own.post(t, strings.TrimPrefix(own.url+server.PathEvaluation, own.url), whole).status)
}

// TestListenerOptions: what a listener may not be.
func TestListenerOptions(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, nil, now)
	api := newAPI(t, engine, nil)
	for want, l := range map[string]server.Listener{
		"nobody to know them":               {},
		"neither token nor none":            {Auth: "basic"},
		"must be https, except on loopback": {Auth: server.AuthNone, PublicURL: "http://pdp.example.com"},
		"is not https://":                   {Auth: server.AuthNone, PublicURL: "https://pdp.example.com?x=1"},
		"does not parse":                    {Auth: server.AuthNone, PublicURL: "https://[::1"},
	} {
		require.ErrorContains(t, api.Mount(http.NewServeMux(), l), want)
	}
	for _, url := range []string{"http://localhost:1", "http://127.0.0.1", "http://[::1]:8181/x"} {
		require.NoError(t, api.Mount(http.NewServeMux(), server.Listener{Auth: server.AuthNone, PublicURL: url}))
	}
	_, err := server.New(server.Options{})
	require.ErrorContains(t, err, "needs a Decider")
}
