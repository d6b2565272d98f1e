package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// SearchPath is where an admin server searches the whole platform for a sidecar that
// has only parts of it.
const SearchPath = "/v1/feed/search"

// MaxSearchAnswer bounds the answer to a search that a client reads.
const MaxSearchAnswer = 16 << 20

// SearchRequest is an [authz.Search] on its way; the least revision travels as a
// header.
type SearchRequest struct {
	Sought authz.Sought   `json:"sought"`
	Asked  SearchQuestion `json:"asked"`
	Limit  int            `json:"limit"`
	From   *SearchPlace   `json:"from,omitempty"`
}

// SearchQuestion is an [authz.Question] on its way.
type SearchQuestion struct {
	SubjectType  string `json:"subject_type"`
	Subject      string `json:"subject"`
	Action       string `json:"action"`
	ResourceType string `json:"resource_type"`
	Resource     string `json:"resource"`
	// What guardrails read beside it.
	Context            jsontext.Value `json:"context,omitzero"`
	SubjectProperties  jsontext.Value `json:"subject_properties,omitzero"`
	ActionProperties   jsontext.Value `json:"action_properties,omitzero"`
	ResourceProperties jsontext.Value `json:"resource_properties,omitzero"`
}

// SearchPlace is an [authz.Place] on its way.
type SearchPlace struct {
	Revision policies.Revision `json:"revision"`
	After    string            `json:"after"`
}

// SearchResponse is an [authz.Found] on its way.
type SearchResponse struct {
	Platform string            `json:"platform"`
	Revision policies.Revision `json:"revision"`
	IDs      []string          `json:"ids"`
	Next     *SearchPlace      `json:"next,omitempty"`
	Guarded  bool              `json:"guarded,omitzero"`
	// Signatures are of all bytes of the answer before them, see [AnswerText].
	Signatures signing.Signatures `json:"signatures,omitempty"`
}

// NewSearchRequest puts s on its way.
func NewSearchRequest(s authz.Search) SearchRequest {
	r := SearchRequest{
		Sought: s.Sought, Limit: s.Limit,
		Asked: SearchQuestion{
			SubjectType: s.Question.SubjectType, Subject: s.Question.Subject, Action: s.Question.Action,
			ResourceType: s.Question.ResourceType, Resource: s.Question.ResourceID,
		},
	}
	if came := s.Question.Request; came != nil {
		r.Asked.Context, r.Asked.SubjectProperties = came.Context, came.SubjectProperties
		r.Asked.ActionProperties, r.Asked.ResourceProperties = came.ActionProperties, came.ResourceProperties
	}
	if s.From != nil {
		r.From = &SearchPlace{s.From.Revision, s.From.After}
	}
	return r
}

// Search is what r carries. The error says what is out of range.
func (r SearchRequest) Search() (authz.Search, error) {
	s := authz.Search{
		Sought: r.Sought, Limit: r.Limit,
		Question: authz.Question{
			SubjectType: r.Asked.SubjectType, Subject: r.Asked.Subject, Action: r.Asked.Action,
			ResourceType: r.Asked.ResourceType, ResourceID: r.Asked.Resource,
			Request: &authz.Request{
				Context: r.Asked.Context, SubjectProperties: r.Asked.SubjectProperties,
				ActionProperties: r.Asked.ActionProperties, ResourceProperties: r.Asked.ResourceProperties,
			},
		},
	}
	if r.From != nil {
		s.From = &authz.Place{Revision: r.From.Revision, After: r.From.After}
	}
	switch {
	case r.Sought > authz.SoughtActions:
		return s, errors.New("what is sought is none of subjects, resources and actions")
	case r.Limit < 0 || r.Limit > policies.MaxSearchResults:
		return s, errors.New("the limit is out of range")
	case r.From != nil && r.From.Revision > policies.MaxRevision:
		return s, errors.New("the revision of the page is out of range")
	}
	return s, nil
}

// Validate tells whether r is within its limits.
func (r SearchRequest) Validate() error {
	_, err := r.Search()
	return err
}

// Search asks the server for s, at revision least or a later one. It honours ctx, and
// does not try again. The error is an [*authz.PlaceError], a [*StatusError] (503
// while the server has not reached least), a [*RefusedError] (of another platform),
// an [*AnswerError], or the network's.
func (c *Client) Search(ctx context.Context, least policies.Revision, s authz.Search) (authz.Found, error) {
	var answer SearchResponse
	data, err := c.ask(ctx, question{
		path: SearchPath, body: NewSearchRequest(s), least: least, purpose: signing.Search, what: "an answer to a search", limit: MaxSearchAnswer,
		silence: headerTimeout,
	})
	var status *StatusError
	if errors.As(err, &status) && status.Status == http.StatusGone && s.From != nil {
		return authz.Found{}, &authz.PlaceError{Revision: s.From.Revision, Reason: status.Problem.Detail}
	}
	if err == nil {
		err = decodeAnswer(data, &answer)
	}
	if err == nil {
		err = c.checkSearch(least, s, answer)
	}
	if err != nil {
		return authz.Found{}, c.notAnswered(ctx, SearchPath, err)
	}
	found := authz.Found{Revision: answer.Revision, IDs: answer.IDs, Guarded: answer.Guarded}
	if answer.Next != nil {
		found.Next = &authz.Place{Revision: answer.Revision, After: answer.Next.After}
	}
	return found, nil
}

// checkSearch tells whether answer answers s.
func (c *Client) checkSearch(least policies.Revision, s authz.Search, answer SearchResponse) error {
	if platform := c.Status().Platform; platform != "" && answer.Platform != platform {
		return refuse(RefusedPlatform, fmt.Errorf("an answer of platform %q, not of %q", answer.Platform, platform))
	}
	if answer.Platform == "" || answer.Revision < least || !goodRevision(answer.Revision) ||
		s.From != nil && answer.Revision != s.From.Revision || len(answer.IDs) > s.Limit {
		return &AnswerError{fmt.Errorf(
			"%d results of platform %q at revision %d do not answer the search", len(answer.IDs), answer.Platform, answer.Revision)}
	}
	return nil
}
