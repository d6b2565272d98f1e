package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"

	"github.com/go-json-experiment/json"

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
}

// sumBytes is how much of the sum a token carries.
const sumBytes = 8

// token names next; empty: there is no more.
func (s *searchRequest) token(next *authz.Place) string {
	if next == nil {
		return ""
	}
	body, err := json.Marshal(pageToken{
		Sought: s.sought, SubjectType: s.subject.kind, Subject: s.subject.id, Action: s.action.id,
		ResourceType: s.resource.kind, Resource: s.resource.id,
		Limit: s.limit, Revision: next.Revision, After: next.After,
	})
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
	same := func(have *entity, kind, id, where string) {
		if have.given && (have.kind != kind || have.id != id) && s.fault == nil {
			s.fault = &policies.MalformedError{Where: "/page/token", Reason: "is of a search with another " + where}
		}
		*have = entity{given: true, kind: kind, id: id}
	}
	if t.Sought != s.sought {
		s.fault = &policies.MalformedError{Where: "/page/token", Reason: "is of a search for something else"}
		return
	}
	same(&s.subject, t.SubjectType, t.Subject, "subject")
	if s.sought != authz.SoughtActions {
		same(&s.action, "", t.Action, "action")
	}
	same(&s.resource, t.ResourceType, t.Resource, "resource")
	if s.given && s.limit != t.Limit && s.fault == nil {
		s.fault = &policies.MalformedError{Where: "/page/token", Reason: "is of a search with another limit"}
	}
	s.limit, s.from = t.Limit, &authz.Place{Revision: t.Revision, After: t.After}
}
