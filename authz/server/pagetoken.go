package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// pageToken is what a page's token says: the search, the limit, and the place where
// the page before ended. It holds no secret and gives no right: whoever makes one up
// gets what a search for it would find. The sum tells one that was cut or mistyped,
// and nothing else; so any sidecar that is at the revision takes it.
type pageToken struct {
	Sought       authz.Sought      `json:"k"`
	SubjectType  string            `json:"st,omitempty"`
	Subject      string            `json:"s,omitempty"`
	Action       string            `json:"a,omitempty"`
	ResourceType string            `json:"rt,omitempty"`
	Resource     string            `json:"r,omitempty"`
	Limit        int               `json:"l"`
	Revision     policies.Revision `json:"v"`
	After        string            `json:"p,omitempty"`
	Came         *came             `json:"c,omitzero"` // nil: no guardrail reads it
}

// came is what came with a search that guardrails read: the next page must come with
// the same.
type came struct {
	Context  jsontext.Value `json:"c,omitzero"`
	Subject  jsontext.Value `json:"s,omitzero"` // properties
	Action   jsontext.Value `json:"a,omitzero"`
	Resource jsontext.Value `json:"r,omitzero"`
	// Sum stands in their place where they are too long for a token.
	Sum []byte `json:"h,omitzero"`
}

func (s *searchRequest) came() *came {
	return &came{Context: s.context.raw, Subject: s.subject.properties, Action: s.action.properties, Resource: s.resource.properties}
}

// sum tells two apart that are not the same.
func (c *came) sum() []byte {
	text, err := json.Marshal(c) // compact
	if err != nil {
		return nil // it was read as JSON
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// sumBytes is how much of the sum a token carries.
const sumBytes = 8

// token names the page after found; empty: there is no more.
func (s *searchRequest) token(found *authz.Found) string {
	if found.Next == nil {
		return ""
	}
	t := pageToken{
		Sought: s.sought, SubjectType: s.subject.kind, Subject: s.subject.id, Action: s.action.id,
		ResourceType: s.resource.kind, Resource: s.resource.id,
		Limit: s.limit, Revision: found.Next.Revision, After: found.Next.After,
	}
	if found.Guarded {
		t.Came = s.came()
	}
	text := t.text()
	if len(text) > policies.MaxPageTokenLength && found.Guarded {
		t.Came = &came{Sum: t.Came.sum()}
		text = t.text()
	}
	return text
}

// text is t as it is given out.
func (t *pageToken) text() string {
	body, err := json.Marshal(t)
	if err != nil {
		// Only text that is not UTF-8 is no JSON, and of such nothing is ever found.
		return ""
	}
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(append(sum[:sumBytes], body...))
}

func parsePageToken(text string) (pageToken, bool) {
	var t pageToken
	if len(text) > policies.MaxPageTokenLength {
		return t, false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(data) < sumBytes {
		return t, false
	}
	sum := sha256.Sum256(data[sumBytes:])
	if !bytes.Equal(sum[:sumBytes], data[:sumBytes]) || json.Unmarshal(data[sumBytes:], &t, json.RejectUnknownMembers(true)) != nil {
		return t, false
	}
	return t, t.Limit >= 0 && t.Limit <= policies.MaxSearchResults && t.Revision <= policies.MaxRevision
}

// continueAt makes s the next page of the search that the token is of. What s says
// beside the token must be the same; what it does not say, the token does.
func (s *searchRequest) continueAt(text string) {
	t, ok := parsePageToken(text)
	if !ok {
		s.fault = &policies.MalformedError{Where: "/page/token", Reason: "is none that a search here gave out"}
		return
	}
	if t.Sought != s.sought {
		s.fault = &policies.MalformedError{Where: "/page/token", Reason: "is of a search for something else"}
		return
	}
	same := func(have *entity, kind, id, where string) {
		if have.given && (have.kind != kind || have.id != id) {
			s.otherSearch(where)
		}
		have.given, have.kind, have.id = true, kind, id
	}
	if t.Came != nil {
		s.cameWith(t.Came)
	}
	same(&s.subject, t.SubjectType, t.Subject, "subject")
	if s.sought != authz.SoughtActions {
		same(&s.action, "", t.Action, "action")
	}
	same(&s.resource, t.ResourceType, t.Resource, "resource")
	if s.given && s.limit != t.Limit {
		s.otherSearch("limit")
	}
	s.limit, s.from = t.Limit, &authz.Place{Revision: t.Revision, After: t.After}
}

// otherSearch refuses a token that is of a search with another of what s names.
func (s *searchRequest) otherSearch(what string) {
	if s.fault == nil {
		s.fault = &policies.MalformedError{Where: "/page/token", Reason: "is of a search with another " + what}
	}
}

// cameWith holds what came with s against what came with the pages before it, or takes
// it from there: a part that is not given is the token's.
func (s *searchRequest) cameWith(t *came) {
	if t.Sum != nil {
		if !bytes.Equal(s.came().sum(), t.Sum) {
			s.otherSearch("context or properties: they are long, and so no part of the token: send them with every page")
		}
		return
	}
	same := func(given bool, have *jsontext.Value, want jsontext.Value, where string) {
		if given && !bytes.Equal((&came{Context: *have}).sum(), (&came{Context: want}).sum()) {
			s.otherSearch(where)
		}
		*have = want
	}
	same(s.context.given, &s.context.raw, t.Context, "context")
	same(s.subject.given, &s.subject.properties, t.Subject, "subject")
	same(s.action.given, &s.action.properties, t.Action, "action")
	same(s.resource.given, &s.resource.properties, t.Resource, "resource")
}
