package bench

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// decision is an answer of the check API.
type decision struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason   policies.Reason     `json:"reason"`
		Level    policies.Level      `json:"level"`
		Roles    []string            `json:"roles"`
		Policies []policies.PolicyID `json:"policies"`
		Owner    policies.AccountID  `json:"owner"`
		Revision policies.Revision   `json:"revision"`
	} `json:"context"`
}

// is tells whether d is want, in everything but the revision.
func (d *decision) is(want *policiestest.Answer) bool {
	c := &d.Context
	return d.Decision == want.Decision && c.Reason == want.Reason && c.Level == want.Level && c.Owner == want.Owner &&
		slices.Equal(c.Roles, want.Roles) && slices.Equal(c.Policies, want.Policies)
}

// checkBody is q as the check API takes it, with a min_revision unless that is 0.
func checkBody(q policiestest.Question, atLeast policies.Revision) (jsontext.Value, error) {
	body := map[string]any{
		"subject":  map[string]string{"type": q.SubjectType, "id": q.Subject},
		"action":   map[string]string{"name": q.Action},
		"resource": map[string]string{"type": q.ResourceType, "id": q.ResourceID},
	}
	if atLeast != 0 {
		body["context"] = map[string]policies.Revision{"min_revision": atLeast}
	}
	return json.Marshal(body, json.Deterministic(true))
}

// rightOne gives a function that tells whether a body is the answer to questions[i].
func rightOne(questions []question) func(i int, body []byte) bool {
	return func(i int, body []byte) bool {
		var d decision
		return json.Unmarshal(body, &d) == nil && d.is(&questions[i].want)
	}
}

// rightBatch is rightOne for the answer to size questions from the i-th batch of them.
func rightBatch(questions []question, size int) func(i int, body []byte) bool {
	return func(i int, body []byte) bool {
		var answer struct {
			Evaluations []decision `json:"evaluations"`
		}
		if json.Unmarshal(body, &answer) != nil || len(answer.Evaluations) != size {
			return false
		}
		for j := range answer.Evaluations {
			d := &answer.Evaluations[j]
			if !d.is(&questions[i*size+j].want) || d.Context.Revision != answer.Evaluations[0].Context.Revision {
				return false
			}
		}
		return true
	}
}

// rightOPA is rightOne for OPA's Data API.
func rightOPA(questions []question) func(i int, body []byte) bool {
	return func(i int, body []byte) bool {
		var answer struct {
			Result decision `json:"result"`
		}
		return json.Unmarshal(body, &answer) == nil && answer.Result.is(&questions[i].want)
	}
}

// blank tells whether the body has a floor's length.
func blank(length int) func(i int, body []byte) bool {
	return func(_ int, body []byte) bool { return len(body) == length }
}

// seen remembers, for each question, the answer that was found right last, up to its
// revision, so that most comparisons cost the client a few bytes.
type seen [][]byte

// split cuts an answer of the check API that ends with its revision before that.
func split(body []byte) (before []byte, ok bool) {
	before, number, ok := bytes.Cut(body, []byte(`"revision":`))
	digits, end := bytes.CutSuffix(number, []byte("}}"))
	return before, ok && end && len(digits) > 0 && len(bytes.Trim(digits, "0123456789")) == 0
}

// matches tells whether body is the i-th remembered answer at some revision.
func (s seen) matches(i int, body []byte) bool {
	before, ok := split(body)
	return ok && s[i] != nil && bytes.Equal(s[i], before)
}

func (s seen) remember(i int, body []byte) {
	if before, ok := split(body); ok {
		s[i] = bytes.Clone(before)
	}
}
