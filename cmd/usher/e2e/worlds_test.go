package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

const (
	defaultWorlds     = 300
	questionsPerWorld = 40
)

// worldsToTry are defaultWorlds, or as many as USHER_TEST_WORLDS says (make soak).
func worldsToTry(t *testing.T) int {
	t.Helper()
	text, ok := os.LookupEnv("USHER_TEST_WORLDS")
	if !ok {
		return defaultWorlds
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "USHER_TEST_WORLDS")
	return n
}

// answerOf is d as the reference model gives it.
func (d decision) answerOf() policiestest.Answer {
	a := policiestest.Answer{
		Decision: d.Decision, Reason: policies.Reason(d.Context.Reason), Level: policies.Level(d.Context.Level),
		Roles: d.Context.Roles, Owner: policies.AccountID(d.Context.Owner), ValidUntil: d.Context.ValidUntil, Guardrail: d.Context.Guardrail,
	}
	for _, id := range d.Context.Policies {
		a.Policies = append(a.Policies, policies.PolicyID(id))
	}
	return a
}

// startOPA runs a stock opa server on the bundle that p serves now.
func startOPA(tb testing.TB, p *platform) string {
	tb.Helper()
	a, err := p.call(http.MethodGet, p.admin+"/v1/bundles/usher.tar.gz", nil, nil)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusOK, a.status, "%s", a.body)
	file := filepath.Join(tb.TempDir(), "usher.tar.gz")
	require.NoError(tb, os.WriteFile(file, a.body, 0o600))
	addr := freePort(tb)
	start(tb, nil, binary(tb, "opa"), "run", "--server", "--addr", addr, "--log-level", "error", "--bundle", file,
		"--verification-key", p.env["USHER_VERIFICATION_KEY_FILE"], "--signing-alg", "ES256")
	eventually(tb, 30*time.Second, "opa is ready", func() error {
		a, err := p.call(http.MethodGet, "http://"+addr+"/health", nil, nil)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	})
	return "http://" + addr
}

// askOPA asks a stock opa for the decision.
func (p *platform) askOPA(base string, request map[string]any) (decision, error) {
	a, err := p.call(http.MethodPost, base+"/v1/data/usher/authz/decision", map[string]any{"input": request}, nil)
	if err != nil {
		return decision{}, err
	}
	var result struct {
		Result decision `json:"result"`
	}
	if err := json.Unmarshal(a.body, &result); err != nil {
		return decision{}, fmt.Errorf("opa: %d %s: %w", a.status, a.body, err)
	}
	return result.Result, nil
}

// TestVectorsAtEveryDoor imports each vector's world over REST and asks its
// questions of the admin, both sidecars, and a stock opa with the bundle.
func TestVectorsAtEveryDoor(t *testing.T) {
	p := startDev(t)
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	for _, vector := range vectors {
		a := p.must(t, http.MethodPost, p.admin+"/v1/import", []any{vector.Import})
		require.Positive(t, a.revision)
		opa := startOPA(t, p)
		for i, check := range vector.Checks {
			want := policiestest.Answer{
				Decision: check.Decision, Reason: check.Reason, Level: check.Level, Roles: check.Roles, Policies: check.Policies,
			}
			ask := question{string(check.Subject), string(check.Action), string(check.Resource.Type), check.Resource.ID}
			for _, door := range []string{p.admin, p.resident, p.onDemand, opa} {
				var d decision
				if door == opa {
					d, err = p.askOPA(opa, ask.request(a.revision))
				} else {
					d, err = p.evaluate(door, ask, a.revision)
				}
				require.NoError(t, err)
				got := d.answerOf()
				got.Owner, got.ValidUntil = "", "" // the vectors say nothing of them
				require.Empty(t, cmp.Diff(want, got), "%s, check %d at %s", vector.Name, i, door)
			}
		}
	}
}

// worldNames keeps worlds apart from each other on one platform: what is unique
// there gets the world's number.
type worldNames int

func (n worldNames) id(id string) string {
	named := fmt.Sprintf("w%d.%s", int(n), id)
	if len(named) > policies.MaxIDLength && len(id) <= policies.MaxIDLength {
		sum := sha256.Sum256([]byte(id))
		named = fmt.Sprintf("w%d.%s", int(n), hex.EncodeToString(sum[:]))
	}
	return named
}

