package policiestest

import (
	"github.com/usher-authz/usher/policies"
)

// Question is a question about w, about known things more often than not.
func (w World) Question(d Dice) Question {
	doc := pick(d, w.Documents)
	r := pick(d, resources(&doc))
	q := Question{
		SubjectType:  "account",
		Subject:      string(pick(d, w.accounts).ID),
		Action:       string(w.action(d, doc)),
		ResourceType: string(r.Type),
		ResourceID:   r.ID,
	}
	q = q.With(d)
	if !chance(d, 8) {
		return q
	}
	odd := pick(d, append(idPool, "", "no such thing", "ä", "\x00", "__proto__", "a/b", "accounts"))
	switch d.Roll(5) {
	case 0:
		q.SubjectType = odd
	case 1:
		q.Subject = odd
	case 2:
		q.Action = odd
	case 3:
		q.ResourceType = odd
	case 4:
		q.ResourceID = odd
	}
	return q
}

// With is q with what guardrails read, or without.
func (q Question) With(d Dice) Question {
	q.Context = pick(d, []string{
		"", `{}`, `{"ticket":"OPS-1"}`, `{"ticket":"OPS-2","time":"2026-01-01T00:00:00Z"}`, `{"ticket":false}`, `{"Ticket":"x","ticket":null}`,
		`{"ticket":{"№":[[{"":[]}],-0.0,1e400,"\u0000💥"]}}`,
	})
	q.Properties = pick(d, []string{"", "", `{"even":1}`, `{"even":false,"odd":{"even":true}}`})
	return q
}

// action is one that the document's roles give, or any of the catalogue, or one
// that some other owner may know.
func (w World) action(d Dice, doc policies.Document) policies.ActionName {
	switch d.Roll(5) {
	case 0:
		return pick(d, ownActions)
	case 1:
		return pick(d, pick(d, w.Catalogue.Policies).Actions)
	}
	role := pick(d, doc.Roles)
	var of []policies.Policy
	for _, p := range w.Model().policiesOf(&doc, []policies.Role{role}) {
		if len(p.Actions) > 0 {
			of = append(of, p)
		}
	}
	if len(of) == 0 {
		return pick(d, ownActions)
	}
	return pick(d, pick(d, of).Actions)
}
