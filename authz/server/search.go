package server

import (
	"net/http"
	"strconv"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// searchOf makes the endpoint POST /access/v1/search/…, which looks for sought.
func (a *API) searchOf(sought authz.Sought) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return a.withDecoder(func(d *decoder) error {
			if err := d.load(w, r); err != nil {
				return err
			}
			asked, err := d.decodeSearch(sought)
			if err != nil {
				return err
			}
			least, err := DemandedBy(r.Header)
			if err != nil {
				return err
			}
			found, err := a.searcher.Search(r.Context(), max(least, asked.context.min), asked.search(r))
			if err != nil {
				return err
			}
			a.metrics.found.Observe(float64(len(found.IDs)))
			d.answer = asked.appendFound(d.answer, &found)
			return d.write(w)
		})
	}
}

// search is what is asked of the searcher.
func (s *searchRequest) search(r *http.Request) authz.Search {
	q := s.question(r)
	q.Explain = false
	return authz.Search{Sought: s.sought, Question: q, Limit: s.limit, From: s.from}
}

// appendFound appends a Search API Response. There is a page where one was asked
// for, and where there is more.
func (s *searchRequest) appendFound(dst []byte, found *authz.Found) []byte {
	dst = append(dst, '{')
	if s.paged || found.Next != nil {
		dst = append(dst, `"page":{"next_token":`...)
		dst = appendText(dst, s.token(found))
		dst = append(dst, `,"count":`...)
		dst = strconv.AppendInt(dst, int64(len(found.IDs)), 10)
		dst = append(dst, `},`...)
	}
	dst = append(dst, `"context":{"revision":`...)
	dst = strconv.AppendUint(dst, uint64(found.Revision), 10)
	dst = append(dst, `},"results":[`...)
	for i, id := range found.IDs {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch s.sought {
		case authz.SoughtSubjects:
			dst = append(dst, `{"type":"account","id":`...)
		case authz.SoughtResources:
			dst = append(dst, `{"type":`...)
			dst = appendText(dst, s.resource.kind)
			dst = append(dst, `,"id":`...)
		case authz.SoughtActions:
			dst = append(dst, `{"name":`...)
		}
		dst = append(appendText(dst, id), '}')
	}
	return append(dst, "]}"...)
}

// searchRequest is the body of a search.
type searchRequest struct {
	evaluation

	sought authz.Sought
	paged  bool // there is a page object
	given  bool // it has a limit
	limit  int
	from   *authz.Place
}

// open is the name of the part that is looked for.
func open(sought authz.Sought) string {
	switch sought {
	case authz.SoughtSubjects:
		return "subject"
	case authz.SoughtResources:
		return "resource"
	default:
		return "action"
	}
}

// decodeSearch reads the body as a search. The error is a
// [policies.MalformedError].
func (d *decoder) decodeSearch(sought authz.Sought) (*searchRequest, error) {
	d.begin()
	s := &searchRequest{sought: sought, limit: policies.MaxSearchResults}
	var token string
	err := d.whole(d.members(&s.fault, "the body must be a JSON object", func(name []byte) error {
		switch {
		case string(name) == "page":
			return d.page(s, &token)
		case sought == authz.SoughtActions && string(name) == "action":
			return d.json.SkipValue()
		case string(name) == open(sought):
			return d.openEntity(s, name)
		}
		return d.part(&s.evaluation, name)
	}))
	if err != nil {
		return nil, err
	}
	if s.fault == nil && token != "" {
		s.continueAt(token)
	}
	if sought == authz.SoughtActions {
		s.action.given = true
	}
	s.check("")
	if s.fault != nil {
		return nil, s.fault
	}
	return s, nil
}

// openEntity reads the subject or the resource that is looked for, of which only
// the type counts.
func (d *decoder) openEntity(s *searchRequest, name []byte) error {
	into := &s.subject
	if string(name) == "resource" {
		into = &s.resource
	}
	into.given = true
	typed := false
	err := d.members(&s.fault, "must be an object", func(name []byte) error {
		switch {
		case string(name) == "type":
			typed = true
			return d.text(&s.fault, &into.kind)
		case string(name) == "properties" && d.json.PeekKind() != '{':
			return d.wrong(&s.fault, "must be an object")
		}
		return d.json.SkipValue()
	})
	if err == nil && s.fault == nil && !typed {
		s.fault = &policies.MalformedError{Where: string(d.json.StackPointer()) + "/type", Reason: "is required"}
	}
	return err
}

// page reads which part of the results is wanted.
func (d *decoder) page(s *searchRequest, token *string) error {
	s.paged = true
	return d.members(&s.fault, "must be an object", func(name []byte) error {
		switch string(name) {
		case "token":
			return d.text(&s.fault, token)
		case "limit":
			if d.json.PeekKind() != '0' {
				return d.wrong(&s.fault, limitReason)
			}
			raw, err := d.json.ReadValue()
			if err != nil {
				return err
			}
			limit, ok := wholeNumber(raw)
			if !ok {
				d.note(&s.fault, limitReason)
				return nil
			}
			s.given, s.limit = true, int(min(limit, policies.MaxSearchResults))
			return nil
		case "properties":
			if d.json.PeekKind() != '{' {
				return d.wrong(&s.fault, "must be an object")
			}
		}
		return d.json.SkipValue()
	})
}

const limitReason = "must be a whole number, 0 or more"