// apply names all that is unique on the platform.
func (n worldNames) apply(doc *policies.Document) {
	doc.Account.ID = policies.AccountID(n.id(string(doc.Account.ID)))
	doc.Account.Email = n.id(doc.Account.Email)
	group := func(id policies.GroupID) policies.GroupID { return policies.GroupID(n.id(string(id))) }
	for i := range doc.Groups {
		g := &doc.Groups[i]
		g.ID = group(g.ID)
		if g.Parent != nil {
			parent := group(*g.Parent)
			g.Parent = &parent
		}
	}
	for i := range doc.Environments {
		e := &doc.Environments[i]
		e.ID = policies.EnvironmentID(n.id(string(e.ID)))
		for j := range e.Groups {
			e.Groups[j] = group(e.Groups[j])
		}
	}
	for i := range doc.Members {
		m := &doc.Members[i]
		if m.Account.ID != nil {
			id := policies.AccountID(n.id(string(*m.Account.ID)))
			m.Account.ID = &id
		}
		m.Account.Email = n.id(m.Account.Email)
		for j := range m.Grants {
			m.Grants[j].Resource.ID = n.id(m.Grants[j].Resource.ID)
		}
	}
}

// requestOf is q with what guardrails read.
func requestOf(q policiestest.Question) map[string]any {
	r := question{q.Subject, q.Action, q.ResourceType, q.ResourceID}.request(0)
	if q.Context != "" {
		r["context"] = jsontext.Value(q.Context)
	}
	if q.Properties != "" {
		r["resource"] = map[string]any{"type": q.ResourceType, "id": q.ResourceID, "properties": jsontext.Value(q.Properties)}
	}
	return r
}

// whoMay is what a door finds for q, whoever asks.
func (p *platform) whoMay(tb testing.TB, door string, q policiestest.Question, minRevision uint64) []string {
	tb.Helper()
	request := requestOf(q)
	request["subject"] = map[string]string{"type": "account"}
	a, err := p.call(http.MethodPost, door+"/access/v1/search/subject", request, map[string]string{"Usher-Min-Revision": strconv.FormatUint(minRevision, 10)})
	require.NoError(tb, err)
	require.Equal(tb, http.StatusOK, a.status, "%s", a.body)
	var found struct {
		Results []struct {
			ID string `json:"id"`
		} `json:"results"`
	}
	require.NoError(tb, json.Unmarshal(a.body, &found))
	ids := []string{}
	for _, r := range found.Results {
		ids = append(ids, r.ID)
	}
	return ids
}

