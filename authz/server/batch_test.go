package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

const (
	olga    = `"subject":{"type":"account","id":"olga"}`
	mia     = `"subject":{"type":"account","id":"mia"}`
	start   = `"action":{"name":"environment.control.StartEnv"}`
	onE     = `"resource":{"type":"environment","id":"e"}`
	onF     = `"resource":{"type":"environment","id":"f"}`
	owns    = string(policies.ReasonOwner)
	granted = string(policies.ReasonGranted)
	denied  = string(policies.ReasonActionNotGranted)
	hidden  = string(policies.ReasonNotShared)
	faulty  = string(policies.ReasonInvalidRequest)
)

func reasonsOf(decisions []decision) (reasons []string) {
	for _, d := range decisions {
		reasons = append(reasons, string(d.Context.Reason))
	}
	return reasons
}

// TestBatch: defaults, overrides, faulty items and semantics.
func TestBatch(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	say := `"action":{"name":"acme.Say"}`
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"nothing by default":   {`{"evaluations":[{` + olga + `,` + start + `,` + onE + `}]}`, []string{owns}},
		"all by default":       {`{` + mia + `,` + say + `,` + onE + `,"evaluations":[{},{}]}`, []string{granted, granted}},
		"an entity by default": {`{` + mia + `,` + say + `,"evaluations":[{` + onE + `},{` + onF + `}]}`, []string{granted, hidden}},
		"defaults that come late": {
			`{"evaluations":[{` + onE + `},{` + onF + `,` + olga + `}],` + mia + `,` + say + `}`, []string{granted, owns},
		},
		"no merging below an entity": {
			`{` + mia + `,` + say + `,` + onE + `,"evaluations":[{"subject":{"id":"olga"}},{"subject":{"type":"account"}},{}]}`,
			[]string{faulty, faulty, granted},
		},
		"items that are none": {
			`{` + mia + `,` + say + `,` + onE + `,"evaluations":[null,7,"x",[],{}]}`, []string{faulty, faulty, faulty, faulty, granted},
		},
		"items with faults": {
			`{` + mia + `,` + say + `,` + onE + `,"evaluations":[{"subject":null},{"action":{"name":1}},{"resource":"e"},{"context":null},` +
				`{"context":{"explain":1}},{"context":{"min_revision":-1}},{"subject":{"type":"account","id":"mia","properties":7}},{}]}`,
			[]string{faulty, faulty, faulty, faulty, faulty, faulty, faulty, granted},
		},
		"items that lack what has no default": {`{` + mia + `,` + say + `,"evaluations":[{},{` + onE + `}]}`, []string{faulty, granted}},
		"faulty items only":                   {`{"evaluations":[{},{}]}`, []string{faulty, faulty}},
		"unknown fields": {
			`{` + mia + `,` + say + `,` + onE + `,"x":1,"options":{"other":1},"evaluations":[{"x":{},"Action":null}]}`, []string{granted},
		},
		"execute_all": {
			`{` + mia + `,` + say + `,"options":{"evaluations_semantic":"execute_all"},"evaluations":[{` + onF + `},{` + onE + `}]}`,
			[]string{hidden, granted},
		},
		"deny_on_first_deny": {
			`{` + mia + `,` + say + `,"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[{` + onE + `},{` + onF + `},{` + onE + `}]}`,
			[]string{granted, hidden},
		},
		"deny_on_first_deny, a fault is a denial": {
			`{` + mia + `,` + say + `,"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[{` + onE + `},{},{` + onE + `}]}`,
			[]string{granted, faulty},
		},
		"deny_on_first_deny, no denial": {
			`{` + mia + `,` + say + `,"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[{` + onE + `},{` + onE + `}]}`,
			[]string{granted, granted},
		},
		"permit_on_first_permit": {
			`{` + mia + `,` + say + `,"options":{"evaluations_semantic":"permit_on_first_permit"},"evaluations":[{` + onF + `},{` + onE + `},{` + onE + `}]}`,
			[]string{hidden, granted},
		},
		"permit_on_first_permit, no permit": {
			`{` + mia + `,` + start + `,"options":{"evaluations_semantic":"permit_on_first_permit"},"evaluations":[{` + onF + `},{},{` + onE + `}]}`,
			[]string{hidden, faulty, denied},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := door.post(t, server.PathEvaluations, c.body).decisions(t)
			require.Equal(t, c.want, reasonsOf(got))
			for _, d := range got {
				require.Equal(t, startRevision, d.Context.Revision)
				require.Equal(t, d.Context.Reason == policies.ReasonOwner || d.Context.Reason == policies.ReasonGranted, d.Decision)
			}
		})
	}
	// A faulty item says no more than data.usher.authz.decision does.
	got := door.post(t, server.PathEvaluations, `{"evaluations":[{}]}`)
	require.JSONEq(t, `{"evaluations":[{"decision":false,"context":{"reason":"invalid_request","revision":7}}]}`, string(got.body))
}

