package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// The certification scenario of the AuthZEN Authorization API 1.0 (openid/authzen,
// certification/authorization-api-1_0-scenario.md), its requests as they stand there
// but for the words of the fixture: user is account, record is environment, and its
// actions are those of custom policies. Not carried over are the sub-levels named
// Properties: to usher a caller's properties decide nothing.

// certified is the required fixture.
func certified(t *testing.T) door {
	t.Helper()
	document, err := policies.DecodeDocument([]byte(`{
		"account": {"id": "records", "email": "records@example.com"},
		"environments": [{"id": "record-1", "name": "Record 1"}, {"id": "record-2", "name": "Record 2"}],
		"policies": [{"id": "records.read", "name": "Read", "resources": ["environment"], "actions": ["record.read"]},
		             {"id": "records.write", "name": "Write", "resources": ["environment"], "actions": ["record.write", "record.delete"]}],
		"roles": [{"id": "reader", "name": "Reader", "policies": ["records.read"]},
		          {"id": "editor", "name": "Editor", "policies": ["records.read", "records.write"]}],
		"members": [
			{"account": {"id": "alice", "email": "alice@example.com"}, "grants": [
				{"resource": {"type": "environment", "id": "record-1"}, "roles": ["editor"]},
				{"resource": {"type": "environment", "id": "record-2"}, "roles": ["reader"]}]},
			{"account": {"id": "bob", "email": "bob@example.com"}, "grants": [
				{"resource": {"type": "environment", "id": "record-1"}, "roles": ["reader"]},
				{"resource": {"type": "environment", "id": "record-2"}, "roles": ["editor"]}]}]}`))
	require.NoError(t, err)
	return openState(t, newState(t, document))
}

// translated is a request or an answer of the scenario in the words of the fixture.
var translated = strings.NewReplacer(
	`"type": "user"`, `"type": "account"`, `"type": "record"`, `"type": "environment"`,
	`"name": "read"`, `"name": "record.read"`, `"name": "write"`, `"name": "record.write"`,
).Replace

const (
	aliceReads   = `"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}`
	onRecord     = `"resource": {"type": "record", "id": "record-1"}`
	whileTesting = `"context": {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}`
)

// TestCertificationBasic: Basic Core.
func TestCertificationBasic(t *testing.T) {
	t.Parallel()
	door := certified(t)
	for section, c := range map[string]struct {
		body string
		want bool
	}{
		"2.2.1 rule 1":                {`{` + aliceReads + `,` + onRecord + `}`, true},
		"1.4 rule 2":                  {`{"subject": {"type": "user", "id": "alice"}, "action": {"name": "write"},` + onRecord + `}`, true},
		"1.4 rule 3":                  {`{"subject": {"type": "user", "id": "bob"}, "action": {"name": "read"},` + onRecord + `}`, true},
		"2.2.2 rule 4":                {`{"subject": {"type": "user", "id": "bob"}, "action": {"name": "write"},` + onRecord + `}`, false},
		"2.2.3 context":               {`{` + aliceReads + `,` + onRecord + `,` + whileTesting + `}`, true},
		"2.2.9 unknown fields":        {`{` + aliceReads + `,` + onRecord + `, "foo": "bar", "futureField": {"nested": true}}`, true},
		"2.2.8 additional properties": {`{"subject": {"type": "user", "id": "alice", "properties": {"department": "Sales", "role": "manager"}}, "action": {"name": "read", "properties": {"method": "GET"}}, "resource": {"type": "record", "id": "record-1", "properties": {"status": "active", "owner": "bob"}}}`, true},
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			for range 3 { // 2.6
				got := door.post(t, server.PathEvaluation, translated(c.body), "X-Request-ID", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716")
				require.Equal(t, c.want, got.decision(t).Decision)
				require.Equal(t, "bfe9eb29-ab87-4ca3-be83-a1d5d8305716", got.header.Get("X-Request-ID")) // 2.5.1
			}
		})
	}
	for section, body := range map[string]string{
		"2.4.1 missing subject":         `{"action": {"name": "read"},` + onRecord + `}`,
		"2.4.1 missing action":          `{"subject": {"type": "user", "id": "alice"},` + onRecord + `}`,
		"2.4.1 missing resource":        `{` + aliceReads + `}`,
		"2.4.2 subject without type":    `{"subject": {"id": "alice"}, "action": {"name": "read"},` + onRecord + `}`,
		"2.4.2 subject without id":      `{"subject": {"type": "user"}, "action": {"name": "read"},` + onRecord + `}`,
		"2.4.2 action without name":     `{"subject": {"type": "user", "id": "alice"}, "action": {},` + onRecord + `}`,
		"2.4.2 resource without type":   `{` + aliceReads + `, "resource": {"id": "record-1"}}`,
		"2.4.2 resource without id":     `{` + aliceReads + `, "resource": {"type": "record"}}`,
		"2.4.4 malformed JSON":          `{"subject": `,
		"2.4.5 empty body":              ``,
		"2.4.6 subject is a string":     `{"subject": "alice", "action": {"name": "read"},` + onRecord + `}`,
		"2.4.6 action name is a number": `{"subject": {"type": "user", "id": "alice"}, "action": {"name": 123},` + onRecord + `}`,
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, http.StatusBadRequest, door.post(t, server.PathEvaluation, translated(body)).status)
		})
	}
	// 2.4.3
	require.Equal(t, http.StatusBadRequest, door.post(t, server.PathEvaluation, translated(`{`+aliceReads+`,`+onRecord+`}`), "Content-Type", "text/plain").status)
}