// whoMayBy is what the model finds.
func whoMayBy(m policiestest.Model, q policiestest.Question, now time.Time) []string {
	known := map[string]bool{}
	for _, doc := range m.Documents {
		known[string(doc.Account.ID)] = true
		for _, member := range doc.Members {
			if member.Account.ID != nil {
				known[string(*member.Account.ID)] = true
			}
		}
	}
	ids := []string{}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if q.Subject = id; m.Check(q, now).Decision {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestRandomWorldsAgreeWithTheModel imports random worlds over REST and compares
// every door's answers with the reference model, and every export with what was
// imported. For the second half of the worlds guardrails are in force.
func TestRandomWorldsAgreeWithTheModel(t *testing.T) {
	p := startDev(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	type asked struct {
		question policiestest.Question
		model    policiestest.Model
	}
	var forOPA []asked
	worlds := worldsToTry(t)
	for n := range worlds {
		guarded := n >= worlds/2
		if n == worlds/2 {
			p.must(t, http.MethodPut, p.admin+"/v1/guardrails", map[string]any{
				"files": map[string]string{"test.rego": policiestest.Guardrails()[policies.GuardrailsPath+"test.rego"]},
			})
		}
		dice := policiestest.SeededDice(seed + uint64(n))
		world, err := policiestest.NewWorld(dice, time.Now())
		require.NoError(t, err)
		names := worldNames(n)
		for i := range world.Documents {
			names.apply(&world.Documents[i])
			world.Documents[i] = world.Documents[i].Normalize()
		}
		imports, err := world.Imports(dice)
		require.NoError(t, err)
		var lines bytes.Buffer
		for _, document := range imports {
			require.NoError(t, document.Compact())
			lines.Write(document)
			lines.WriteByte('\n')
		}
		a, err := p.call(http.MethodPost, p.admin+"/v1/import", lines.Bytes(), map[string]string{"Content-Type": "application/x-ndjson"})
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.status, "seed %d, world %d: %s", seed, n, a.body)
		require.NotContains(t, string(a.body), "reason", "seed %d, world %d", seed, n)

		model := world.Model()
		model.Guarded = guarded
		questions := make([]policiestest.Question, questionsPerWorld)
		ask := make([]map[string]any, questionsPerWorld)
		for i := range questions {
			questions[i] = world.Question(dice)
			ask[i] = requestOf(questions[i])
			if questions[i].SubjectType != "account" {
				// The harness asks for accounts; other types are the server's tests.
				questions[i].SubjectType = "account"
			}
		}
		for _, door := range []string{p.admin, p.resident, p.onDemand} {
			before := time.Now()
			answers, err := p.evaluateItems(door, ask, a.revision)
			require.NoError(t, err, "seed %d, world %d, %s", seed, n, door)
			after := time.Now()
			for i, got := range answers {
				requireAgrees(t, model, questions[i], got, before, after, fmt.Sprintf("seed %d, world %d, %s", seed, n, door))
			}
			if q := questions[0]; n%10 == 0 {
				require.Contains(t, [][]string{whoMayBy(model, q, before), whoMayBy(model, q, time.Now())}, p.whoMay(t, door, q, a.revision),
					"seed %d, world %d, %s: %+v", seed, n, door, q)
			}
		}
		for _, doc := range world.Documents {
			exported := p.must(t, http.MethodGet, p.admin+"/v1/accounts/"+string(doc.Account.ID)+"/export", nil)
			got, err := policies.DecodeDocument(exported.body)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(doc, got), "seed %d, world %d: export", seed, n)
		}
		if n%10 == 0 {
			for _, q := range questions {
				forOPA = append(forOPA, asked{q, model})
			}
		}
	}
	opa := startOPA(t, p)
	for _, one := range forOPA {
		q := one.question
		before := time.Now()
		d, err := p.askOPA(opa, requestOf(q))
		require.NoError(t, err)
		one.model.Guarded = true // now they are in force, whenever it was asked
		requireAgrees(t, one.model, q, d, before, time.Now(), fmt.Sprintf("seed %d, stock opa", seed))
	}
}

// requireAgrees holds an answer against the model at both ends of the request:
// a grant may have ended meanwhile.
func requireAgrees(t *testing.T, m policiestest.Model, q policiestest.Question, d decision, before, after time.Time, what string) {
	t.Helper()
	got := d.answerOf()
	diff := ""
	for _, now := range []time.Time{before, after} {
		want := m.Check(q, now)
		want.Observed = nil // no part of the answer
		if len(want.Roles) == 0 {
			want.Roles = nil
		}
		if diff = cmp.Diff(want, got); diff == "" {
			return
		}
	}
	require.Empty(t, diff, "%s: %+v", what, q)
}

// TestDocumentsWithErrors imports good and bad documents together: the good ones
// are in, each bad one wholly out, and the answer tells of all.
func TestDocumentsWithErrors(t *testing.T) {
	p := startDev(t)
	good, err := json.Marshal(document("good", "gil", 1))
	require.NoError(t, err)
	lines := []string{
		string(good),
		`{"account": {"id": "bad one", "email": "nowhere"}, "groups": [{"id": "g", "name": "g", "parent": "missing"}]}`,
		`{"account": {"id": "torn"`,
		strings.Repeat("[", 100_000),
		"{\"account\": {\"id\": \"utf\", \"email\": \"\xff@example.com\"}}",
		`{"account": {"id": "twice", "email": "t@example.com", "email": "u@example.com"}}`,
		`{"account": {"id": "thief", "email": "thief@example.com"}, "environments": [{"id": "good-env-0", "name": "mine"}]}`,
		strings.ReplaceAll(string(good), "good", "later"),
	}
	a, err := p.call(http.MethodPost, p.admin+"/v1/import", strings.Join(lines, "\n"), map[string]string{"Content-Type": "application/x-ndjson"})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	var result struct {
		Imported []string `json:"imported"`
		Errors   []struct {
			Line    int    `json:"line"`
			Account string `json:"account"`
			Errors  []struct {
				Field  string `json:"field"`
				Reason string `json:"reason"`
			} `json:"errors"`
		} `json:"errors"`
	}
	require.NoError(t, json.Unmarshal(a.body, &result), "%s", a.body)
	var bad []int
	for _, e := range result.Errors {
		bad = append(bad, e.Line)
		require.NotEmpty(t, e.Errors, "line %d", e.Line)
	}
	slices.Sort(bad)
	require.Equal(t, []int{2, 3, 4, 5, 6, 7}, bad, "%s", a.body)
	require.Equal(t, []string{"good", "later"}, result.Imported)
	for _, account := range []string{"torn", "utf", "twice", "thief"} {
		a, err := p.call(http.MethodGet, p.admin+"/v1/accounts/"+account, nil, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, a.status, account)
	}
}