// TestBatchOfNone: without items it is a single evaluation.
func TestBatchOfNone(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	for _, more := range []string{``, `,"evaluations":[]`, `,"options":{"evaluations_semantic":"deny_on_first_deny"}`} {
		require.True(t, door.post(t, server.PathEvaluations, `{`+olga+`,`+start+`,`+onE+more+`}`).decision(t).Decision)
		requireProblem(t, http.StatusBadRequest, problem.Malformed, door.post(t, server.PathEvaluations, `{`+olga+`,`+onE+more+`}`))
	}
}

// TestBatchFaults: what is wrong at the top level is wrong for all.
func TestBatchFaults(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	item := `{` + olga + `,` + start + `,` + onE + `}`
	for name, c := range map[string]struct{ more, where string }{
		"null evaluations":                  {`"evaluations":null`, "/evaluations"},
		"evaluations that are an object":    {`"evaluations":{}`, "/evaluations"},
		"null options":                      {`"options":null`, "/options"},
		"options that are an array":         {`"options":[]`, "/options"},
		"a null semantic":                   {`"options":{"evaluations_semantic":null}`, "/options/evaluations_semantic"},
		"a semantic that is none":           {`"options":{"evaluations_semantic":"Execute_All"}`, "/options/evaluations_semantic"},
		"a default that nobody needs":       {`"subject":{"type":"account"}`, "/subject/id"},
		"a null default":                    {`"action":null`, "/action"},
		"a default context that is none":    {`"context":[]`, "/context"},
		"a default revision that is none":   {`"context":{"min_revision":"1"}`, "/context/min_revision"},
		"a duplicate key":                   {`"x":1,"x":1`, "/x"},
		"a duplicate key in an item":        {`"evaluations":[` + item + `,{"action":{},"action":{}}]`, "/evaluations/1/action"},
		"an item that is not even JSON":     {`"evaluations":[{"subject":}]`, "/evaluations/0/subject"},
		"an item with half of a surrogate":  {`"evaluations":[{"subject":{"id":"\ud800"}}]`, "/evaluations/0/subject/id"},
		"properties of a default, a number": {`"resource":{"type":"group","id":"g","properties":1}`, "/resource/properties"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{` + c.more + `,"evaluations":[` + item + `]}`
			if strings.HasPrefix(c.more, `"evaluations"`) {
				body = `{` + c.more + `}`
			}
			p := requireProblem(t, http.StatusBadRequest, problem.Malformed, door.post(t, server.PathEvaluations, body))
			require.Equal(t, c.where, p.Where)
		})
	}
}

// TestBatchContext: an item's context replaces the batch's, but for the revision,
// of which the greatest counts.
func TestBatchContext(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	body := `{` + mia + `,` + start + `,` + onE + `,"context":{"explain":true},"evaluations":[{},{"context":{}},{"context":{"explain":false}},{"context":{"explain":true}}]}`
	got := door.post(t, server.PathEvaluations, body).decisions(t)
	for i, explained := range []bool{true, false, false, true} {
		require.Equal(t, explained, got[i].Context.Levels != nil, "item %d", i)
	}
	for header, revisions := range map[string][3]int{
		"7": {7, 7, 7}, "8": {1, 2, 3}, "1": {8, 2, 3}, "2": {1, 8, 3}, "3": {1, 2, 8},
	} {
		body := fmt.Sprintf(`{%s,%s,%s,"context":{"min_revision":%d},"evaluations":[{"context":{"min_revision":%d}},{"context":{"min_revision":%d}}]}`,
			mia, start, onE, revisions[0], revisions[1], revisions[2])
		got := door.post(t, server.PathEvaluations, body, "Usher-Min-Revision", header)
		if header == "7" {
			require.Equal(t, []string{denied, denied}, reasonsOf(got.decisions(t)))
			continue
		}
		requireProblem(t, http.StatusServiceUnavailable, problem.RevisionBehind, got)
	}
}