// TestCertificationBatch: Batch Core.
func TestCertificationBatch(t *testing.T) {
	t.Parallel()
	door := certified(t)
	for section, c := range map[string]struct {
		body string
		want []bool
	}{
		"3.2.1 evaluations": {`{` + aliceReads + `, "evaluations": [{` + onRecord + `}, {"resource": {"type": "record", "id": "record-2"}}]}`, []bool{true, true}},
		"3.2.2 fixture decisions in order": {
			`{"subject": {"type": "user", "id": "bob"},` + onRecord + `, "evaluations": [{"action": {"name": "read"}}, {"action": {"name": "write"}}]}`, []bool{true, false},
		},
		"3.2.5 no defaults": {
			`{"evaluations": [{` + aliceReads + `,` + onRecord + `}, {"subject": {"type": "user", "id": "bob"}, "action": {"name": "write"},` + onRecord + `}]}`, []bool{true, false},
		},
		"3.2.6 context inheritance": {
			`{` + aliceReads + `,` + whileTesting + `, "evaluations": [{` + onRecord + `}, {"resource": {"type": "record", "id": "record-2"}, "context": {"time": "2025-06-27T19:00-07:00", "source": "batch-override"}}]}`,
			[]bool{true, true},
		},
		"3.4.1 errors of one evaluation": {
			`{` + aliceReads + `, "options": {"evaluations_semantic": "execute_all"}, "evaluations": [{` + onRecord + `}, {}]}`, []bool{true, false},
		},
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			var got []bool
			for _, d := range door.post(t, server.PathEvaluations, translated(c.body)).decisions(t) {
				got = append(got, d.Decision)
			}
			require.Equal(t, c.want, got)
		})
	}
	for _, more := range []string{``, `, "evaluations": []`} { // 3.4.2, 3.4.3
		require.True(t, door.post(t, server.PathEvaluations, translated(`{`+aliceReads+`,`+onRecord+more+`}`)).decision(t).Decision)
	}
}

// TestCertificationSearch: Search Core.
func TestCertificationSearch(t *testing.T) {
	t.Parallel()
	door := certified(t)
	who := `"subject": {"type": "user"}, "action": {"name": "read"},` + onRecord
	where := aliceReads + `, "resource": {"type": "record"}`
	what := `"subject": {"type": "user", "id": "alice"},` + onRecord
	for section, c := range map[string]struct{ path, body, want string }{
		"4.2.1 subjects":                 {server.PathSubjects, who, `[{"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}, {"type": "user", "id": "records"}]`},
		"4.2.2 subjects with context":    {server.PathSubjects, who + `,` + whileTesting, `[{"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}, {"type": "user", "id": "records"}]`},
		"4.2.3 subject id is ignored":    {server.PathSubjects, aliceReads + `,` + onRecord, `[{"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}, {"type": "user", "id": "records"}]`},
		"4.3.1 resources":                {server.PathResources, where, `[{"type": "record", "id": "record-1"}, {"type": "record", "id": "record-2"}]`},
		"4.3.2 resources with context":   {server.PathResources, where + `,` + whileTesting, `[{"type": "record", "id": "record-1"}, {"type": "record", "id": "record-2"}]`},
		"4.3.3 resource id is ignored":   {server.PathResources, aliceReads + `,` + onRecord, `[{"type": "record", "id": "record-1"}, {"type": "record", "id": "record-2"}]`},
		"4.4.1 actions":                  {server.PathActions, what, `[{"name": "record.delete"}, {"name": "read"}, {"name": "write"}]`},
		"4.4.2 actions with context":     {server.PathActions, what + `,` + whileTesting, `[{"name": "record.delete"}, {"name": "read"}, {"name": "write"}]`},
		"4.6.1 unknown subject":          {server.PathActions, `"subject": {"type": "user", "id": "nonexistent-user"},` + onRecord, `[]`},
		"4.6.1 unknown subject, where":   {server.PathResources, `"subject": {"type": "user", "id": "nonexistent-user"}, "action": {"name": "read"}, "resource": {"type": "record"}`, `[]`},
		"4.6.1 unknown resource":         {server.PathSubjects, `"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "none"}`, `[]`},
		"4.6.2 unknown subject type":     {server.PathSubjects, `"subject": {"type": "spaceship"}, "action": {"name": "read"},` + onRecord, `[]`},
		"4.6.2 unknown resource type":    {server.PathResources, aliceReads + `, "resource": {"type": "spaceship"}`, `[]`},
		"4.6.2 unknown type, of actions": {server.PathActions, `"subject": {"type": "spaceship", "id": "alice"},` + onRecord, `[]`},
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			got := door.post(t, c.path, translated(`{`+c.body+`}`), "X-Request-ID", "x")
			require.Equal(t, http.StatusOK, got.status, "%s", got.body)
			require.Equal(t, "application/json", got.header.Get("Content-Type"))
			require.Equal(t, "x", got.header.Get("X-Request-ID"))
			require.JSONEq(t, `{"context": {"revision": 7}, "results": `+translated(c.want)+`}`, string(got.body))
		})
	}
	for section, c := range map[string]struct{ path, body string }{
		"4.7.1 subjects without an action":        {server.PathSubjects, `{"subject": {"type": "user"},` + onRecord + `}`},
		"4.7.1 resources without a subject":       {server.PathResources, `{"action": {"name": "read"}, "resource": {"type": "record"}}`},
		"4.7.1 actions without a resource":        {server.PathActions, `{"subject": {"type": "user", "id": "alice"}}`},
		"4.7.2 subjects with a resource of no id": {server.PathSubjects, `{"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record"}}`},
		"4.7.2 resources with a subject of no id": {server.PathResources, `{"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record"}}`},
		"4.7.2 actions with a subject of no id":   {server.PathActions, `{"subject": {"type": "user"},` + onRecord + `}`},
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, http.StatusBadRequest, door.post(t, c.path, translated(c.body)).status)
		})
	}
	t.Run("4.5 pages", func(t *testing.T) {
		t.Parallel()
		var ids []string
		page := `"page": {"limit": 1}`
		for range 3 {
			got := door.post(t, server.PathSubjects, translated(`{`+who+`,`+page+`}`)).found(t)
			require.Len(t, got.Results, 1)
			require.NotNil(t, got.Page)
			ids = append(ids, got.Results[0].ID)
			page = `"page": {"token": "` + got.Page.NextToken + `"}`
			if len(ids) == 3 {
				require.Empty(t, got.Page.NextToken)
			}
		}
		require.Equal(t, []string{"alice", "bob", "records"}, ids)
	})
}

// found is a Search API Response, as a client reads it.
type found struct {
	Page *struct {
		NextToken string `json:"next_token"`
		Count     int    `json:"count"`
	} `json:"page"`
	Context struct {
		Revision policies.Revision `json:"revision"`
	} `json:"context"`
	Results []result `json:"results"`
}

type result struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (a answer) found(t require.TestingT) (f found) {
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	require.NoError(t, json.Unmarshal(a.body, &f, json.RejectUnknownMembers(true)))
	if f.Page != nil {
		require.Len(t, f.Results, f.Page.Count)
	}
	return f
}

// TestCertificationDiscovery: Discovery.
func TestCertificationDiscovery(t *testing.T) {
	t.Parallel()
	api := newAPI(t, newEngine(t, newState(t, company(t)), now), nil)
	for url, paths := range map[string][]string{
		"https://pdp.example.com":         {server.PathMetadata},
		"https://pdp.example.com/tenant1": {server.PathMetadata, server.PathMetadata + "/tenant1"},
	} {
		door := open(t, api, server.Listener{Auth: server.AuthNone, PublicURL: url})
		for _, path := range paths {
			got := door.get(t, path)
			require.Equal(t, http.StatusOK, got.status)
			require.Equal(t, "application/json", got.header.Get("Content-Type"))
			require.JSONEq(t, strings.ReplaceAll(`{
				"policy_decision_point": "URL",
				"access_evaluation_endpoint": "URL/access/v1/evaluation", "access_evaluations_endpoint": "URL/access/v1/evaluations",
				"search_subject_endpoint": "URL/access/v1/search/subject", "search_resource_endpoint": "URL/access/v1/search/resource",
				"search_action_endpoint": "URL/access/v1/search/action"}`, "URL", url), string(got.body))
		}
	}
}
